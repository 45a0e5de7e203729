// count_right on CUDA: one launch after the result is zeroed, no host synchronisation.
//
// A warp takes a row, a lane every 32nd score. Counts are integers, so the order in which blocks add theirs makes no
// difference.

#include "count_right.h"

#include "../common/cuda.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>

namespace dovetail::count_right {
namespace {

constexpr int block_size = 256;
constexpr int warps = block_size / warp_size;
constexpr std::int64_t most_blocks = 2048;    // enough to fill any GPU; a block goes on with further rows

__device__ inline float comparable(float score) { return score; }
__device__ inline double comparable(double score) { return score; }
__device__ inline float comparable(__nv_bfloat16 score) { return __bfloat162float(score); }
__device__ inline float comparable(__half score) { return __half2float(score); }

template <class Score>
__global__ void __launch_bounds__(block_size)
    count_rows(const __grid_constant__ Labels labels, const Score* scores, unsigned long long* result) {
  __shared__ unsigned long long of_block[2];
  if (threadIdx.x < 2) {
    of_block[threadIdx.x] = 0;
  }
  __syncthreads();
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  unsigned long long right = 0;
  unsigned long long total = 0;
  for (std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * warps + threadIdx.x / warp_size; row < labels.rows;
       row += static_cast<std::int64_t>(gridDim.x) * warps) {
    if (!labels.counts(row)) {
      continue;
    }
    ++total;
    const std::int64_t label = labels.labels[row];
    if (label < 0 || label >= labels.classes) {
      continue;
    }
    const Score* own_row = scores + row * labels.classes;
    const auto own = comparable(own_row[label]);
    bool beaten = false;
    for (std::int64_t other = lane; other < labels.classes; other += warp_size) {
      const auto score = comparable(own_row[other]);
      beaten = beaten || (other < label && beaten_from_before(own, score)) ||
               (other > label && beaten_from_behind(own, score));
    }
    right += __any_sync(0xffffffffU, beaten) != 0 ? 0 : 1;
  }
  if (lane == 0) {
    atomicAdd(&of_block[0], right);
    atomicAdd(&of_block[1], total);
  }
  __syncthreads();
  if (threadIdx.x < 2 && of_block[threadIdx.x] != 0) {
    atomicAdd(&result[threadIdx.x], of_block[threadIdx.x]);
  }
}

template <class Score>
void launch(const Labels& labels, const void* scores, unsigned long long* result, cudaStream_t stream) {
  const auto blocks = static_cast<unsigned>(std::min((labels.rows + warps - 1) / warps, most_blocks));
  count_rows<<<blocks, block_size, 0, stream>>>(labels, static_cast<const Score*>(scores), result);
  check_launch("count_rows");
}

Tensor count_right(Tensor logits, Tensor targets, std::optional<Tensor> mask, std::int64_t ignore_index) {
  const torch::stable::accelerator::DeviceGuard guard(logits.get_device_index());
  const cudaStream_t stream = current_stream(logits);
  Tensor keep_labels;
  Tensor keep_mask;
  const Labels labels = read_labels(logits, targets, mask, ignore_index, keep_labels, keep_mask);
  const Tensor scores = as_contiguous(logits);
  Tensor result = empty_beside(logits, {2}, ScalarType::Long);
  auto* out = static_cast<unsigned long long*>(result.mutable_data_ptr());
  const cudaError_t error = cudaMemsetAsync(out, 0, 2 * sizeof(*out), stream);
  STD_TORCH_CHECK(error == cudaSuccess, "dovetail: zeroing the counts failed: ", cudaGetErrorString(error));
  if (labels.rows == 0) {
    return result;
  }
  switch (scores.scalar_type()) {
    case ScalarType::Float:
      launch<float>(labels, scores.const_data_ptr(), out, stream);
      break;
    case ScalarType::Double:
      launch<double>(labels, scores.const_data_ptr(), out, stream);
      break;
    case ScalarType::BFloat16:
      launch<__nv_bfloat16>(labels, scores.const_data_ptr(), out, stream);
      break;
    default:    // the last that read_labels lets through
      launch<__half>(labels, scores.const_data_ptr(), out, stream);
  }
  return result;
}

}  // namespace
}  // namespace dovetail::count_right

STABLE_TORCH_LIBRARY_IMPL(dovetail, CUDA, library) {
  library.impl("count_right", TORCH_BOX(&dovetail::count_right::count_right));
}
