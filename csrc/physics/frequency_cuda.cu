// frequency_penalties and its backward on CUDA: one launch each, with a thread block per sample.
//
// A block sums the energy of chunks of bins, a warp per chunk, and keeps the running sum in shared memory. A band then
// takes two lookups and the remaining bins of two chunks; a warp processes a class. All sums are float64, in a fixed
// order.

#include "frequency.h"

#include "../common/cuda.h"

#include <algorithm>

namespace dovetail::physics {
namespace {

constexpr int block_size = 256;
constexpr int warps = block_size / warp_size;
constexpr std::int64_t max_chunks = 1024;

struct Shape {
  std::int64_t chunk_bins;
  int chunks;
};

// Shared memory: the running sum, the intervals of all classes at the indices of their bands, and the weight of each.
struct Memory {
  double* below;
  Interval* intervals;
  double* weights;
};

template <class Real>
struct alignas(2 * sizeof(Real)) Pair {
  Real real;
  Real imaginary;
};

template <class Real>
__device__ inline double square(Pair<Real> pair) {
  const auto real = static_cast<double>(pair.real);
  const auto imaginary = static_cast<double>(pair.imaginary);
  return real * real + imaginary * imaginary;
}

// Return the energy of the bins from `first` up to `end` in every lane of a warp.
template <class Real>
__device__ inline double energy_of(const Plan& plan, const Pair<Real>* spectrum, std::int64_t first, std::int64_t end) {
  const auto lane = static_cast<std::int64_t>(threadIdx.x % warp_size);
  double sum = 0.0;
  for (std::int64_t channel = 0; channel < plan.channels; ++channel) {
    for (std::int64_t bin = first + lane; bin < end; bin += warp_size) {
      sum += square(spectrum[channel * plan.bins + bin]);
    }
  }
  return warp_sum(sum);
}

// Return the energy below a position in every lane of a warp.
template <class Real>
__device__ inline double energy_below(const Plan& plan, const Shape& shape, const Memory& memory,
                                      const Pair<Real>* spectrum, double position) {
  const auto bin = static_cast<std::int64_t>(position);
  const std::int64_t chunk = bin / shape.chunk_bins;
  const std::int64_t first = chunk == 0 ? 1 : chunk * shape.chunk_bins;
  double energy = memory.below[chunk] + energy_of(plan, spectrum, first, bin < plan.bins ? bin : plan.bins);
  if (bin < plan.bins) {
    energy += energy_of(plan, spectrum, bin, bin + 1) * (position - static_cast<double>(bin));
  }
  return energy;
}

// Write the energy below each chunk to shared memory.
template <class Real>
__device__ void run_sum(const Plan& plan, const Shape& shape, const Memory& memory, const Pair<Real>* spectrum) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  for (int chunk = warp; chunk < shape.chunks; chunk += warps) {
    const std::int64_t begin = chunk * shape.chunk_bins;
    const std::int64_t end = begin + shape.chunk_bins < plan.bins ? begin + shape.chunk_bins : plan.bins;
    const double energy = energy_of(plan, spectrum, chunk == 0 ? 1 : begin, end);
    if (lane == 0) {
      memory.below[chunk + 1] = energy;
    }
  }
  __syncthreads();
  if (warp == 0) {
    double carried = 0.0;
    for (int base = 0; base < shape.chunks; base += warp_size) {
      const int chunk = base + lane;
      double energy = chunk < shape.chunks ? memory.below[chunk + 1] : 0.0;
      for (int offset = 1; offset < warp_size; offset *= 2) {
        const double before = __shfl_up_sync(0xffffffffU, energy, offset);
        energy += lane >= offset ? before : 0.0;
      }
      energy += carried;
      if (chunk < shape.chunks) {
        memory.below[chunk + 1] = energy;
      }
      carried = __shfl_sync(0xffffffffU, energy, warp_size - 1);
    }
    if (lane == 0) {
      memory.below[0] = 0.0;
    }
  }
  __syncthreads();
}

__device__ inline bool without_bands(const Plan& plan, std::int64_t which) {
  return end_of(plan, which) == end_of(plan, which + 1);
}

// The smallest penalty of classes with bands.
struct Smallest {
  double penalty;
  std::int64_t which;    // -1 for none
};

__device__ inline bool is_smaller(const Smallest& left, const Smallest& right) {
  return left.which >= 0 && (right.which < 0 || left.penalty < right.penalty ||
                             (left.penalty == right.penalty && left.which < right.which));
}

// Compute the derivative of the loss with respect to the energy of the bins: a weight for each interval, and one for
// the whole spectrum, which is returned. A single thread does it: there are few classes.
template <class Real>
__device__ double weigh_intervals(const Plan& plan, const Memory& memory, const ClassPenalty* classes,
                                  const Real* grads, std::int64_t smallest, double total) {
  double by_least = 0.0;
  for (std::int64_t which = 0; which < plan.classes; ++which) {
    by_least -= without_bands(plan, which) ? static_cast<double>(grads[which]) : 0.0;
  }
  double by_total = 0.0;
  for (std::int64_t which = 0; which < plan.classes; ++which) {
    if (without_bands(plan, which)) {
      continue;
    }
    const double grad = static_cast<double>(grads[which]) + (which == smallest ? by_least : 0.0);
    const double by_fraction = total == 0.0 ? 0.0 : grad * classes[which].slope / total;
    by_total += by_fraction * classes[which].fraction;
    for (std::int64_t band = end_of(plan, which); band < end_of(plan, which + 1); ++band) {
      memory.weights[band] = by_fraction;
    }
  }
  return by_total;
}

// `all_classes` is scratch memory [samples, classes]. `grads` and `out` are null in the forward, `penalties` is null in
// the backward.
template <class Real>
__global__ void __launch_bounds__(block_size)
    compute(const __grid_constant__ Plan plan, const __grid_constant__ Shape shape, const Pair<Real>* all,
          ClassPenalty* all_classes, Real* penalties, const Real* grads, Pair<Real>* out) {
  extern __shared__ double shared[];
  __shared__ Smallest warp_smallest[warps];
  __shared__ double by_total;
  const Memory memory{shared, reinterpret_cast<Interval*>(shared + shape.chunks + 1),
                      shared + shape.chunks + 1 + 2 * plan.band_count};
  const auto sample = static_cast<std::int64_t>(blockIdx.x);
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  const Pair<Real>* spectrum = all + sample * plan.channels * plan.bins;
  ClassPenalty* classes = all_classes + sample * plan.classes;
  for (std::int64_t band = static_cast<std::int64_t>(threadIdx.x); band < plan.band_count; band += block_size) {
    memory.intervals[band] = Interval{1.0, 1.0};
  }
  run_sum(plan, shape, memory, spectrum);
  const double total = energy_below(plan, shape, memory, spectrum, plan.top);
  const double rpm = rpm_of(plan, sample);
  const bool known = defined(total, rpm);

  Smallest smallest{0.5, -1};
  for (std::int64_t which = warp; known && which < plan.classes; which += warps) {
    if (without_bands(plan, which)) {
      continue;
    }
    Interval* intervals = memory.intervals + end_of(plan, which);
    int count = 0;
    if (lane == 0) {
      count = intervals_of(plan, rpm, which, intervals);
      for (std::int64_t band = count; band < end_of(plan, which + 1) - end_of(plan, which); ++band) {
        intervals[band] = Interval{1.0, 1.0};
      }
    }
    count = __shfl_sync(0xffffffffU, count, 0);
    __syncwarp();
    double inside = 0.0;
    double width = 0.0;
    for (int index = 0; index < count; ++index) {
      const Interval interval = intervals[index];
      inside += energy_below(plan, shape, memory, spectrum, interval.high) -
                energy_below(plan, shape, memory, spectrum, interval.low);
      width += interval.high - interval.low;
    }
    const ClassPenalty found = penalty_of(plan, which, inside, width, total);
    const Smallest candidate{found.penalty, which};
    smallest = is_smaller(candidate, smallest) ? candidate : smallest;
    if (lane == 0) {
      classes[which] = found;
      if (penalties != nullptr) {
        penalties[sample * plan.classes + which] = static_cast<Real>(found.penalty);
      }
    }
  }
  if (lane == 0) {
    warp_smallest[warp] = smallest;
  }
  __syncthreads();
  smallest = warp_smallest[0];
  for (int other = 1; other < warps; ++other) {
    smallest = is_smaller(warp_smallest[other], smallest) ? warp_smallest[other] : smallest;
  }

  if (penalties != nullptr) {
    const double least = smallest.which < 0 ? 0.5 : smallest.penalty;
    for (std::int64_t which = static_cast<std::int64_t>(threadIdx.x); which < plan.classes; which += block_size) {
      if (!known) {
        penalties[sample * plan.classes + which] = static_cast<Real>(NAN);
      } else if (without_bands(plan, which)) {
        penalties[sample * plan.classes + which] = static_cast<Real>(1.0 - least);
      }
    }
    return;
  }
  if (threadIdx.x == 0) {
    const Real* own = grads + sample * plan.classes;
    by_total = known ? weigh_intervals(plan, memory, classes, own, smallest.which, total) : 0.0;
  }
  __syncthreads();
  for (std::int64_t bin = static_cast<std::int64_t>(threadIdx.x); bin < plan.bins; bin += block_size) {
    const auto begin = static_cast<double>(bin);
    double factor = 0.0;
    for (std::int64_t band = 0; band < plan.band_count; ++band) {
      const Interval interval = memory.intervals[band];
      const double overlap = fmin(interval.high, begin + 1.0) - fmax(interval.low, begin);
      factor += overlap > 0.0 ? memory.weights[band] * overlap : 0.0;
    }
    factor = bin == 0 ? 0.0 : factor - by_total * fmin(1.0, plan.top - begin);
    factor = known ? 2.0 * factor : static_cast<double>(NAN);
    for (std::int64_t channel = 0; channel < plan.channels; ++channel) {
      const std::int64_t position = channel * plan.bins + bin;
      const Pair<Real> pair = spectrum[position];
      out[sample * plan.channels * plan.bins + position] =
          Pair<Real>{static_cast<Real>(factor * static_cast<double>(pair.real)),
                     static_cast<Real>(factor * static_cast<double>(pair.imaginary))};
    }
  }
}

template <class Real>
void launch(const Plan& plan, const Tensor& spectrum, Tensor* penalties, const Tensor* grads, Tensor* out) {
  if (plan.samples == 0) {
    return;
  }
  STD_TORCH_CHECK(plan.samples <= 0x7fffffff, "dovetail::frequency_penalties: too many samples for one launch");
  const torch::stable::accelerator::DeviceGuard guard(spectrum.get_device_index());
  const std::int64_t chunk_bins = std::max<std::int64_t>(warp_size, (plan.bins + max_chunks - 1) / max_chunks);
  const Shape shape{chunk_bins, static_cast<int>((plan.bins + chunk_bins - 1) / chunk_bins)};
  constexpr auto words = static_cast<std::int64_t>(sizeof(ClassPenalty) / sizeof(double));
  const Tensor scratch = allocate(spectrum, {plan.samples * plan.classes * words}, ScalarType::Double);
  const std::size_t bytes =
      sizeof(double) * static_cast<std::size_t>(shape.chunks + 1 + (grads == nullptr ? 2 : 3) * plan.band_count);
  compute<Real><<<static_cast<unsigned>(plan.samples), block_size, bytes, current_stream(spectrum)>>>(
      plan, shape, static_cast<const Pair<Real>*>(spectrum.const_data_ptr()),
      static_cast<ClassPenalty*>(scratch.mutable_data_ptr()),
      penalties == nullptr ? nullptr : static_cast<Real*>(penalties->mutable_data_ptr()),
      grads == nullptr ? nullptr : static_cast<const Real*>(grads->const_data_ptr()),
      out == nullptr ? nullptr : static_cast<Pair<Real>*>(out->mutable_data_ptr()));
  check_launch("frequency_penalties");
}

struct Cuda {
  // Return the spectrum contiguous and aligned for loads of whole bins.
  static Tensor dense(const Tensor& spectrum) {
    Tensor dense = as_contiguous(spectrum);
    const auto bytes = static_cast<std::uintptr_t>(2 * dense.element_size());
    const bool aligned = reinterpret_cast<std::uintptr_t>(dense.const_data_ptr()) % bytes == 0;
    return aligned ? dense : torch::stable::clone(dense);
  }

  template <class Real>
  static void forward(const Plan& plan, const Tensor& spectrum, Tensor& penalties) {
    launch<Real>(plan, spectrum, &penalties, nullptr, nullptr);
  }

  template <class Real>
  static void backward(const Plan& plan, const Tensor& grads, const Tensor& spectrum, Tensor& out) {
    launch<Real>(plan, spectrum, nullptr, &grads, &out);
  }
};

}  // namespace
}  // namespace dovetail::physics

STABLE_TORCH_LIBRARY_IMPL(dovetail, CUDA, library) {
  library.impl("frequency_penalties", TORCH_BOX(&dovetail::physics::frequency_penalties<dovetail::physics::Cuda>));
  library.impl("frequency_penalties_backward",
               TORCH_BOX(&dovetail::physics::frequency_penalties_backward<dovetail::physics::Cuda>));
}
