// frequency_penalties and its backward on CUDA: one launch each, one block of threads to a sample.
//
// The block adds up the energy of chunks of bins, a warp to a chunk, and keeps the running sum in shared memory. A band
// then costs two looks at it and the rest of two chunks; a warp takes a class. All sums are float64, in a fixed order.

#include "bands.h"

#include "../common/cuda.h"

#include <algorithm>

namespace dovetail::physics {
namespace {

constexpr int block_size = 256;
constexpr int warps = block_size / warp_size;
constexpr std::int64_t most_chunks = 1024;

struct Shape {
  std::int64_t chunk_bins;
  int chunks;
};

// Shared memory: the running sum, the stretches of all classes (at the places of their bands), and what each weighs.
struct Memory {
  double* below;
  Stretch* stretches;
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

// The energy of the bins from `first` up to `end`, by a warp; in every lane.
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

// The energy below a place, by a warp; in every lane.
template <class Real>
__device__ inline double energy_below(const Plan& plan, const Shape& shape, const Memory& memory,
                                      const Pair<Real>* spectrum, double place) {
  const auto bin = static_cast<std::int64_t>(place);
  const std::int64_t chunk = bin / shape.chunk_bins;
  const std::int64_t first = chunk == 0 ? 1 : chunk * shape.chunk_bins;
  double energy = memory.below[chunk] + energy_of(plan, spectrum, first, bin < plan.bins ? bin : plan.bins);
  if (bin < plan.bins) {
    energy += energy_of(plan, spectrum, bin, bin + 1) * (place - static_cast<double>(bin));
  }
  return energy;
}

// The energy below every chunk, in shared memory.
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

struct Leader {
  double penalty;
  std::int64_t which;    // -1 for none
};

__device__ inline bool leads(const Leader& left, const Leader& right) {
  return left.which >= 0 && (right.which < 0 || left.penalty < right.penalty ||
                             (left.penalty == right.penalty && left.which < right.which));
}

// What the loss grows by with the energy of the bins, from the gradient by the penalties: a weight for every stretch,
// and one for the whole spectrum, which is returned. By one thread: there are few classes.
template <class Real>
__device__ double weigh_stretches(const Plan& plan, const Memory& memory, const Evidence* evidence, const Real* grads,
                                  std::int64_t leader, double total) {
  double by_least = 0.0;
  for (std::int64_t which = 0; which < plan.classes; ++which) {
    by_least -= without_bands(plan, which) ? static_cast<double>(grads[which]) : 0.0;
  }
  double by_total = 0.0;
  for (std::int64_t which = 0; which < plan.classes; ++which) {
    if (without_bands(plan, which)) {
      continue;
    }
    const double grad = static_cast<double>(grads[which]) + (which == leader ? by_least : 0.0);
    const double by_share = total == 0.0 ? 0.0 : grad * evidence[which].slope / total;
    by_total += by_share * evidence[which].share;
    for (std::int64_t band = end_of(plan, which); band < end_of(plan, which + 1); ++band) {
      memory.weights[band] = by_share;
    }
  }
  return by_total;
}

// `evidence` is [samples, classes] of scratch memory; `grads` and `out` are null in the forward, `penalties` is null in
// the backward.
template <class Real>
__global__ void __launch_bounds__(block_size)
    judge(const __grid_constant__ Plan plan, const __grid_constant__ Shape shape, const Pair<Real>* all,
          Evidence* all_evidence, Real* penalties, const Real* grads, Pair<Real>* out) {
  extern __shared__ double shared[];
  __shared__ Leader leaders[warps];
  __shared__ double by_total;
  const Memory memory{shared, reinterpret_cast<Stretch*>(shared + shape.chunks + 1),
                      shared + shape.chunks + 1 + 2 * plan.band_count};
  const auto sample = static_cast<std::int64_t>(blockIdx.x);
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  const Pair<Real>* spectrum = all + sample * plan.channels * plan.bins;
  Evidence* evidence = all_evidence + sample * plan.classes;
  for (std::int64_t band = static_cast<std::int64_t>(threadIdx.x); band < plan.band_count; band += block_size) {
    memory.stretches[band] = Stretch{1.0, 1.0};
  }
  run_sum(plan, shape, memory, spectrum);
  const double total = energy_below(plan, shape, memory, spectrum, plan.top);
  const double rpm = rpm_of(plan, sample);
  const bool known = defined(total, rpm);

  Leader leader{0.5, -1};
  for (std::int64_t which = warp; known && which < plan.classes; which += warps) {
    if (without_bands(plan, which)) {
      continue;
    }
    Stretch* stretches = memory.stretches + end_of(plan, which);
    int count = 0;
    if (lane == 0) {
      count = stretches_of(plan, rpm, which, stretches);
      for (std::int64_t band = count; band < end_of(plan, which + 1) - end_of(plan, which); ++band) {
        stretches[band] = Stretch{1.0, 1.0};
      }
    }
    count = __shfl_sync(0xffffffffU, count, 0);
    __syncwarp();
    double inside = 0.0;
    double width = 0.0;
    for (int index = 0; index < count; ++index) {
      const Stretch stretch = stretches[index];
      inside += energy_below(plan, shape, memory, spectrum, stretch.high) -
                energy_below(plan, shape, memory, spectrum, stretch.low);
      width += stretch.high - stretch.low;
    }
    const Evidence found = weigh(plan, which, inside, width, total);
    const Leader candidate{found.penalty, which};
    leader = leads(candidate, leader) ? candidate : leader;
    if (lane == 0) {
      evidence[which] = found;
      if (penalties != nullptr) {
        penalties[sample * plan.classes + which] = static_cast<Real>(found.penalty);
      }
    }
  }
  if (lane == 0) {
    leaders[warp] = leader;
  }
  __syncthreads();
  leader = leaders[0];
  for (int other = 1; other < warps; ++other) {
    leader = leads(leaders[other], leader) ? leaders[other] : leader;
  }

  if (penalties != nullptr) {
    const double least = leader.which < 0 ? 0.5 : leader.penalty;
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
    by_total = known ? weigh_stretches(plan, memory, evidence, grads + sample * plan.classes, leader.which, total) : 0.0;
  }
  __syncthreads();
  for (std::int64_t bin = static_cast<std::int64_t>(threadIdx.x); bin < plan.bins; bin += block_size) {
    const auto begin = static_cast<double>(bin);
    double factor = 0.0;
    for (std::int64_t band = 0; band < plan.band_count; ++band) {
      const Stretch stretch = memory.stretches[band];
      const double overlap = fmin(stretch.high, begin + 1.0) - fmax(stretch.low, begin);
      factor += overlap > 0.0 ? memory.weights[band] * overlap : 0.0;
    }
    factor = bin == 0 ? 0.0 : factor - by_total * fmin(1.0, plan.top - begin);
    factor = known ? 2.0 * factor : static_cast<double>(NAN);
    for (std::int64_t channel = 0; channel < plan.channels; ++channel) {
      const std::int64_t place = channel * plan.bins + bin;
      const Pair<Real> pair = spectrum[place];
      out[sample * plan.channels * plan.bins + place] =
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
  const std::int64_t chunk_bins = std::max<std::int64_t>(warp_size, (plan.bins + most_chunks - 1) / most_chunks);
  const Shape shape{chunk_bins, static_cast<int>((plan.bins + chunk_bins - 1) / chunk_bins)};
  constexpr auto evidence_size = static_cast<std::int64_t>(sizeof(Evidence) / sizeof(double));
  const Tensor scratch = empty_beside(spectrum, {plan.samples * plan.classes * evidence_size}, ScalarType::Double);
  const std::size_t bytes =
      sizeof(double) * static_cast<std::size_t>(shape.chunks + 1 + (grads == nullptr ? 2 : 3) * plan.band_count);
  judge<Real><<<static_cast<unsigned>(plan.samples), block_size, bytes, current_stream(spectrum)>>>(
      plan, shape, static_cast<const Pair<Real>*>(spectrum.const_data_ptr()),
      static_cast<Evidence*>(scratch.mutable_data_ptr()),
      penalties == nullptr ? nullptr : static_cast<Real*>(penalties->mutable_data_ptr()),
      grads == nullptr ? nullptr : static_cast<const Real*>(grads->const_data_ptr()),
      out == nullptr ? nullptr : static_cast<Pair<Real>*>(out->mutable_data_ptr()));
  check_launch("frequency_penalties");
}

// Contiguous, and at an address at which a whole bin can be loaded at once.
Tensor aligned(const Tensor& spectrum) {
  Tensor dense = as_contiguous(spectrum);
  const auto bytes = static_cast<std::uintptr_t>(2 * dense.element_size());
  const bool fits = reinterpret_cast<std::uintptr_t>(dense.const_data_ptr()) % bytes == 0;
  return fits ? dense : torch::stable::clone(dense);
}

Tensor frequency_penalties(Tensor spectrum, Tensor bands, Tensor ends, std::optional<Tensor> rpm,
                           std::optional<Tensor> healthy, double bin_width, std::int64_t length) {
  std::vector<Tensor> keep;
  const Plan plan = make_plan(spectrum, bands, ends, rpm, healthy, bin_width, length, keep);
  const Tensor dense = aligned(spectrum);
  Tensor penalties = empty_beside(dense, {plan.samples, plan.classes}, dense.scalar_type());
  if (dense.scalar_type() == ScalarType::Float) {
    launch<float>(plan, dense, &penalties, nullptr, nullptr);
  } else {
    launch<double>(plan, dense, &penalties, nullptr, nullptr);
  }
  return penalties;
}

Tensor frequency_penalties_backward(Tensor grad, Tensor spectrum, Tensor bands, Tensor ends, std::optional<Tensor> rpm,
                                    std::optional<Tensor> healthy, double bin_width, std::int64_t length) {
  std::vector<Tensor> keep;
  const Plan plan = make_plan(spectrum, bands, ends, rpm, healthy, bin_width, length, keep);
  check_grad(plan, grad, spectrum);
  const Tensor dense = aligned(spectrum);
  const Tensor grads = as_contiguous(grad);
  Tensor out = empty_beside(dense, {plan.samples, plan.channels, plan.bins, 2}, dense.scalar_type());
  if (dense.scalar_type() == ScalarType::Float) {
    launch<float>(plan, dense, nullptr, &grads, &out);
  } else {
    launch<double>(plan, dense, nullptr, &grads, &out);
  }
  return out;
}

}  // namespace
}  // namespace dovetail::physics

STABLE_TORCH_LIBRARY_IMPL(dovetail, CUDA, library) {
  library.impl("frequency_penalties", TORCH_BOX(&dovetail::physics::frequency_penalties));
  library.impl("frequency_penalties_backward", TORCH_BOX(&dovetail::physics::frequency_penalties_backward));
}
