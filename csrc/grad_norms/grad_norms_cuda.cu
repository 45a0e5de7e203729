// grad_norms on CUDA: two launches per 1,024 tensors, without host synchronisation or atomics on device memory.
//
// In the first kernel, each block reduces a chunk of a fixed size in a fixed order: a thread sums its few squares in
// float32 if their magnitudes allow it, else in float64; all other sums are float64. The second kernel, a single block,
// combines the chunks of each tensor and then the tensors. The launch parameters contain the table of pointers, so the
// op copies nothing to the device and can be captured in a CUDA graph.

#include "grad_norms.h"

#include "../common/cuda.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>

namespace dovetail::grad_norms {
namespace {

constexpr int max_tensors = 1024;    // the table must fit in the 32,764 bytes of launch parameters
constexpr int block_size = 512;
constexpr int warps = block_size / warp_size;
constexpr std::uintptr_t vector_bytes = 16;

enum class Format : std::uint8_t { f32, f64, bf16, f16 };

struct Table {
  const void* data[max_tensors];
  std::int64_t numel[max_tensors];
  std::uint32_t first_chunk[max_tensors + 1];
  Format format[max_tensors];
  int count;
};
static_assert(sizeof(Table) + sizeof(Layout) + 64 <= 32764, "the table of tensors must fit in the launch parameters");

struct Partial {
  double sum;         // of squares
  double max_abs;     // NaN if an element is NaN
  long long zeros;
  long long nans;
  long long infs;
};

__device__ inline float as_float(float value) { return value; }
__device__ inline float as_float(__nv_bfloat16 value) { return __bfloat162float(value); }
__device__ inline float as_float(__half value) { return __half2float(value); }
__device__ inline double as_double(double value) { return value; }
template <class Scalar>
__device__ inline double as_double(Scalar value) {
  return static_cast<double>(as_float(value));
}

__device__ inline double larger(double left, double right) {
  return (right > left || isnan(right)) ? right : left;    // keeps a NaN on the left: comparisons with it are false
}

__device__ inline Partial merge(const Partial& left, const Partial& right) {
  return {left.sum + right.sum, larger(left.max_abs, right.max_abs), left.zeros + right.zeros, left.nans + right.nans,
          left.infs + right.infs};
}

// Return the combination over a warp in lane 0, always in the same order.
__device__ inline Partial reduce_warp(Partial partial) {
  for (int offset = warp_size / 2; offset > 0; offset /= 2) {
    const Partial other{__shfl_down_sync(0xffffffffU, partial.sum, offset),
                        __shfl_down_sync(0xffffffffU, partial.max_abs, offset),
                        __shfl_down_sync(0xffffffffU, partial.zeros, offset),
                        __shfl_down_sync(0xffffffffU, partial.nans, offset),
                        __shfl_down_sync(0xffffffffU, partial.infs, offset)};
    partial = merge(partial, other);
  }
  return partial;
}

// Return the combination over a block in thread 0.
__device__ inline Partial reduce_block(Partial partial) {
  __shared__ Partial warp_partials[warps];
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  partial = reduce_warp(partial);
  if (lane == 0) {
    warp_partials[warp] = partial;
  }
  __syncthreads();
  if (warp == 0) {
    partial = reduce_warp(lane < warps ? warp_partials[lane] : Partial{});
  }
  return partial;
}

// Call `take` with each element of a chunk that belongs to this thread: the same elements with and without vector
// loads.
template <class Scalar, class Take>
__device__ inline void visit(const Scalar* data, std::int64_t count, Take take) {
  constexpr int width = vector_bytes / sizeof(Scalar);
  struct alignas(vector_bytes) Vector {
    Scalar items[width];
  };
  const bool aligned = reinterpret_cast<std::uintptr_t>(data) % vector_bytes == 0;
#pragma unroll 4
  for (std::int64_t start = static_cast<std::int64_t>(threadIdx.x) * width; start < count;
       start += static_cast<std::int64_t>(block_size) * width) {
    if (aligned && start + width <= count) {
      const Vector vector = *reinterpret_cast<const Vector*>(data + start);
#pragma unroll
      for (int item = 0; item < width; ++item) {
        take(vector.items[item]);
      }
    } else {
      for (int item = 0; item < width && start + item < count; ++item) {
        take(data[start + item]);
      }
    }
  }
}

// Reduce any values in float64.
template <class Scalar>
__device__ Partial scan_slowly(const Scalar* data, std::int64_t count) {
  Partial partial{};
  visit(data, count, [&](Scalar item) {
    const double magnitude = fabs(as_double(item));
    partial.sum += magnitude * magnitude;
    partial.max_abs = larger(partial.max_abs, magnitude);
    partial.zeros += magnitude == 0.0 ? 1 : 0;
    partial.nans += isnan(magnitude) ? 1 : 0;
    partial.infs += isinf(magnitude) ? 1 : 0;
  });
  return partial;
}

// Reduce at most chunk_size / block_size = 64 squares per thread: the rounding error of float32 is at most 4e-6. As
// integers, the bits of magnitudes have the order of the magnitudes, with NaN above infinity.
template <class Scalar>
__device__ Partial scan(const Scalar* data, std::int64_t count) {
  float sum = 0.0F;
  unsigned top = 0;
  int zeros = 0;
  visit(data, count, [&](Scalar item) {
    const float magnitude = fabsf(as_float(item));
    const unsigned bits = __float_as_uint(magnitude);
    sum += magnitude * magnitude;
    top = bits > top ? bits : top;
    zeros += bits == 0 ? 1 : 0;
  });
  if (top != 0 && (top < smallest_fast || top > largest_fast)) {
    return scan_slowly(data, count);
  }
  return {static_cast<double>(sum), static_cast<double>(__uint_as_float(top)), zeros, 0, 0};
}

template <>
__device__ Partial scan<double>(const double* data, std::int64_t count) {
  return scan_slowly(data, count);
}

__device__ inline int tensor_of_chunk(const Table& table, std::uint32_t chunk) {
  int low = 0;
  int high = table.count;
  while (high - low > 1) {    // find the last tensor whose first chunk is not after this one
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
  Partial partial{};
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

__device__ inline double smaller(double left, double right) { return (right < left || isnan(right)) ? right : left; }

// Compute the statistics over the tensors of all tables; warp 0 sums in a fixed order.
__device__ void summarise(const Layout& out, const double* squares, int count, double max_norm) {
  __shared__ unsigned bins[bin_count];
  for (int bin = static_cast<int>(threadIdx.x); bin < bin_count; bin += block_size) {
    bins[bin] = 0;
  }
  __syncthreads();
  for (int tensor = static_cast<int>(threadIdx.x); tensor < count; tensor += block_size) {
    atomicAdd(&bins[bin_of(out.norms[tensor])], 1U);    // integers: the order does not matter
  }
  __syncthreads();
  for (int bin = static_cast<int>(threadIdx.x); bin < bin_count; bin += block_size) {
    out.histogram[bin] = static_cast<long long>(bins[bin]);
  }
  if (threadIdx.x < warp_size) {
    double square = 0.0;
    double sum = 0.0;
    double minimum = INFINITY;
    double maximum = 0.0;
    for (int tensor = static_cast<int>(threadIdx.x); tensor < count; tensor += warp_size) {
      const double norm = out.norms[tensor];
      square += squares[tensor];
      sum += norm;
      minimum = smaller(minimum, norm);
      maximum = larger(maximum, norm);
    }
    for (int offset = warp_size / 2; offset > 0; offset /= 2) {
      square += __shfl_down_sync(0xffffffffU, square, offset);
      sum += __shfl_down_sync(0xffffffffU, sum, offset);
      minimum = smaller(minimum, __shfl_down_sync(0xffffffffU, minimum, offset));
      maximum = larger(maximum, __shfl_down_sync(0xffffffffU, maximum, offset));
    }
    if (threadIdx.x == 0) {
      const double total = sqrt(square);
      out.summary[0] = total;
      out.summary[1] = clip_coefficient(total, max_norm);
      out.summary[2] = minimum;
      out.summary[3] = sum / count;
      out.summary[4] = maximum;
    }
  }
}

// Combine the chunks of tensors, a warp per tensor. `begin` is the first tensor of this table. The launch for the last
// table also summarises all tensors; stream order makes that safe.
__global__ void __launch_bounds__(block_size)
    fold_tensors(const __grid_constant__ Table table, const Partial* partials, const __grid_constant__ Layout out,
                 double* squares, int begin, int count, double max_norm) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  for (int tensor = warp; tensor < table.count; tensor += warps) {
    Partial partial{};
    const std::uint32_t end = table.first_chunk[tensor + 1];
    for (std::uint32_t chunk = table.first_chunk[tensor] + static_cast<std::uint32_t>(lane); chunk < end;
         chunk += warp_size) {
      partial = merge(partial, partials[chunk]);
    }
    partial = reduce_warp(partial);
    if (lane == 0) {
      out.norms[begin + tensor] = sqrt(partial.sum);
      out.max_abs[begin + tensor] = partial.max_abs;
      out.zeros[begin + tensor] = partial.zeros;
      out.nans[begin + tensor] = partial.nans;
      out.infs[begin + tensor] = partial.infs;
      squares[begin + tensor] = partial.sum;
    }
  }
  if (begin + table.count == count) {
    __syncthreads();
    summarise(out, squares, count, max_norm);
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

struct Cuda {
  static void reduce(const std::vector<Flat>& flats, double max_norm, const Layout& out);
};

void Cuda::reduce(const std::vector<Flat>& flats, double max_norm, const Layout& out) {
  const Tensor& first = flats.front().storage;
  const torch::stable::accelerator::DeviceGuard guard(first.get_device_index());
  const cudaStream_t stream = current_stream(first);
  const auto count = static_cast<std::int64_t>(flats.size());

  std::int64_t most_chunks = 0;    // of any table: tables run one after the other and reuse the scratch memory
  for (std::int64_t begin = 0; begin < count; begin += max_tensors) {
    std::int64_t chunks = 0;
    for (std::int64_t index = begin; index < std::min<std::int64_t>(count, begin + max_tensors); ++index) {
      chunks += (flats[static_cast<std::size_t>(index)].numel + chunk_size - 1) / chunk_size;
    }
    most_chunks = std::max(most_chunks, chunks);
  }
  constexpr std::int64_t words = sizeof(Partial) / sizeof(double);
  const Tensor scratch = allocate(first, {most_chunks * words + count}, ScalarType::Double);
  auto* partials = static_cast<Partial*>(scratch.mutable_data_ptr());
  auto* squares = static_cast<double*>(scratch.mutable_data_ptr()) + most_chunks * words;

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
    fold_tensors<<<1, block_size, 0, stream>>>(table, partials, out, squares, static_cast<int>(begin),
                                               static_cast<int>(count), max_norm);
    check_launch("fold_tensors");
  }
}

}  // namespace
}  // namespace dovetail::grad_norms

STABLE_TORCH_LIBRARY_IMPL(dovetail, CUDA, library) {
  library.impl("grad_norms", TORCH_BOX(&dovetail::grad_norms::grad_norms<dovetail::grad_norms::Cuda>));
}
