// frequency_penalties and its backward on the CPU: schemas, kernels, registration.
//
// The energy of a spectrum is added up once, in float64 and in chunks of bins; a band then costs two looks at the running
// sum and the rest of two chunks, however wide it is. Samples go to threads whole, so the result never depends on their
// number.

#include "bands.h"

#include "../common/clones.h"

#include <algorithm>
#include <array>
#include <limits>

namespace dovetail::physics {
namespace {

constexpr std::int64_t chunk_bins = 32;
constexpr std::int64_t lanes = 16;
// About as many bins as are worth a thread.
constexpr std::int64_t grain_bins = 1 << 13;

// The sum of squares of `count` numbers, in a fixed order.
template <class Real>
[[gnu::always_inline]] inline double squares(const Real* numbers, std::int64_t count) {
  double sums[lanes] = {};
  std::int64_t index = 0;
  for (; index + lanes <= count; index += lanes) {
#pragma omp simd
    for (std::int64_t lane = 0; lane < lanes; ++lane) {
      const auto number = static_cast<double>(numbers[index + lane]);
      sums[lane] += number * number;
    }
  }
  for (std::int64_t lane = 0; index < count; ++index, ++lane) {
    const auto number = static_cast<double>(numbers[index]);
    sums[lane] += number * number;
  }
  for (std::int64_t half = lanes / 2; half > 0; half /= 2) {
    for (std::int64_t lane = 0; lane < half; ++lane) {
      sums[lane] += sums[lane + half];
    }
  }
  return sums[0];
}

DOVETAIL_CLONES double sum_squares(const float* numbers, std::int64_t count) { return squares(numbers, count); }
DOVETAIL_CLONES double sum_squares(const double* numbers, std::int64_t count) { return squares(numbers, count); }

// Adds the energy of each chunk to `sums`; bin 0 does not count.
template <class Real>
[[gnu::always_inline]] inline void chunks_of(const Real* spectrum, std::int64_t bins, double* sums) {
  for (std::int64_t begin = 0; begin < bins; begin += chunk_bins) {
    const std::int64_t first = begin == 0 ? 1 : begin;
    const std::int64_t end = begin + chunk_bins < bins ? begin + chunk_bins : bins;
    sums[begin / chunk_bins] += squares(spectrum + 2 * first, 2 * (end - first));
  }
}

DOVETAIL_CLONES void add_chunks(const float* spectrum, std::int64_t bins, double* sums) {
  chunks_of(spectrum, bins, sums);
}
DOVETAIL_CLONES void add_chunks(const double* spectrum, std::int64_t bins, double* sums) {
  chunks_of(spectrum, bins, sums);
}

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

// One sample's E(t), over all channels.
template <class Real>
class Energy {
 public:
  Energy(const Plan& plan, const Real* spectrum) : plan_(plan), spectrum_(spectrum) {
    const std::int64_t chunks = (plan.bins + chunk_bins - 1) / chunk_bins;
    below_.assign(static_cast<std::size_t>(chunks) + 1, 0.0);
    for (std::int64_t channel = 0; channel < plan.channels; ++channel) {
      add_chunks(spectrum + 2 * plan.bins * channel, plan.bins, below_.data() + 1);
    }
    for (std::size_t chunk = 1; chunk < below_.size(); ++chunk) {
      below_[chunk] += below_[chunk - 1];
    }
  }

  double operator()(double place) const {
    const auto bin = static_cast<std::int64_t>(place);
    const std::int64_t chunk = bin / chunk_bins;
    const std::int64_t first = std::max<std::int64_t>(1, chunk * chunk_bins);
    double energy = below_[static_cast<std::size_t>(chunk)];
    for (std::int64_t channel = 0; channel < plan_.channels; ++channel) {
      const Real* numbers = spectrum_ + 2 * plan_.bins * channel;
      energy += sum_squares(numbers + 2 * first, 2 * (std::min(bin, plan_.bins) - first));
      if (bin < plan_.bins) {
        const auto real = static_cast<double>(numbers[2 * bin]);
        const auto imaginary = static_cast<double>(numbers[2 * bin + 1]);
        energy += (real * real + imaginary * imaginary) * (place - static_cast<double>(bin));
      }
    }
    return energy;
  }

