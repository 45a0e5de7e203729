// frequency_penalties and its backward on the CPU: schemas, kernels, registration.
//
// A thread processes whole samples, so the result does not depend on the number of threads. A band of any width takes
// two evaluations of the running sums of the energy; intervals are recomputed only if the speed changes.

#include "frequency.h"

#include "energy_cpu.h"

#include "../common/clones.h"

#include <algorithm>
#include <array>
#include <limits>
#include <vector>

namespace dovetail::physics {
namespace {

// The number of bins that justify another thread.
constexpr std::int64_t grain_bins = 1 << 13;

template <class Real>
[[gnu::always_inline]] inline void product(const Real* spectrum, const double* factors, std::int64_t bins, Real* out) {
#pragma omp simd
  for (std::int64_t bin = 0; bin < bins; ++bin) {
    out[2 * bin] = static_cast<Real>(2.0 * factors[bin] * static_cast<double>(spectrum[2 * bin]));
    out[2 * bin + 1] = static_cast<Real>(2.0 * factors[bin] * static_cast<double>(spectrum[2 * bin + 1]));
  }
}

DOVETAIL_CLONES void times_factors(const float* spectrum, const double* factors, std::int64_t bins, float* out) {
  product(spectrum, factors, bins, out);
}
DOVETAIL_CLONES void times_factors(const double* spectrum, const double* factors, std::int64_t bins, double* out) {
  product(spectrum, factors, bins, out);
}

// The penalties of one sample; `smallest` is the class with bands and the smallest penalty, or -1.
struct SamplePenalties {
  std::vector<ClassPenalty> classes;
  std::int64_t smallest = -1;
  double total = 0.0;
  bool defined = false;
};

// Computes the penalties of one sample after another in the same memory.
template <class Real>
class Evaluator {
 public:
  explicit Evaluator(const Plan& plan)
      : plan_(plan), ends_(static_cast<std::size_t>(plan.classes) + 1), below_(below_size(plan.bins)) {
    result_.classes.resize(static_cast<std::size_t>(plan.classes));
  }

  const SamplePenalties& operator()(std::int64_t sample, const Real* spectrum) {
    find_intervals(rpm_of(plan_, sample));
    running_sums(spectrum, plan_.channels, plan_.bins, below_.data());
    energies_at(spectrum, plan_.channels, plan_.bins, below_.data(), positions_.data(),
                static_cast<std::int64_t>(positions_.size()), energies_.data());
    result_.total = energies_.back();
    result_.defined = defined(result_.total, rpm_);
    result_.smallest = -1;
    if (result_.defined) {
      compute_penalties();
    }
    return result_;
  }

  // Return the starts and ends of a class's intervals, alternating, for the last sample.
  const double* begin_of(std::int64_t which) const {
    return positions_.data() + ends_[static_cast<std::size_t>(which)];
  }
  const double* end_of_class(std::int64_t which) const { return begin_of(which + 1); }

 private:
  void find_intervals(double rpm) {
    if (!positions_.empty() && rpm == rpm_) {
      return;
    }
    rpm_ = rpm;
    positions_.clear();
    std::array<Interval, max_bands> intervals;
    for (std::int64_t which = 0; which < plan_.classes; ++which) {
      const bool known = rpm < std::numeric_limits<double>::infinity();
      const int count = known ? intervals_of(plan_, rpm, which, intervals.data()) : 0;
      for (int index = 0; index < count; ++index) {
        positions_.push_back(intervals[static_cast<std::size_t>(index)].low);
        positions_.push_back(intervals[static_cast<std::size_t>(index)].high);
      }
      ends_[static_cast<std::size_t>(which) + 1] = static_cast<std::ptrdiff_t>(positions_.size());
    }
    positions_.push_back(plan_.top);
    energies_.resize(positions_.size());
  }

  void compute_penalties() {
    double least = 0.5;
    for (std::int64_t which = 0; which < plan_.classes; ++which) {
      if (end_of(plan_, which) == end_of(plan_, which + 1)) {
        continue;
      }
      double inside = 0.0;
      double width = 0.0;
      for (std::ptrdiff_t at = ends_[static_cast<std::size_t>(which)]; at < ends_[static_cast<std::size_t>(which) + 1];
           at += 2) {
        const auto low = static_cast<std::size_t>(at);
        inside += energies_[low + 1] - energies_[low];
        width += positions_[low + 1] - positions_[low];
      }
      const ClassPenalty found = penalty_of(plan_, which, inside, width, result_.total);
      result_.classes[static_cast<std::size_t>(which)] = found;
      if (result_.smallest < 0 || found.penalty < least) {
        result_.smallest = which;
        least = found.penalty;
      }
    }
    // A class without bands is likely if no other class stands out.
    for (std::int64_t which = 0; which < plan_.classes; ++which) {
      if (end_of(plan_, which) == end_of(plan_, which + 1)) {
        result_.classes[static_cast<std::size_t>(which)] = ClassPenalty{0.0, 1.0 - least, 0.0};
      }
    }
  }

