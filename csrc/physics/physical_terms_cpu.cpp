// physical_terms on the CPU: schema, kernel, registration.
//
// The first pass over the samples computes probabilities and cross-entropy, the second the other terms and the
// gradient. The terms of the samples are stored and summed in order, so the result does not depend on the number of
// threads.

#include "physical_terms.h"

#include "../common/clones.h"

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <algorithm>

namespace dovetail::physics {
namespace {

// The number of logits that justify another thread.
constexpr std::int64_t grain_logits = 1 << 12;

// Return e^x for x ≤ 0 within 2 units in the last place; 0 below the smallest normal number, NaN for NaN. The
// polynomial is that of Cephes.
[[gnu::always_inline]] inline float exponential(float x) {
  const float magic = 0x1.8p23F;    // adding it rounds to an integer in the low bits
  const float clamped = x < -87.0F ? -87.0F : x;
  const float shifted = clamped * 1.44269504F + magic;
  const float whole = shifted - magic;
  const float rest = (clamped - whole * 0.693359375F) + whole * 2.12194440e-4F;
  float value = 1.9875691500e-4F;
  value = value * rest + 1.3981999507e-3F;
  value = value * rest + 8.3334519073e-3F;
  value = value * rest + 4.1665795894e-2F;
  value = value * rest + 1.6666665459e-1F;
  value = value * rest + 5.0000001201e-1F;
  value = value * rest * rest + rest + 1.0F;
  std::uint32_t bits = 0;
  __builtin_memcpy(&bits, &shifted, sizeof(bits));
  bits = (bits << 23) + 0x3f800000U;
  float power = 0.0F;
  __builtin_memcpy(&power, &bits, sizeof(power));
  return x < -87.0F ? 0.0F : value * power;
}

[[gnu::always_inline]] inline double exponential(double x) { return __builtin_exp(x); }

// Replace rows of logits by e^(z - max), and write their maxima and sums.
template <class Real>
[[gnu::always_inline]] inline void exponentiate(Real* rows, std::int64_t count, std::int64_t classes, Real* largest,
                                                Real* sums) {
  for (std::int64_t row = 0; row < count; ++row) {
    Real* values = rows + row * classes;
    Real most = values[0];
    for (std::int64_t which = 1; which < classes; ++which) {
      most = values[which] > most ? values[which] : most;
    }
    Real sum = 0;
#pragma omp simd
    for (std::int64_t which = 0; which < classes; ++which) {
      values[which] = exponential(values[which] - most);
    }
    for (std::int64_t which = 0; which < classes; ++which) {
      sum += values[which];
    }
    largest[row] = most;
    sums[row] = sum;
  }
}

DOVETAIL_CLONES void exponentiate_rows(float* rows, std::int64_t count, std::int64_t classes, float* largest,
                                       float* sums) {
  exponentiate(rows, count, classes, largest, sums);
}
DOVETAIL_CLONES void exponentiate_rows(double* rows, std::int64_t count, std::int64_t classes, double* largest,
                                       double* sums) {
  exponentiate(rows, count, classes, largest, sums);
}

struct Terms {
  double of[term_count] = {};
};

template <class Real>
struct Scratch {
  explicit Scratch(const Inputs<Real>& inputs)
      : q(static_cast<std::size_t>(inputs.samples * inputs.classes)), terms(static_cast<std::size_t>(inputs.samples)) {}

