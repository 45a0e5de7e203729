// Statistics of a list of gradients in one pass: what the CPU and the CUDA twin share.
#pragma once

#include "../common/memory.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <cstdint>
#include <tuple>
#include <vector>

namespace dovetail::grad_norms {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// norms [N] float64, max_abs [N] float64, nonfinite [N] int64, total [] float64
using Result = std::tuple<Tensor, Tensor, Tensor, Tensor>;

inline Result new_result(const Tensor& like, std::int64_t count) {
  const std::vector<std::int64_t> shape{count};
  const std::vector<std::int64_t> scalar{};
  return {torch::stable::new_empty(like, shape, ScalarType::Double),
          torch::stable::new_empty(like, shape, ScalarType::Double),
          torch::stable::new_empty(like, shape, ScalarType::Long),
          torch::stable::new_empty(like, scalar, ScalarType::Double)};
}

// One tensor as flat memory. `keep` holds the copy that a strided tensor needed.
struct Flat {
  Tensor keep;
  const void* data;
  std::int64_t numel;
  ScalarType dtype;
};

inline std::vector<Flat> flatten(const std::vector<Tensor>& grads) {
  STD_TORCH_CHECK(!grads.empty(), "dovetail::grad_norms: the list of gradients is empty");
  const auto device = grads.front().device();
  std::vector<Flat> flats;
  flats.reserve(grads.size());
  for (const Tensor& grad : grads) {
    STD_TORCH_CHECK(grad.device() == device, "dovetail::grad_norms: all gradients must be on one device");
    const ScalarType dtype = grad.scalar_type();
    STD_TORCH_CHECK(dtype == ScalarType::Float || dtype == ScalarType::BFloat16 || dtype == ScalarType::Half ||
                        dtype == ScalarType::Double,
                    "dovetail::grad_norms: float32, bfloat16, float16 and float64 only, got ",
                    torch::headeronly::toString(dtype));
    Tensor dense = as_dense(grad);
    const std::int64_t numel = dense.numel();
    const void* data = dense.const_data_ptr();
    flats.push_back(Flat{std::move(dense), data, numel, dtype});
  }
  return flats;
}

}  // namespace dovetail::grad_norms