  const Plan& plan_;
  std::vector<std::ptrdiff_t> ends_;    // [classes + 1]: the first position of each class, then their number
  std::vector<double> positions_;          // of all intervals, then the top
  std::vector<double> energies_;        // below each position
  std::vector<double> below_;           // [chunks, lanes]
  double rpm_ = 0.0;                    // the speed of the positions
  SamplePenalties result_;
};

template <class Real>
void compute_forward(const Plan& plan, const Real* spectrum, Real* penalties) {
  const std::int64_t stride = 2 * plan.channels * plan.bins;
  const std::int64_t grain = std::max<std::int64_t>(1, grain_bins / std::max<std::int64_t>(1, stride / 2));
  torch::stable::parallel_for(0, plan.samples, grain, [&](std::int64_t begin, std::int64_t end) {
    Evaluator<Real> evaluate(plan);
    for (std::int64_t sample = begin; sample < end; ++sample) {
      const SamplePenalties& result = evaluate(sample, spectrum + sample * stride);
      for (std::int64_t which = 0; which < plan.classes; ++which) {
        penalties[sample * plan.classes + which] =
            result.defined ? static_cast<Real>(result.classes[static_cast<std::size_t>(which)].penalty)
                            : std::numeric_limits<Real>::quiet_NaN();
      }
    }
  });
}

// Write the derivative of the loss with respect to each bin's energy.
template <class Real>
void fill_factors(const Plan& plan, const Evaluator<Real>& evaluator, const SamplePenalties& result, const Real* grads,
                  double* factors) {
  std::fill_n(factors, plan.bins, 0.0);
  if (!result.defined) {
    std::fill_n(factors, plan.bins, std::numeric_limits<double>::quiet_NaN());
    return;
  }
  if (result.total == 0.0) {
    return;
  }
  double by_least = 0.0;    // the gradient of classes without bands, which depend on the smallest penalty
  for (std::int64_t which = 0; which < plan.classes; ++which) {
    if (end_of(plan, which) == end_of(plan, which + 1)) {
      by_least -= static_cast<double>(grads[which]);
    }
  }
  double by_total = 0.0;
  for (std::int64_t which = 0; which < plan.classes; ++which) {
    const ClassPenalty& found = result.classes[static_cast<std::size_t>(which)];
    const double grad = static_cast<double>(grads[which]) + (which == result.smallest ? by_least : 0.0);
    const double by_fraction = grad * found.slope / result.total;
    if (by_fraction == 0.0) {
      continue;
    }
    by_total += by_fraction * found.fraction;
    for (const double* position = evaluator.begin_of(which); position < evaluator.end_of_class(which); position += 2) {
      const double low = position[0];
      const double high = position[1];
      const std::int64_t last = std::min(static_cast<std::int64_t>(high), plan.bins - 1);
      for (auto bin = static_cast<std::int64_t>(low); bin <= last; ++bin) {
        const auto begin = static_cast<double>(bin);
        factors[bin] += by_fraction * (std::min(high, begin + 1.0) - std::max(low, begin));
      }
    }
  }
  for (std::int64_t bin = 1; bin < plan.bins; ++bin) {
    factors[bin] -= by_total * std::min(1.0, plan.top - static_cast<double>(bin));
  }
}

template <class Real>
void compute_backward(const Plan& plan, const Real* grads, const Real* spectrum, Real* out) {
  const std::int64_t stride = 2 * plan.channels * plan.bins;
  const std::int64_t grain = std::max<std::int64_t>(1, grain_bins / std::max<std::int64_t>(1, stride / 2));
  torch::stable::parallel_for(0, plan.samples, grain, [&](std::int64_t begin, std::int64_t end) {
    Evaluator<Real> evaluate(plan);
    std::vector<double> factors(static_cast<std::size_t>(plan.bins));
    for (std::int64_t sample = begin; sample < end; ++sample) {
      const Real* numbers = spectrum + sample * stride;
      fill_factors(plan, evaluate, evaluate(sample, numbers), grads + sample * plan.classes, factors.data());
      for (std::int64_t channel = 0; channel < plan.channels; ++channel) {
        const std::int64_t offset = 2 * plan.bins * channel;
        times_factors(numbers + offset, factors.data(), plan.bins, out + sample * stride + offset);
      }
    }
  });
}

struct Cpu {
  static Tensor dense(const Tensor& spectrum) { return as_contiguous(spectrum); }

  template <class Real>
  static void forward(const Plan& plan, const Tensor& spectrum, Tensor& penalties) {
    compute_forward(plan, static_cast<const Real*>(spectrum.const_data_ptr()),
                    static_cast<Real*>(penalties.mutable_data_ptr()));
  }

  template <class Real>
  static void backward(const Plan& plan, const Tensor& grads, const Tensor& spectrum, Tensor& out) {
    compute_backward(plan, static_cast<const Real*>(grads.const_data_ptr()),
                     static_cast<const Real*>(spectrum.const_data_ptr()), static_cast<Real*>(out.mutable_data_ptr()));
  }
};

}  // namespace
}  // namespace dovetail::physics

STABLE_TORCH_LIBRARY_FRAGMENT(dovetail, library) {
  library.def(
      "frequency_penalties(Tensor spectrum, Tensor bands, Tensor ends, Tensor? rpm, Tensor? healthy, float bin_width, "
      "int length) -> Tensor");
  library.def(
      "frequency_penalties_backward(Tensor grad, Tensor spectrum, Tensor bands, Tensor ends, Tensor? rpm, "
      "Tensor? healthy, float bin_width, int length) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(dovetail, CPU, library) {
  library.impl("frequency_penalties", TORCH_BOX(&dovetail::physics::frequency_penalties<dovetail::physics::Cpu>));
  library.impl("frequency_penalties_backward",
               TORCH_BOX(&dovetail::physics::frequency_penalties_backward<dovetail::physics::Cpu>));
}