  double total() const { return (*this)(plan_.top); }

 private:
  const Plan& plan_;
  const Real* spectrum_;
  std::vector<double> below_;    // each chunk
};

// What one sample says of every class; `leader` is the class whose bands stand out most, or -1.
struct Verdict {
  std::vector<Evidence> evidence;
  std::int64_t leader = -1;
  double total = 0.0;
  bool defined = false;
};

template <class Real>
Verdict judge(const Plan& plan, std::int64_t sample, const Real* spectrum) {
  Verdict verdict;
  verdict.evidence.resize(static_cast<std::size_t>(plan.classes));
  const Energy<Real> energy(plan, spectrum);
  const double rpm = rpm_of(plan, sample);
  verdict.total = energy.total();
  verdict.defined = defined(verdict.total, rpm);
  if (!verdict.defined) {
    return verdict;
  }
  std::array<Stretch, max_bands> stretches;
  for (std::int64_t which = 0; which < plan.classes; ++which) {
    if (end_of(plan, which) == end_of(plan, which + 1)) {
      continue;
    }
    double inside = 0.0;
    double width = 0.0;
    const int count = stretches_of(plan, rpm, which, stretches.data());
    for (int index = 0; index < count; ++index) {
      const Stretch& stretch = stretches[static_cast<std::size_t>(index)];
      inside += energy(stretch.high) - energy(stretch.low);
      width += stretch.high - stretch.low;
    }
    const Evidence found = weigh(plan, which, inside, width, verdict.total);
    verdict.evidence[static_cast<std::size_t>(which)] = found;
    if (verdict.leader < 0 || found.penalty < verdict.evidence[static_cast<std::size_t>(verdict.leader)].penalty) {
      verdict.leader = which;
    }
  }
  // A class without bands is the one in which no other's stand out.
  for (std::int64_t which = 0; which < plan.classes; ++which) {
    if (end_of(plan, which) == end_of(plan, which + 1)) {
      const double least =
          verdict.leader < 0 ? 0.5 : verdict.evidence[static_cast<std::size_t>(verdict.leader)].penalty;
      verdict.evidence[static_cast<std::size_t>(which)] = Evidence{0.0, 1.0 - least, 0.0};
    }
  }
  return verdict;
}

template <class Real>
void penalise(const Plan& plan, const Real* spectrum, Real* penalties) {
  const std::int64_t stride = 2 * plan.channels * plan.bins;
  const std::int64_t grain = std::max<std::int64_t>(1, grain_bins / std::max<std::int64_t>(1, stride / 2));
  torch::stable::parallel_for(0, plan.samples, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t sample = begin; sample < end; ++sample) {
      const Verdict verdict = judge(plan, sample, spectrum + sample * stride);
      for (std::int64_t which = 0; which < plan.classes; ++which) {
        penalties[sample * plan.classes + which] =
            verdict.defined ? static_cast<Real>(verdict.evidence[static_cast<std::size_t>(which)].penalty)
                            : std::numeric_limits<Real>::quiet_NaN();
      }
    }
  });
}

// By how much the loss grows with each bin's energy.
template <class Real>
void fill_factors(const Plan& plan, std::int64_t sample, const Verdict& verdict, const Real* grads, double* factors) {
  std::fill_n(factors, plan.bins, 0.0);
  if (!verdict.defined) {
    std::fill_n(factors, plan.bins, std::numeric_limits<double>::quiet_NaN());
    return;
  }
  if (verdict.total == 0.0) {
    return;
  }
  double by_least = 0.0;    // what classes without bands pass on to the leader
  for (std::int64_t which = 0; which < plan.classes; ++which) {
    if (end_of(plan, which) == end_of(plan, which + 1)) {
      by_least -= static_cast<double>(grads[which]);
    }
  }
  const double rpm = rpm_of(plan, sample);
  std::array<Stretch, max_bands> stretches;
  double by_total = 0.0;
  for (std::int64_t which = 0; which < plan.classes; ++which) {
    const Evidence& found = verdict.evidence[static_cast<std::size_t>(which)];
    const double grad = static_cast<double>(grads[which]) + (which == verdict.leader ? by_least : 0.0);
    const double by_share = grad * found.slope / verdict.total;
    if (by_share == 0.0) {
      continue;
    }
    by_total += by_share * found.share;
    const int count = stretches_of(plan, rpm, which, stretches.data());
    for (int index = 0; index < count; ++index) {
      const Stretch& stretch = stretches[static_cast<std::size_t>(index)];
      const auto first = static_cast<std::int64_t>(stretch.low);
      const std::int64_t last = std::min(static_cast<std::int64_t>(stretch.high), plan.bins - 1);
      for (std::int64_t bin = first; bin <= last; ++bin) {
        const auto begin = static_cast<double>(bin);
        factors[bin] += by_share * (std::min(stretch.high, begin + 1.0) - std::max(stretch.low, begin));
      }
    }
  }
  for (std::int64_t bin = 1; bin < plan.bins; ++bin) {
    factors[bin] -= by_total * std::min(1.0, plan.top - static_cast<double>(bin));
  }
}

