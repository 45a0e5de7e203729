// grad_norms on CUDA: two launches per 1,024 tensors, no host synchronisation, no atomics.
//
// The first kernel reduces chunks of a fixed size, one block each, in float64 and in a fixed order; the second, a
// single block, folds the chunks of each tensor and then the tensors. The table of pointers travels in the launch's
// parameters, so nothing is copied to the device beforehand and a CUDA graph can hold the launches.

#include "grad_norms.h"

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <algorithm>

namespace dovetail::grad_norms {
namespace {

constexpr int max_tensors = 1024;    // whose table fits the 32,764 bytes of a launch's parameters
constexpr int block_size = 512;
constexpr int warp_size = 32;
constexpr int warps = block_size / warp_size;
constexpr std::int64_t chunk_size = 1 << 15;
constexpr std::uintptr_t vector_bytes = 16;

enum class Format : std::uint8_t { f32, f64, bf16, f16 };

struct Table {
  const void* data[max_tensors];
  std::int64_t numel[max_tensors];
  std::uint32_t first_chunk[max_tensors + 1];
  Format format[max_tensors];
  int count;
};
static_assert(sizeof(Table) + 64 <= 32764, "the table of tensors must fit the parameters of a launch");

struct Partial {
  double sum;               // of squares
  double max_abs;           // NaN if there is one
  long long nonfinite;      // NaN and ±Inf
};

__device__ inline double as_double(float value) { return static_cast<double>(value); }
__device__ inline double as_double(double value) { return value; }
__device__ inline double as_double(__nv_bfloat16 value) { return static_cast<double>(__bfloat162float(value)); }
__device__ inline double as_double(__half value) { return static_cast<double>(__half2float(value)); }

__device__ inline double larger(double left, double right) {
  return (right > left || isnan(right)) ? right : left;    // a NaN on the left stays: no comparison with it is true
}

__device__ inline void add(Partial& partial, double value) {
  const double magnitude = fabs(value);
  partial.sum += magnitude * magnitude;
  partial.max_abs = larger(partial.max_abs, magnitude);
  partial.nonfinite += isfinite(magnitude) ? 0 : 1;
}

__device__ inline Partial merge(const Partial& left, const Partial& right) {
  return {left.sum + right.sum, larger(left.max_abs, right.max_abs), left.nonfinite + right.nonfinite};
}

// The sum over a warp, in lane 0, always in the same order.
__device__ inline Partial reduce_warp(Partial partial) {
  for (int offset = warp_size / 2; offset > 0; offset /= 2) {
    const Partial other{__shfl_down_sync(0xffffffffU, partial.sum, offset),
                        __shfl_down_sync(0xffffffffU, partial.max_abs, offset),
                        __shfl_down_sync(0xffffffffU, partial.nonfinite, offset)};
    partial = merge(partial, other);
  }
  return partial;
}

// The sum over a block, in thread 0.
__device__ inline Partial reduce_block(Partial partial) {
  __shared__ Partial of_warp[warps];
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  partial = reduce_warp(partial);
  if (lane == 0) {
    of_warp[warp] = partial;
  }
  __syncthreads();
  if (warp == 0) {
    partial = reduce_warp(lane < warps ? of_warp[lane] : Partial{0.0, 0.0, 0});
  }
  return partial;
}

// This thread's share of a chunk. A thread takes the same elements whether or not the pointer allows vector loads.
template <class Scalar>
__device__ Partial scan(const Scalar* data, std::int64_t count) {
  constexpr int width = vector_bytes / sizeof(Scalar);
  struct alignas(vector_bytes) Vector {
    Scalar items[width];
  };
  Partial partial{0.0, 0.0, 0};
  const bool aligned = reinterpret_cast<std::uintptr_t>(data) % vector_bytes == 0;
  for (std::int64_t start = static_cast<std::int64_t>(threadIdx.x) * width; start < count;
       start += static_cast<std::int64_t>(block_size) * width) {
    if (aligned && start + width <= count) {
      const Vector vector = *reinterpret_cast<const Vector*>(data + start);
#pragma unroll
      for (int item = 0; item < width; ++item) {
        add(partial, as_double(vector.items[item]));
      }
    } else {
      for (int item = 0; item < width && start + item < count; ++item) {
        add(partial, as_double(data[start + item]));
      }
    }
  }
  return partial;
}

__device__ inline int tensor_of_chunk(const Table& table, std::uint32_t chunk) {
  int low = 0;
  int high = table.count;
  while (high - low > 1) {    // the last tensor whose first chunk is not after this one; empty tensors have no chunk
    const int middle = (low + high) / 2;
    if (table.first_chunk[middle] <= chunk) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

__global__ void __launch_bounds__(block_size) reduce_chunks(const __grid_constant__ Table table, Partial* partials) {
  const std::uint32_t chunk = blockIdx.x;
  const int tensor = tensor_of_chunk(table, chunk);
  const std::int64_t start = static_cast<std::int64_t>(chunk - table.first_chunk[tensor]) * chunk_size;
  const std::int64_t left = table.numel[tensor] - start;
  const std::int64_t count = left < chunk_size ? left : chunk_size;
  const void* data = table.data[tensor];
  Partial partial{0.0, 0.0, 0};
  switch (table.format[tensor]) {
    case Format::f32:
      partial = scan(static_cast<const float*>(data) + start, count);
      break;
    case Format::f64:
      partial = scan(static_cast<const double*>(data) + start, count);
      break;
    case Format::bf16:
      partial = scan(static_cast<const __nv_bfloat16*>(data) + start, count);
      break;
    case Format::f16:
      partial = scan(static_cast<const __half*>(data) + start, count);
      break;
  }
  partial = reduce_block(partial);
  if (threadIdx.x == 0) {
    partials[chunk] = partial;
  }
}

// One warp per tensor in turn, then warp 0 adds up the squared norms of all; `running` carries the sum of squares from
// one table to the next, which stream order makes safe.
__global__ void __launch_bounds__(block_size)
    fold_tensors(const __grid_constant__ Table table, const Partial* partials, double* norms, double* max_abs,
                 long long* nonfinite, double* squares, double* running, double* total, bool first) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  for (int tensor = warp; tensor < table.count; tensor += warps) {
    Partial partial{0.0, 0.0, 0};
    const std::uint32_t end = table.first_chunk[tensor + 1];
    for (std::uint32_t chunk = table.first_chunk[tensor] + static_cast<std::uint32_t>(lane); chunk < end;
         chunk += warp_size) {
      partial = merge(partial, partials[chunk]);
    }
    partial = reduce_warp(partial);
    if (lane == 0) {
      norms[tensor] = sqrt(partial.sum);
      max_abs[tensor] = partial.max_abs;
      nonfinite[tensor] = partial.nonfinite;
      squares[tensor] = partial.sum;
    }
  }
  __syncthreads();
  if (warp == 0) {
    Partial partial{0.0, 0.0, 0};
    for (int tensor = lane; tensor < table.count; tensor += warp_size) {
      partial.sum += squares[tensor];
    }
    partial = reduce_warp(partial);
    if (lane == 0) {
      const double sum = first ? partial.sum : *running + partial.sum;
      *running = sum;
      *total = sqrt(sum);
    }
  }
}

Format format_of(ScalarType dtype) {
  switch (dtype) {
    case ScalarType::Float:
      return Format::f32;
    case ScalarType::BFloat16:
      return Format::bf16;
    case ScalarType::Half:
      return Format::f16;
    default:
      return Format::f64;
  }
}

void check_launch(const char* kernel) {
  const cudaError_t error = cudaGetLastError();
  STD_TORCH_CHECK(error == cudaSuccess, "dovetail::grad_norms: launching ", kernel, " failed: ",
                  cudaGetErrorString(error));
}

Result grad_norms(std::vector<Tensor> grads) {
  const std::vector<Flat> flats = flatten(grads);
  const auto device = grads.front().get_device_index();
  const torch::stable::accelerator::DeviceGuard guard(device);
  void* stream_handle = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device, &stream_handle));
  const auto stream = static_cast<cudaStream_t>(stream_handle);

