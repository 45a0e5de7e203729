// Memory layouts and allocation of tensors.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace dovetail {

// Return whether the elements fill a contiguous range of memory without gaps or overlaps, in any order of dimensions
// (contiguous, transposed, channels-last …). If order does not matter, such a tensor can be read as a flat array.
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

// Return the tensor if it is contiguous, else a contiguous copy; torch::stable::contiguous always uses the dispatcher.
inline torch::stable::Tensor as_contiguous(const torch::stable::Tensor& tensor) {
  return tensor.is_contiguous() ? tensor : torch::stable::contiguous(tensor);
}

// Return a new contiguous tensor of up to four dimensions on the device of `like`. torch::stable::new_empty uses the
// dispatcher, which takes several times as long.
inline torch::stable::Tensor allocate(const torch::stable::Tensor& like, std::initializer_list<std::int64_t> sizes,
                                      torch::headeronly::ScalarType dtype) {
  std::array<std::int64_t, 4> strides{};
  std::int64_t step = 1;
  for (std::size_t dim = sizes.size(); dim-- > 0;) {
    const std::int64_t size = sizes.begin()[dim];
    strides[dim] = step;
    step *= size > 0 ? size : 1;
  }
  std::int32_t device = 0;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device));
  AtenTensorHandle handle = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(
      static_cast<std::int64_t>(sizes.size()), sizes.begin(), strides.data(),
      torch::stable::detail::to<std::int32_t>(torch::stable::detail::from(dtype)), device, like.get_device_index(),
      &handle));
  return torch::stable::Tensor(handle);
}

// Return the tensor if it is dense, else a contiguous copy.
inline torch::stable::Tensor as_dense(const torch::stable::Tensor& tensor) {
  return is_dense(tensor) ? tensor : torch::stable::contiguous(tensor);
}

}  // namespace dovetail