template <class Real>
void penalise_backward(const Plan& plan, const Real* grads, const Real* spectrum, Real* out) {
  const std::int64_t stride = 2 * plan.channels * plan.bins;
  const std::int64_t grain = std::max<std::int64_t>(1, grain_bins / std::max<std::int64_t>(1, stride / 2));
  torch::stable::parallel_for(0, plan.samples, grain, [&](std::int64_t begin, std::int64_t end) {
    std::vector<double> factors(static_cast<std::size_t>(plan.bins));
    for (std::int64_t sample = begin; sample < end; ++sample) {
      const Real* numbers = spectrum + sample * stride;
      fill_factors(plan, sample, judge(plan, sample, numbers), grads + sample * plan.classes, factors.data());
      for (std::int64_t channel = 0; channel < plan.channels; ++channel) {
        const std::int64_t offset = 2 * plan.bins * channel;
        times_factors(numbers + offset, factors.data(), plan.bins, out + sample * stride + offset);
      }
    }
  });
}

Tensor frequency_penalties(Tensor spectrum, Tensor bands, Tensor ends, std::optional<Tensor> rpm,
                           std::optional<Tensor> healthy, double bin_width, std::int64_t length) {
  std::vector<Tensor> keep;
  const Plan plan = make_plan(spectrum, bands, ends, rpm, healthy, bin_width, length, keep);
  const Tensor dense = as_contiguous(spectrum);
  Tensor penalties = empty_beside(dense, {plan.samples, plan.classes}, dense.scalar_type());
  if (dense.scalar_type() == ScalarType::Float) {
    penalise(plan, static_cast<const float*>(dense.const_data_ptr()),
             static_cast<float*>(penalties.mutable_data_ptr()));
  } else {
    penalise(plan, static_cast<const double*>(dense.const_data_ptr()),
             static_cast<double*>(penalties.mutable_data_ptr()));
  }
  return penalties;
}

Tensor frequency_penalties_backward(Tensor grad, Tensor spectrum, Tensor bands, Tensor ends, std::optional<Tensor> rpm,
                                    std::optional<Tensor> healthy, double bin_width, std::int64_t length) {
  std::vector<Tensor> keep;
  const Plan plan = make_plan(spectrum, bands, ends, rpm, healthy, bin_width, length, keep);
  check_grad(plan, grad, spectrum);
  const Tensor dense = as_contiguous(spectrum);
  const Tensor grads = as_contiguous(grad);
  Tensor out = empty_beside(dense, {plan.samples, plan.channels, plan.bins, 2}, dense.scalar_type());
  if (dense.scalar_type() == ScalarType::Float) {
    penalise_backward(plan, static_cast<const float*>(grads.const_data_ptr()),
                      static_cast<const float*>(dense.const_data_ptr()), static_cast<float*>(out.mutable_data_ptr()));
  } else {
    penalise_backward(plan, static_cast<const double*>(grads.const_data_ptr()),
                      static_cast<const double*>(dense.const_data_ptr()), static_cast<double*>(out.mutable_data_ptr()));
  }
  return out;
}

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
  library.impl("frequency_penalties", TORCH_BOX(&dovetail::physics::frequency_penalties));
  library.impl("frequency_penalties_backward", TORCH_BOX(&dovetail::physics::frequency_penalties_backward));
}
