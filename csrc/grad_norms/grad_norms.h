// Statistics of a list of gradients in one pass: what the CPU and the CUDA twin share.
#pragma once

#include "../common/host_device.h"
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

// Elements that one thread (CPU) or one block of threads (CUDA) reduces before anything is folded.
constexpr std::int64_t chunk_size = 1 << 15;

// Squares of these magnitudes can be added up in float32: they do not overflow, and what underflows beside the largest
// of them is below its rounding. Everything else is added up in float64, at its leisure.
constexpr std::uint32_t smallest_fast = 0x2b800000U;    // 2^-40
constexpr std::uint32_t largest_fast = 0x5b800000U;     // 2^56
constexpr std::uint32_t infinity_bits = 0x7f800000U;

// Bins of the histogram of norms: below the first edge, from each edge to the next, from the last on (NaN included).
// HISTOGRAM_EDGES in src/dovetail/ops/_grad_norms.py has the same numbers.
constexpr int edge_count = 25;
constexpr int bin_count = edge_count + 1;

DOVETAIL_HOST_DEVICE inline int bin_of(double norm) {
  constexpr double edges[edge_count] = {1e-8, 3e-8, 1e-7, 3e-7, 1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2,
                                        3e-2, 1e-1, 3e-1, 1e0,  3e0,  1e1,  3e1,  1e2,  3e2,  1e3,  3e3,  1e4};
  int bin = 0;
  for (int edge = 0; edge < edge_count; ++edge) {
    bin += norm < edges[edge] ? 0 : 1;    // written so that NaN is counted as large
  }
  return bin;
}

// min(1, max_norm / (total + 1e-6)), as torch.nn.utils.clip_grads_with_norm_ has it; NaN for a NaN.
DOVETAIL_HOST_DEVICE inline double clip_coefficient(double total, double max_norm) {
  const double coefficient = max_norm / (total + 1e-6);
  return coefficient > 1.0 ? 1.0 : coefficient;
}

// Both results of the op are packed, so that they take two allocations and two copies to the host:
// values [2 N + 5] float64: norms, max_abs, total, clip_coef, minimum, mean, maximum
// counts [3 N + 26] int64: zeros, nans, infs, histogram
using Result = std::tuple<Tensor, Tensor>;

struct Layout {
  double* norms;
  double* max_abs;
  double* summary;
  long long* zeros;
  long long* nans;
  long long* infs;
  long long* histogram;
};

inline Result new_result(const Tensor& like, std::int64_t count) {
  return {empty_beside(like, {2 * count + 5}, ScalarType::Double),
          empty_beside(like, {3 * count + bin_count}, ScalarType::Long)};
}

inline Layout layout_of(const Result& result, std::int64_t count) {
  auto* values = static_cast<double*>(std::get<0>(result).mutable_data_ptr());
  auto* counts = static_cast<long long*>(std::get<1>(result).mutable_data_ptr());
  return {values, values + count, values + 2 * count, counts, counts + count, counts + 2 * count, counts + 3 * count};
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