  const auto count = static_cast<std::int64_t>(flats.size());
  Result result = new_result(grads.front(), count);
  auto* norms = static_cast<double*>(std::get<0>(result).mutable_data_ptr());
  auto* max_abs = static_cast<double*>(std::get<1>(result).mutable_data_ptr());
  auto* nonfinite = static_cast<long long*>(std::get<2>(result).mutable_data_ptr());
  auto* total = static_cast<double*>(std::get<3>(result).mutable_data_ptr());

  std::int64_t most_chunks = 0;    // of any one table: tables run one after the other and share the scratch memory
  for (std::int64_t begin = 0; begin < count; begin += max_tensors) {
    std::int64_t chunks = 0;
    for (std::int64_t index = begin; index < std::min<std::int64_t>(count, begin + max_tensors); ++index) {
      chunks += (flats[static_cast<std::size_t>(index)].numel + chunk_size - 1) / chunk_size;
    }
    most_chunks = std::max(most_chunks, chunks);
  }
  constexpr std::int64_t words = sizeof(Partial) / sizeof(double);
  const std::vector<std::int64_t> scratch_shape{most_chunks * words + max_tensors + 1};
  const Tensor scratch = torch::stable::new_empty(grads.front(), scratch_shape, ScalarType::Double);
  auto* partials = static_cast<Partial*>(scratch.mutable_data_ptr());
  auto* squares = static_cast<double*>(scratch.mutable_data_ptr()) + most_chunks * words;
  auto* running = squares + max_tensors;

  for (std::int64_t begin = 0; begin < count; begin += max_tensors) {
    Table table{};
    table.count = static_cast<int>(std::min<std::int64_t>(count - begin, max_tensors));
    std::uint32_t chunks = 0;
    for (int tensor = 0; tensor < table.count; ++tensor) {
      const Flat& flat = flats[static_cast<std::size_t>(begin + tensor)];
      table.data[tensor] = flat.data;
      table.numel[tensor] = flat.numel;
      table.format[tensor] = format_of(flat.dtype);
      table.first_chunk[tensor] = chunks;
      chunks += static_cast<std::uint32_t>((flat.numel + chunk_size - 1) / chunk_size);
    }
    table.first_chunk[table.count] = chunks;
    if (chunks > 0) {
      reduce_chunks<<<chunks, block_size, 0, stream>>>(table, partials);
      check_launch("reduce_chunks");
    }
    fold_tensors<<<1, block_size, 0, stream>>>(table, partials, norms + begin, max_abs + begin, nonfinite + begin,
                                               squares, running, total, begin == 0);
    check_launch("fold_tensors");
  }
  return result;
}

}  // namespace
}  // namespace dovetail::grad_norms

STABLE_TORCH_LIBRARY_IMPL(dovetail, CUDA, library) {
  library.impl("grad_norms", TORCH_BOX(&dovetail::grad_norms::grad_norms));
}
