// Memory layouts of tensors, by sizes and strides alone.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

namespace dovetail {

// True if the elements fill one stretch of memory without gaps or overlaps, in whatever order of dimensions
// (contiguous, transposed, channels-last …). Such a tensor can be walked as a flat array when order does not matter.
inline bool is_dense(const torch::stable::Tensor& tensor) {
  constexpr std::size_t max_dims = 16;
  const auto dims = static_cast<std::size_t>(tensor.dim());
  if (tensor.is_contiguous()) {
    return true;
  }
  if (dims > max_dims) {
    return false;
  }
  const auto sizes = tensor.sizes();
  const auto strides = tensor.strides();
  std::array<std::size_t, max_dims> order{};
  std::size_t count = 0;
  for (std::size_t dim = 0; dim < dims; ++dim) {
    if (sizes[dim] == 0) {
      return true;
    }
    if (sizes[dim] > 1) {
      order[count++] = dim;
    }
  }
  std::sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(count),
            [&](std::size_t left, std::size_t right) { return strides[left] < strides[right]; });
  std::int64_t expected = 1;
  for (std::size_t position = 0; position < count; ++position) {
    if (strides[order[position]] != expected) {
      return false;
    }
    expected *= sizes[order[position]];
  }
  return true;
}

// The tensor itself if it is dense, else a contiguous copy.
inline torch::stable::Tensor as_dense(const torch::stable::Tensor& tensor) {
  return is_dense(tensor) ? tensor : torch::stable::contiguous(tensor);
}

}  // namespace dovetail
