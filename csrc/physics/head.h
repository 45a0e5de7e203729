// Cross-entropy and three physical terms of class logits z, with their gradient: what the CPU and the CUDA twin share.
//
//   q = softmax(z), over classes c, in N samples n
//   classification  mean over labelled n of  -log q_y
//   frequency       1/N  Σ_n Σ_c q_nc p_nc                            p: penalties
//   severity        1/N  Σ_n (Σ_c q_nc l_c - s_n)²                    l: levels of the classes, s: what is expected
//   smoothness      1/M  Σ_n r_n Σ_c (q_nc - q_mc)²                   m: the window before n, r: its rate; M such pairs
//
// and the total is Σ λ · term. Its gradient is that of cross-entropy plus q ∘ (v - <q, v>), v being the total's
// derivative by q.
#pragma once

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
#include <vector>

namespace dovetail::physics {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr int term_count = 4;
constexpr std::int64_t no_label = -100;

// Real is float32, or float64 where the logits are.
template <class Real>
struct Head {
  std::int64_t samples, classes;
  const std::int64_t* targets;       // [samples], or null
  const Real* penalties;             // [samples, classes], or null
  const Real* levels;                // [classes], or null together with severity
  const Real* severity;              // [samples]
  const std::int64_t* neighbours;    // [samples, 2]: the windows before and after, -1 for none; or null
  const Real* rates;                 // [samples], null together with neighbours
  double weights[term_count];
};

// What every sample's share of a mean is multiplied by in the gradient.
struct Scales {
  double labelled, frequency, severity, pairs;
};

DOVETAIL_HOST_DEVICE inline double share_of(double weight, std::int64_t count) {
  return count > 0 ? weight / static_cast<double>(count) : 0.0;
}

template <class Real>
DOVETAIL_HOST_DEVICE inline Scales scales_of(const Head<Real>& head, std::int64_t labelled, std::int64_t pairs) {
  return {share_of(head.weights[0], labelled), share_of(head.weights[1], head.samples),
          share_of(head.weights[2], head.samples), share_of(head.weights[3], pairs)};
}

// The neighbour of a sample, or -1 for none.
template <class Real>
DOVETAIL_HOST_DEVICE inline std::int64_t neighbour(const Head<Real>& head, std::int64_t sample, int side) {
  const std::int64_t found = head.neighbours == nullptr ? -1 : head.neighbours[2 * sample + side];
  return found < head.samples ? found : -1;
}

template <class Real>
DOVETAIL_HOST_DEVICE inline bool labelled(const Head<Real>& head, std::int64_t sample) {
  return head.targets != nullptr && head.targets[sample] != no_label;
}

template <class Real>
constexpr ScalarType scalar_type_of = sizeof(Real) == sizeof(double) ? ScalarType::Double : ScalarType::Float;

struct Arguments {
  Tensor logits;
  std::optional<Tensor> targets, penalties, levels, severity, neighbours, rates;
  double weights[term_count];
};

// The arguments as the kernels want them; `keep` holds what had to be copied.
template <class Real>
Head<Real> make_head(const Arguments& arguments, std::vector<Tensor>& keep) {
  const Tensor& logits = arguments.logits;
  STD_TORCH_CHECK(logits.dim() == 2, "dovetail::physical_terms: the logits must be [samples, classes]");
  Head<Real> head{};
  head.samples = logits.size(0);
  head.classes = logits.size(1);
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
    STD_TORCH_CHECK(fits, "dovetail::physical_terms: an argument does not fit the logits");
    keep.push_back(as_contiguous(*tensor));
    return keep.back().const_data_ptr();
  };
  constexpr ScalarType real = scalar_type_of<Real>;
  head.targets = static_cast<const std::int64_t*>(data(arguments.targets, ScalarType::Long, {head.samples}));
  head.penalties = static_cast<const Real*>(data(arguments.penalties, real, {head.samples, head.classes}));
  head.levels = static_cast<const Real*>(data(arguments.levels, real, {head.classes}));
  head.severity = static_cast<const Real*>(data(arguments.severity, real, {head.samples}));
  head.neighbours = static_cast<const std::int64_t*>(data(arguments.neighbours, ScalarType::Long, {head.samples, 2}));
  head.rates = static_cast<const Real*>(data(arguments.rates, real, {head.samples}));
  STD_TORCH_CHECK(arguments.levels.has_value() == arguments.severity.has_value() &&
                      arguments.neighbours.has_value() == arguments.rates.has_value(),
                  "dovetail::physical_terms: levels go with severity, neighbours with rates");
  for (int term = 0; term < term_count; ++term) {
    head.weights[term] = arguments.weights[term];
  }
  return head;
}

}  // namespace dovetail::physics