  std::vector<Real> q;         // [samples, classes]: probabilities
  std::vector<Terms> terms;    // of each sample, before weighting
};

// Compute the probabilities and the cross-entropy of each sample.
template <class Logit, class Real>
void first_pass(const Inputs<Real>& inputs, const Logit* logits, Scratch<Real>& scratch, std::int64_t begin,
                std::int64_t end) {
  const std::int64_t classes = inputs.classes;
  Real* q = scratch.q.data() + begin * classes;
  for (std::int64_t index = 0; index < (end - begin) * classes; ++index) {
    q[index] = static_cast<Real>(logits[begin * classes + index]);
  }
  std::vector<Real> largest(static_cast<std::size_t>(end - begin));
  std::vector<Real> sums(largest.size());
  exponentiate_rows(q, end - begin, classes, largest.data(), sums.data());
  for (std::int64_t sample = begin; sample < end; ++sample, q += classes) {
    const auto row = static_cast<std::size_t>(sample - begin);
    const Real scale = Real(1) / sums[row];
    for (std::int64_t which = 0; which < classes; ++which) {
      q[which] *= scale;
    }
    if (labelled(inputs, sample)) {
      const std::int64_t target = inputs.targets[sample];
      const auto logit = static_cast<double>(static_cast<Real>(logits[sample * classes + target]));
      scratch.terms[static_cast<std::size_t>(sample)].of[0] =
          std::log(static_cast<double>(sums[row])) - (logit - static_cast<double>(largest[row]));
    }
  }
}

// Compute the other terms and, unless `grad` is null, the gradient.
template <class Real>
void second_pass(const Inputs<Real>& inputs, const Scales& scales, Scratch<Real>& scratch, Real* grad,
                 std::int64_t begin, std::int64_t end) {
  const std::int64_t classes = inputs.classes;
  std::vector<double> slopes(static_cast<std::size_t>(classes));    // v
  for (std::int64_t sample = begin; sample < end; ++sample) {
    const Real* q = scratch.q.data() + sample * classes;
    double* terms = scratch.terms[static_cast<std::size_t>(sample)].of;
    std::fill(slopes.begin(), slopes.end(), 0.0);
    double* v = slopes.data();
    if (inputs.penalties != nullptr) {
      const Real* penalties = inputs.penalties + sample * classes;
      for (std::int64_t which = 0; which < classes; ++which) {
        terms[1] += static_cast<double>(q[which]) * static_cast<double>(penalties[which]);
        v[which] += scales.frequency * static_cast<double>(penalties[which]);
      }
    }
    if (inputs.levels != nullptr) {
      double level = 0.0;
      for (std::int64_t which = 0; which < classes; ++which) {
        level += static_cast<double>(q[which]) * static_cast<double>(inputs.levels[which]);
      }
      const double difference = level - static_cast<double>(inputs.severity[sample]);
      terms[2] = difference * difference;
      for (std::int64_t which = 0; which < classes; ++which) {
        v[which] += 2.0 * scales.severity * difference * static_cast<double>(inputs.levels[which]);
      }
    }
    for (int side = 0; side < 2; ++side) {
      const std::int64_t other = neighbour(inputs, sample, side);
      if (other < 0) {
        continue;
      }
      const auto rate = static_cast<double>(inputs.rates[side == 0 ? sample : other]);
      const Real* beside = scratch.q.data() + other * classes;
      double change = 0.0;
      for (std::int64_t which = 0; which < classes; ++which) {
        const double step = static_cast<double>(q[which]) - static_cast<double>(beside[which]);
        change += step * step;
        v[which] += 2.0 * scales.pairs * rate * step;
      }
      terms[3] += side == 0 ? rate * change : 0.0;
    }
    if (grad == nullptr) {
      continue;
    }
    double mean = 0.0;
    for (std::int64_t which = 0; which < classes; ++which) {
      mean += static_cast<double>(q[which]) * v[which];
    }
    const double of_label = labelled(inputs, sample) ? scales.labelled : 0.0;
    for (std::int64_t which = 0; which < classes; ++which) {
      v[which] = static_cast<double>(q[which]) * (v[which] - mean + of_label);
    }
    if (labelled(inputs, sample)) {
      v[inputs.targets[sample]] -= of_label;
    }
    for (std::int64_t which = 0; which < classes; ++which) {
      grad[sample * classes + which] = static_cast<Real>(v[which]);
    }
  }
}

template <class Logit, class Real>
void compute(const Inputs<Real>& inputs, const Logit* logits, Real* total, Real* parts, Real* grad) {
  std::int64_t labels = 0;
  std::int64_t pairs = 0;
  for (std::int64_t sample = 0; sample < inputs.samples; ++sample) {
    if (labelled(inputs, sample)) {
      const std::int64_t target = inputs.targets[sample];
      STD_TORCH_CHECK(target >= 0 && target < inputs.classes, "dovetail::physical_terms: label ", target,
                      " is not one of the classes 0 to ", inputs.classes - 1);
      ++labels;
    }
    pairs += neighbour(inputs, sample, 0) >= 0 ? 1 : 0;
  }
  const Scales scales = scales_of(inputs, labels, pairs);
  Scratch<Real> scratch(inputs);
  const std::int64_t grain = std::max<std::int64_t>(1, grain_logits / std::max<std::int64_t>(1, inputs.classes));
  if (inputs.classes > 0) {
    torch::stable::parallel_for(0, inputs.samples, grain, [&](std::int64_t begin, std::int64_t end) {
      first_pass(inputs, logits, scratch, begin, end);
    });
    torch::stable::parallel_for(0, inputs.samples, grain, [&](std::int64_t begin, std::int64_t end) {
      second_pass(inputs, scales, scratch, grad, begin, end);
    });
  }
  Terms sums;
  for (const Terms& terms : scratch.terms) {
    for (int term = 0; term < term_count; ++term) {
      sums.of[term] += terms.of[term];
    }
  }
  const std::int64_t counts[term_count] = {labels, inputs.samples, inputs.samples, pairs};
  double all = 0.0;
  for (int term = 0; term < term_count; ++term) {
    const double mean = divided_by(sums.of[term], counts[term]);
    parts[term] = static_cast<Real>(mean);
    all += inputs.weights[term] * mean;
  }
  *total = static_cast<Real>(all);
}

struct TermsOnCpu {
  using BFloat16 = torch::headeronly::BFloat16;
  using Half = torch::headeronly::Half;

  template <class Logit, class Real>
  static void compute(const Inputs<Real>& inputs, const Tensor& logits, Real* total, Real* parts, Real* grad) {
    physics::compute(inputs, static_cast<const Logit*>(logits.const_data_ptr()), total, parts, grad);
  }
};

}  // namespace
}  // namespace dovetail::physics

STABLE_TORCH_LIBRARY_FRAGMENT(dovetail, library) {
  library.def(
      "physical_terms(Tensor logits, Tensor? targets, Tensor? penalties, Tensor? levels, Tensor? severity, "
      "Tensor? neighbours, Tensor? rates, float classification, float frequency, float sommerfeld, float temporal, "
      "bool want_grad) -> (Tensor total, Tensor parts, Tensor grad)");
}

STABLE_TORCH_LIBRARY_IMPL(dovetail, CPU, library) {
  library.impl("physical_terms", TORCH_BOX(&dovetail::physics::physical_terms<dovetail::physics::TermsOnCpu>));
}
