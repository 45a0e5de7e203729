// Helpers for CUDA kernels: torch's current stream, launch errors, and warp reductions in a fixed order.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include <cuda_runtime_api.h>

namespace dovetail {

constexpr int warp_size = 32;

inline cudaStream_t current_stream(const torch::stable::Tensor& tensor) {
  void* handle = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &handle));
  return static_cast<cudaStream_t>(handle);
}

inline void check_launch(const char* kernel) {
  const cudaError_t error = cudaGetLastError();
  STD_TORCH_CHECK(error == cudaSuccess, "dovetail: launching ", kernel, " failed: ", cudaGetErrorString(error));
}

// Return the sum over a warp, in every lane.
template <class Value>
__device__ inline Value warp_sum(Value value) {
  for (int offset = warp_size / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(0xffffffffU, value, offset);
  }
  return value;
}

// Return the maximum over a warp, in every lane.
template <class Value>
__device__ inline Value warp_max(Value value) {
  for (int offset = warp_size / 2; offset > 0; offset /= 2) {
    const Value other = __shfl_xor_sync(0xffffffffU, value, offset);
    value = other > value ? other : value;
  }
  return value;
}

}  // namespace dovetail
