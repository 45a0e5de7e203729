// frequency_penalties and its backward on the CPU: schemas, kernels, registration.
//
// Samples go to threads whole, so the result never depends on their number. A band costs two looks at the running sums
// of a spectrum's energy, however wide it is; bands are found anew only where the speed is another than before.

#include "bands.h"

#include "energy_cpu.h"

#include "../common/clones.h"

#include <algorithm>
#include <array>
#include <limits>
#include <vector>

namespace dovetail::physics {
namespace {

// About as many bins as are worth a thread.
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

// What one sample says of every class; `leader` is the class whose bands stand out most, or -1.
struct Verdict {
  std::vector<Evidence> evidence;
  std::int64_t leader = -1;
  double total = 0.0;
  bool defined = false;
};

// Judges one sample after another, in memory that it uses again.
template <class Real>
class Judge {
 public:
  explicit Judge(const Plan& plan)
      : plan_(plan), ends_(static_cast<std::size_t>(plan.classes) + 1), below_(below_size(plan.bins)) {
    verdict_.evidence.resize(static_cast<std::size_t>(plan.classes));
  }

  const Verdict& operator()(std::int64_t sample, const Real* spectrum) {
    find_bands(rpm_of(plan_, sample));
    running_sums(spectrum, plan_.channels, plan_.bins, below_.data());
    energies_at(spectrum, plan_.channels, plan_.bins, below_.data(), places_.data(),
                static_cast<std::int64_t>(places_.size()), energies_.data());
    verdict_.total = energies_.back();
    verdict_.defined = defined(verdict_.total, rpm_);
    verdict_.leader = -1;
    if (verdict_.defined) {
      weigh_classes();
    }
    return verdict_;
  }

  // The beginnings and ends of a class's stretches, in turn, for the sample that was judged last.
  const double* begin_of(std::int64_t which) const { return places_.data() + ends_[static_cast<std::size_t>(which)]; }
  const double* end_of_class(std::int64_t which) const { return begin_of(which + 1); }

 private:
  void find_bands(double rpm) {
    if (!places_.empty() && rpm == rpm_) {
      return;
    }
    rpm_ = rpm;
    places_.clear();
    std::array<Stretch, max_bands> stretches;
    for (std::int64_t which = 0; which < plan_.classes; ++which) {
      const bool known = rpm < std::numeric_limits<double>::infinity();
      const int count = known ? stretches_of(plan_, rpm, which, stretches.data()) : 0;
      for (int index = 0; index < count; ++index) {
        places_.push_back(stretches[static_cast<std::size_t>(index)].low);
        places_.push_back(stretches[static_cast<std::size_t>(index)].high);
      }
      ends_[static_cast<std::size_t>(which) + 1] = static_cast<std::ptrdiff_t>(places_.size());
    }
    places_.push_back(plan_.top);
    energies_.resize(places_.size());
  }

  void weigh_classes() {
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
        width += places_[low + 1] - places_[low];
      }
      const Evidence found = weigh(plan_, which, inside, width, verdict_.total);
      verdict_.evidence[static_cast<std::size_t>(which)] = found;
      if (verdict_.leader < 0 || found.penalty < least) {
        verdict_.leader = which;
        least = found.penalty;
      }
    }
    // A class without bands is the one in which no other's stand out.
    for (std::int64_t which = 0; which < plan_.classes; ++which) {
      if (end_of(plan_, which) == end_of(plan_, which + 1)) {
        verdict_.evidence[static_cast<std::size_t>(which)] = Evidence{0.0, 1.0 - least, 0.0};
      }
    }
  }

  const Plan& plan_;
  std::vector<std::ptrdiff_t> ends_;    // [classes + 1]: where the places of each class begin, and the last one's end
  std::vector<double> places_;          // of all stretches, and the top
  std::vector<double> energies_;        // below each place
  std::vector<double> below_;           // [chunks, lanes]
  double rpm_ = 0.0;                    // that the places are for
  Verdict verdict_;
};

template <class Real>
void penalise(const Plan& plan, const Real* spectrum, Real* penalties) {
  const std::int64_t stride = 2 * plan.channels * plan.bins;
  const std::int64_t grain = std::max<std::int64_t>(1, grain_bins / std::max<std::int64_t>(1, stride / 2));
  torch::stable::parallel_for(0, plan.samples, grain, [&](std::int64_t begin, std::int64_t end) {
    Judge<Real> judge(plan);
    for (std::int64_t sample = begin; sample < end; ++sample) {
      const Verdict& verdict = judge(sample, spectrum + sample * stride);
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
void fill_factors(const Plan& plan, const Judge<Real>& judge, const Verdict& verdict, const Real* grads,
                  double* factors) {
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
  double by_total = 0.0;
  for (std::int64_t which = 0; which < plan.classes; ++which) {
    const Evidence& found = verdict.evidence[static_cast<std::size_t>(which)];
    const double grad = static_cast<double>(grads[which]) + (which == verdict.leader ? by_least : 0.0);
    const double by_share = grad * found.slope / verdict.total;
    if (by_share == 0.0) {
      continue;
    }
    by_total += by_share * found.share;
    for (const double* place = judge.begin_of(which); place < judge.end_of_class(which); place += 2) {
      const double low = place[0];
      const double high = place[1];
      const std::int64_t last = std::min(static_cast<std::int64_t>(high), plan.bins - 1);
      for (auto bin = static_cast<std::int64_t>(low); bin <= last; ++bin) {
        const auto begin = static_cast<double>(bin);
        factors[bin] += by_share * (std::min(high, begin + 1.0) - std::max(low, begin));
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
    Judge<Real> judge(plan);
    std::vector<double> factors(static_cast<std::size_t>(plan.bins));
    for (std::int64_t sample = begin; sample < end; ++sample) {
      const Real* numbers = spectrum + sample * stride;
      fill_factors(plan, judge, judge(sample, numbers), grads + sample * plan.classes, factors.data());
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
