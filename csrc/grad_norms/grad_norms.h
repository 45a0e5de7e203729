// grad_norms: the op, and what its CPU and CUDA implementations have in common.
#pragma once

#include "../common/dtypes.h"
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

// The number of elements that one thread (CPU) or one thread block (CUDA) reduces before partial results are combined.
constexpr std::int64_t chunk_size = 1 << 15;

// Squares of magnitudes in this range can be summed in float32: they do not overflow, and those that underflow are
// below the rounding of the largest. All others are summed in float64, on a slow path.
constexpr std::uint32_t smallest_fast = 0x2b800000U;    // 2^-40
constexpr std::uint32_t largest_fast = 0x5b800000U;     // 2^56
constexpr std::uint32_t infinity_bits = 0x7f800000U;

// Bins of the histogram of norms: below the first edge, between edges, and from the last edge on, which includes NaN.
// HISTOGRAM_EDGES in src/dovetail/ops/_grad_norms.py has the same numbers.
constexpr int edge_count = 25;
constexpr int bin_count = edge_count + 1;

DOVETAIL_HOST_DEVICE inline int bin_of(double norm) {
  constexpr double edges[edge_count] = {1e-8, 3e-8, 1e-7, 3e-7, 1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2,
                                        3e-2, 1e-1, 3e-1, 1e0,  3e0,  1e1,  3e1,  1e2,  3e2,  1e3,  3e3,  1e4};
  int bin = 0;
  for (int edge = 0; edge < edge_count; ++edge) {
    bin += norm < edges[edge] ? 0 : 1;    // NaN is counted as large
  }
  return bin;
}

// Return min(1, max_norm / (total + 1e-6)), as torch.nn.utils.clip_grads_with_norm_ does; NaN for a NaN total.
DOVETAIL_HOST_DEVICE inline double clip_coefficient(double total, double max_norm) {
  const double coefficient = max_norm / (total + 1e-6);
  return coefficient > 1.0 ? 1.0 : coefficient;
}

// The results of the op are packed, so that they need only two allocations and two copies to the host:
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
  return {allocate(like, {2 * count + 5}, ScalarType::Double),
          allocate(like, {3 * count + bin_count}, ScalarType::Long)};
}

inline Layout layout_of(const Result& result, std::int64_t count) {
  auto* values = static_cast<double*>(std::get<0>(result).mutable_data_ptr());
  auto* counts = static_cast<long long*>(std::get<1>(result).mutable_data_ptr());
  return {values, values + count, values + 2 * count, counts, counts + count, counts + 2 * count, counts + 3 * count};
}

// A tensor as flat memory. `storage` owns the memory, a copy if the tensor was not dense.
struct Flat {
  Tensor storage;
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
    check_floating("grad_norms", dtype);
    Tensor dense = as_dense(grad);
    const std::int64_t numel = dense.numel();
    const void* data = dense.const_data_ptr();
    flats.push_back(Flat{std::move(dense), data, numel, dtype});
  }
  return flats;
}

// The op. `Backend::reduce(flats, max_norm, out)` writes the statistics to `out`.
template <class Backend>
Result grad_norms(std::vector<Tensor> grads, double max_norm) {
  const std::vector<Flat> flats = flatten(grads);
  const auto count = static_cast<std::int64_t>(flats.size());
  Result result = new_result(grads.front(), count);
  Backend::reduce(flats, max_norm, layout_of(result, count));
  return result;
}

}  // namespace dovetail::grad_norms
