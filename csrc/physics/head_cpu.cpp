// physical_terms on the CPU: schema, kernel, registration.
//
// Two passes over the samples: probabilities and terms, then, where it is wanted, the gradient. Each sample's terms are
// kept and added up in their order, so the result does not depend on the number of threads.

#include "head.h"

#include "../common/clones.h"

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <algorithm>
#include <tuple>

namespace dovetail::physics {
namespace {

// About as many logits as are worth a thread.
constexpr std::int64_t grain_logits = 1 << 12;

// e^x for x ≤ 0, to 2 units in the last place; 0 below the smallest normal number, NaN for NaN. Polynomial of Cephes.
[[gnu::always_inline]] inline float exponential(float x) {
  const float magic = 0x1.8p23F;    // adding it rounds to an integer, left in the low bits
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

// Rows of logits to rows of e^(z - max), their maxima and their sums.
template <class Real>
[[gnu::always_inline]] inline void soften(Real* rows, std::int64_t count, std::int64_t classes, Real* largest,
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

DOVETAIL_CLONES void soften_rows(float* rows, std::int64_t count, std::int64_t classes, float* largest, float* sums) {
  soften(rows, count, classes, largest, sums);
}
DOVETAIL_CLONES void soften_rows(double* rows, std::int64_t count, std::int64_t classes, double* largest,
                                 double* sums) {
  soften(rows, count, classes, largest, sums);
}

struct Terms {
  double of[term_count] = {};
};

template <class Real>
struct Scratch {
  explicit Scratch(const Head<Real>& head)
      : q(static_cast<std::size_t>(head.samples * head.classes)), terms(static_cast<std::size_t>(head.samples)) {}

  std::vector<Real> q;         // [samples, classes]: probabilities
  std::vector<Terms> terms;    // of each sample, before means and weights
};

// Probabilities, and the cross-entropy of each sample.
template <class Logit, class Real>
void first_pass(const Head<Real>& head, const Logit* logits, Scratch<Real>& scratch, std::int64_t begin,
                std::int64_t end) {
  const std::int64_t classes = head.classes;
  Real* q = scratch.q.data() + begin * classes;
  for (std::int64_t index = 0; index < (end - begin) * classes; ++index) {
    q[index] = static_cast<Real>(logits[begin * classes + index]);
  }
  std::vector<Real> largest(static_cast<std::size_t>(end - begin));
  std::vector<Real> sums(largest.size());
  soften_rows(q, end - begin, classes, largest.data(), sums.data());
  for (std::int64_t sample = begin; sample < end; ++sample, q += classes) {
    const auto row = static_cast<std::size_t>(sample - begin);
    const Real scale = Real(1) / sums[row];
    for (std::int64_t which = 0; which < classes; ++which) {
      q[which] *= scale;
    }
    if (labelled(head, sample)) {
      const std::int64_t target = head.targets[sample];
      const auto logit = static_cast<double>(static_cast<Real>(logits[sample * classes + target]));
      scratch.terms[static_cast<std::size_t>(sample)].of[0] =
          std::log(static_cast<double>(sums[row])) - (logit - static_cast<double>(largest[row]));
    }
  }
}

// The other terms, and the gradient where `grad` is not null.
template <class Real>
void second_pass(const Head<Real>& head, const Scales& scales, Scratch<Real>& scratch, Real* grad, std::int64_t begin,
                 std::int64_t end) {
  const std::int64_t classes = head.classes;
  std::vector<double> slopes(static_cast<std::size_t>(classes));    // v
  for (std::int64_t sample = begin; sample < end; ++sample) {
    const Real* q = scratch.q.data() + sample * classes;
    double* terms = scratch.terms[static_cast<std::size_t>(sample)].of;
    std::fill(slopes.begin(), slopes.end(), 0.0);
    double* v = slopes.data();
    if (head.penalties != nullptr) {
      const Real* penalties = head.penalties + sample * classes;
      for (std::int64_t which = 0; which < classes; ++which) {
        terms[1] += static_cast<double>(q[which]) * static_cast<double>(penalties[which]);
        v[which] += scales.frequency * static_cast<double>(penalties[which]);
      }
    }
    if (head.levels != nullptr) {
      double level = 0.0;
      for (std::int64_t which = 0; which < classes; ++which) {
        level += static_cast<double>(q[which]) * static_cast<double>(head.levels[which]);
      }
      const double difference = level - static_cast<double>(head.severity[sample]);
      terms[2] = difference * difference;
      for (std::int64_t which = 0; which < classes; ++which) {
        v[which] += 2.0 * scales.severity * difference * static_cast<double>(head.levels[which]);
      }
    }
    for (int side = 0; side < 2; ++side) {
      const std::int64_t other = neighbour(head, sample, side);
      if (other < 0) {
        continue;
      }
      const auto rate = static_cast<double>(head.rates[side == 0 ? sample : other]);
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
    const double of_label = labelled(head, sample) ? scales.labelled : 0.0;
    for (std::int64_t which = 0; which < classes; ++which) {
      v[which] = static_cast<double>(q[which]) * (v[which] - mean + of_label);
    }
    if (labelled(head, sample)) {
      v[head.targets[sample]] -= of_label;
    }
    for (std::int64_t which = 0; which < classes; ++which) {
      grad[sample * classes + which] = static_cast<Real>(v[which]);
    }
  }
}

using Result = std::tuple<Tensor, Tensor, Tensor>;

template <class Logit, class Real>
Result compute(const Arguments& arguments, bool want_grad) {
  std::vector<Tensor> keep;
  const Head<Real> head = make_head<Real>(arguments, keep);
  const Tensor dense = as_contiguous(arguments.logits);
  const auto* logits = static_cast<const Logit*>(dense.const_data_ptr());
  std::int64_t labels = 0;
  std::int64_t pairs = 0;
  for (std::int64_t sample = 0; sample < head.samples; ++sample) {
    if (labelled(head, sample)) {
      const std::int64_t target = head.targets[sample];
      STD_TORCH_CHECK(target >= 0 && target < head.classes, "dovetail::physical_terms: label ", target,
                      " is none of the classes 0 to ", head.classes - 1);
      ++labels;
    }
    pairs += neighbour(head, sample, 0) >= 0 ? 1 : 0;
  }
  const Scales scales = scales_of(head, labels, pairs);
  Tensor total = empty_beside(dense, {}, scalar_type_of<Real>);
  Tensor parts = empty_beside(dense, {term_count}, scalar_type_of<Real>);
  Tensor grad = empty_beside(dense, {want_grad ? head.samples : 0, head.classes}, scalar_type_of<Real>);
  auto* grads = want_grad ? static_cast<Real*>(grad.mutable_data_ptr()) : nullptr;

  Scratch<Real> scratch(head);
  const std::int64_t grain = std::max<std::int64_t>(1, grain_logits / std::max<std::int64_t>(1, head.classes));
  if (head.classes > 0) {
    torch::stable::parallel_for(0, head.samples, grain, [&](std::int64_t begin, std::int64_t end) {
      first_pass(head, logits, scratch, begin, end);
    });
    torch::stable::parallel_for(0, head.samples, grain, [&](std::int64_t begin, std::int64_t end) {
      second_pass(head, scales, scratch, grads, begin, end);
    });
  }
  Terms sums;
  for (const Terms& terms : scratch.terms) {
    for (int term = 0; term < term_count; ++term) {
      sums.of[term] += terms.of[term];
    }
  }
  const std::int64_t counts[term_count] = {labels, head.samples, head.samples, pairs};
  auto* out = static_cast<Real*>(parts.mutable_data_ptr());
  double all = 0.0;
  for (int term = 0; term < term_count; ++term) {
    const double mean = share_of(sums.of[term], counts[term]);
    out[term] = static_cast<Real>(mean);
    all += head.weights[term] * mean;
  }
  *static_cast<Real*>(total.mutable_data_ptr()) = static_cast<Real>(all);
  return {total, parts, grad};
}

Result physical_terms(Tensor logits, std::optional<Tensor> targets, std::optional<Tensor> penalties,
                      std::optional<Tensor> levels, std::optional<Tensor> severity, std::optional<Tensor> neighbours,
                      std::optional<Tensor> rates, double classification, double frequency, double sommerfeld,
                      double temporal, bool want_grad) {
  const Arguments arguments{logits,   targets,    penalties, levels,
                            severity, neighbours, rates,     {classification, frequency, sommerfeld, temporal}};
  switch (logits.scalar_type()) {
    case ScalarType::Float:
      return compute<float, float>(arguments, want_grad);
    case ScalarType::BFloat16:
      return compute<torch::headeronly::BFloat16, float>(arguments, want_grad);
    case ScalarType::Half:
      return compute<torch::headeronly::Half, float>(arguments, want_grad);
    case ScalarType::Double:
      return compute<double, double>(arguments, want_grad);
    default:
      STD_TORCH_CHECK(false, "dovetail::physical_terms: float32, bfloat16, float16 and float64 only");
  }
}

}  // namespace
}  // namespace dovetail::physics

STABLE_TORCH_LIBRARY_FRAGMENT(dovetail, library) {
  library.def(
      "physical_terms(Tensor logits, Tensor? targets, Tensor? penalties, Tensor? levels, Tensor? severity, "
      "Tensor? neighbours, Tensor? rates, float classification, float frequency, float sommerfeld, float temporal, "
      "bool want_grad) -> (Tensor total, Tensor parts, Tensor grad)");
}

STABLE_TORCH_LIBRARY_IMPL(dovetail, CPU, library) {
  library.impl("physical_terms", TORCH_BOX(&dovetail::physics::physical_terms));
}
