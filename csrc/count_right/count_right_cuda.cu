// count_right on CUDA: one launch after zeroing the result, without host synchronisation.
//
// A warp processes a row, and a lane every 32nd score. Counts are integers, so the order in which blocks add them does
// not change the result.

#include "count_right.h"

#include "../common/cuda.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>

namespace dovetail::count_right {
namespace {

constexpr int block_size = 256;
constexpr int warps = block_size / warp_size;
constexpr std::int64_t max_blocks = 2048;    // enough to fill any GPU; a block processes several rows if necessary

__device__ inline float comparable(float score) { return score; }
__device__ inline double comparable(double score) { return score; }
__device__ inline float comparable(__nv_bfloat16 score) { return __bfloat162float(score); }
__device__ inline float comparable(__half score) { return __half2float(score); }

template <class Score>
__global__ void __launch_bounds__(block_size)
    count_rows(const __grid_constant__ Labels labels, const Score* scores, unsigned long long* result) {
  __shared__ unsigned long long block_counts[2];
  if (threadIdx.x < 2) {
    block_counts[threadIdx.x] = 0;
  }
  __syncthreads();
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  unsigned long long correct = 0;
  unsigned long long counted = 0;
  for (std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * warps + threadIdx.x / warp_size; row < labels.rows;
       row += static_cast<std::int64_t>(gridDim.x) * warps) {
    if (!labels.counts(row)) {
      continue;
    }
    ++counted;
    const std::int64_t label = labels.labels[row];
    if (label < 0 || label >= labels.classes) {
      continue;
    }
    const Score* own_row = scores + row * labels.classes;
    const auto own = comparable(own_row[label]);
    bool exceeded = false;
    for (std::int64_t other = lane; other < labels.classes; other += warp_size) {
      const auto score = comparable(own_row[other]);
      exceeded = exceeded || (other < label && exceeded_before(own, score)) ||
                 (other > label && exceeded_after(own, score));
    }
    correct += __any_sync(0xffffffffU, exceeded) != 0 ? 0 : 1;
  }
  if (lane == 0) {
    atomicAdd(&block_counts[0], correct);
    atomicAdd(&block_counts[1], counted);
  }
  __syncthreads();
  if (threadIdx.x < 2 && block_counts[threadIdx.x] != 0) {
    atomicAdd(&result[threadIdx.x], block_counts[threadIdx.x]);
  }
}

template <class Score>
void launch(const Labels& labels, const void* scores, unsigned long long* result, cudaStream_t stream) {
  const auto blocks = static_cast<unsigned>(std::min((labels.rows + warps - 1) / warps, max_blocks));
  count_rows<<<blocks, block_size, 0, stream>>>(labels, static_cast<const Score*>(scores), result);
  check_launch("count_rows");
}

struct Cuda {
  static void count(const Labels& labels, const Tensor& scores, std::int64_t* result) {
    const torch::stable::accelerator::DeviceGuard guard(scores.get_device_index());
    const cudaStream_t stream = current_stream(scores);
    auto* counts = reinterpret_cast<unsigned long long*>(result);
    const cudaError_t error = cudaMemsetAsync(counts, 0, 2 * sizeof(*counts), stream);
    STD_TORCH_CHECK(error == cudaSuccess, "dovetail: zeroing the counts failed: ", cudaGetErrorString(error));
    if (labels.rows == 0) {
      return;
    }
    switch (scores.scalar_type()) {
      case ScalarType::Float:
        return launch<float>(labels, scores.const_data_ptr(), counts, stream);
      case ScalarType::Double:
        return launch<double>(labels, scores.const_data_ptr(), counts, stream);
      case ScalarType::BFloat16:
        return launch<__nv_bfloat16>(labels, scores.const_data_ptr(), counts, stream);
      default:    // read_labels accepts only one other dtype
        return launch<__half>(labels, scores.const_data_ptr(), counts, stream);
    }
  }
};

}  // namespace
}  // namespace dovetail::count_right

STABLE_TORCH_LIBRARY_IMPL(dovetail, CUDA, library) {
  library.impl("count_right", TORCH_BOX(&dovetail::count_right::count_right<dovetail::count_right::Cuda>));
}
