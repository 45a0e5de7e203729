// physical_terms: the op, and what its CPU and CUDA implementations have in common.
//
// Cross-entropy and three physical terms of class logits z, with their gradient:
//
//   q = softmax(z) over classes c, in N samples n
//   classification  mean over labelled n of  -log q_y
//   frequency       1/N  Σ_n Σ_c q_nc p_nc                            p: penalties
//   severity        1/N  Σ_n (Σ_c q_nc l_c - s_n)²                    l: levels of the classes, s: expected severity
//   smoothness      1/M  Σ_n r_n Σ_c (q_nc - q_mc)²                   m: the window before n, r: the rate of n; M pairs
//
// The total is Σ λ · term. Its gradient is that of cross-entropy plus q ∘ (v - <q, v>), where v is the derivative of
// the total with respect to q.
#pragma once

#include "../common/dtypes.h"
#include "../common/host_device.h"
#include "../common/memory.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <cmath>
#include <cstdint>
#include <optional>
#include <tuple>
#include <vector>

namespace dovetail::physics {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr int term_count = 4;
constexpr std::int64_t no_label = -100;

// The checked arguments of the op. Real is float64 for float64 logits, else float32.
template <class Real>
struct Inputs {
  std::int64_t samples, classes;
  const std::int64_t* targets;       // [samples], or null
  const Real* penalties;             // [samples, classes], or null
  const Real* levels;                // [classes], or null together with severity
  const Real* severity;              // [samples]
  const std::int64_t* neighbours;    // [samples, 2]: the previous and next window, -1 for none; or null
  const Real* rates;                 // [samples], null together with neighbours
  double weights[term_count];
};

// The factor of each sample in the gradient of each term: its weight divided by the number of samples.
struct Scales {
  double labelled, frequency, severity, pairs;
};

DOVETAIL_HOST_DEVICE inline double divided_by(double value, std::int64_t count) {
  return count > 0 ? value / static_cast<double>(count) : 0.0;
}

template <class Real>
DOVETAIL_HOST_DEVICE inline Scales scales_of(const Inputs<Real>& inputs, std::int64_t labelled, std::int64_t pairs) {
  return {divided_by(inputs.weights[0], labelled), divided_by(inputs.weights[1], inputs.samples),
          divided_by(inputs.weights[2], inputs.samples), divided_by(inputs.weights[3], pairs)};
}

// Return the neighbour of a sample, or -1 for none.
template <class Real>
DOVETAIL_HOST_DEVICE inline std::int64_t neighbour(const Inputs<Real>& inputs, std::int64_t sample, int side) {
  const std::int64_t found = inputs.neighbours == nullptr ? -1 : inputs.neighbours[2 * sample + side];
  return found < inputs.samples ? found : -1;
}

template <class Real>
DOVETAIL_HOST_DEVICE inline bool labelled(const Inputs<Real>& inputs, std::int64_t sample) {
  return inputs.targets != nullptr && inputs.targets[sample] != no_label;
}

template <class Real>
constexpr ScalarType scalar_type_of = sizeof(Real) == sizeof(double) ? ScalarType::Double : ScalarType::Float;

struct Arguments {
  Tensor logits;
  std::optional<Tensor> targets, penalties, levels, severity, neighbours, rates;
  double weights[term_count];
};

// Check the arguments; `storage` owns the memory of the result.
template <class Real>
Inputs<Real> read_inputs(const Arguments& arguments, std::vector<Tensor>& storage) {
  const Tensor& logits = arguments.logits;
  STD_TORCH_CHECK(logits.dim() == 2, "dovetail::physical_terms: the logits must be [samples, classes]");
  Inputs<Real> inputs{};
  inputs.samples = logits.size(0);
  inputs.classes = logits.size(1);
  const auto data = [&](const std::optional<Tensor>& tensor, ScalarType dtype,
                        const std::vector<std::int64_t>& shape) -> const void* {
    if (!tensor.has_value()) {
      return nullptr;
    }
    bool fits = tensor->dim() == static_cast<std::int64_t>(shape.size()) && tensor->scalar_type() == dtype &&
                tensor->device() == logits.device();
    for (std::size_t dim = 0; fits && dim < shape.size(); ++dim) {
      fits = tensor->size(static_cast<std::int64_t>(dim)) == shape[dim];
    }
    STD_TORCH_CHECK(fits, "dovetail::physical_terms: an argument does not match the logits");
    storage.push_back(as_contiguous(*tensor));
    return storage.back().const_data_ptr();
  };
  constexpr ScalarType real = scalar_type_of<Real>;
  inputs.targets = static_cast<const std::int64_t*>(data(arguments.targets, ScalarType::Long, {inputs.samples}));
  inputs.penalties = static_cast<const Real*>(data(arguments.penalties, real, {inputs.samples, inputs.classes}));
  inputs.levels = static_cast<const Real*>(data(arguments.levels, real, {inputs.classes}));
  inputs.severity = static_cast<const Real*>(data(arguments.severity, real, {inputs.samples}));
  inputs.neighbours =
      static_cast<const std::int64_t*>(data(arguments.neighbours, ScalarType::Long, {inputs.samples, 2}));
  inputs.rates = static_cast<const Real*>(data(arguments.rates, real, {inputs.samples}));
  STD_TORCH_CHECK(arguments.levels.has_value() == arguments.severity.has_value() &&
                      arguments.neighbours.has_value() == arguments.rates.has_value(),
                  "dovetail::physical_terms: levels require severity, and neighbours require rates");
  for (int term = 0; term < term_count; ++term) {
    inputs.weights[term] = arguments.weights[term];
  }
  return inputs;
}

using Result = std::tuple<Tensor, Tensor, Tensor>;

template <class Backend, class Logit, class Real>
Result compute_terms(const Arguments& arguments, bool want_grad) {
  std::vector<Tensor> storage;
  const Inputs<Real> inputs = read_inputs<Real>(arguments, storage);
  const Tensor logits = as_contiguous(arguments.logits);
  Tensor total = allocate(logits, {}, scalar_type_of<Real>);
  Tensor parts = allocate(logits, {term_count}, scalar_type_of<Real>);
  Tensor grad = allocate(logits, {want_grad ? inputs.samples : 0, inputs.classes}, scalar_type_of<Real>);
  Backend::template compute<Logit, Real>(inputs, logits, static_cast<Real*>(total.mutable_data_ptr()),
                                         static_cast<Real*>(parts.mutable_data_ptr()),
                                         want_grad ? static_cast<Real*>(grad.mutable_data_ptr()) : nullptr);
  return {total, parts, grad};
}

// The op. `Backend::compute<Logit, Real>(inputs, logits, total, parts, grad)` writes the results of contiguous logits;
// `grad` is null if it is not wanted. `Backend::BFloat16` and `Backend::Half` are the backend's 16-bit types.
template <class Backend>
Result physical_terms(Tensor logits, std::optional<Tensor> targets, std::optional<Tensor> penalties,
                      std::optional<Tensor> levels, std::optional<Tensor> severity, std::optional<Tensor> neighbours,
                      std::optional<Tensor> rates, double classification, double frequency, double sommerfeld,
                      double temporal, bool want_grad) {
  const Arguments arguments{logits,   targets,    penalties, levels,
                            severity, neighbours, rates,     {classification, frequency, sommerfeld, temporal}};
  check_floating("physical_terms", logits.scalar_type());
  switch (logits.scalar_type()) {
    case ScalarType::Float:
      return compute_terms<Backend, float, float>(arguments, want_grad);
    case ScalarType::BFloat16:
      return compute_terms<Backend, typename Backend::BFloat16, float>(arguments, want_grad);
    case ScalarType::Half:
      return compute_terms<Backend, typename Backend::Half, float>(arguments, want_grad);
    default:
      return compute_terms<Backend, double, double>(arguments, want_grad);
  }
}

}  // namespace dovetail::physics
