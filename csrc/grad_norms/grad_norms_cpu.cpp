// grad_norms on the CPU: schema, kernel, registration.
//
// Every tensor is cut into chunks of a fixed size; a chunk is summed in `lanes` fixed lanes of float64. Neither the
// number of threads nor the width of the vector unit changes the order of additions, so a result is the same, bit for
// bit, on every x86-64 level and with any number of threads (-ffp-contract=off keeps float64 from being fused).

#include "grad_norms.h"

#include "../common/clones.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

namespace dovetail::grad_norms {
namespace {

constexpr std::int64_t chunk_size = 1 << 15;
constexpr std::int64_t lanes = 64;

struct Partial {
  double sum;               // of squares
  double max_abs;           // NaN if there is one
  std::int64_t nonfinite;   // NaN and ±Inf
};

// How the bits of a dtype are read. With the sign cleared, the order of the bits as integers is the order of the
// magnitudes, with NaN above infinity: an integer maximum finds max |g| and lets NaN through.
struct F32 {
  using Bits = std::uint32_t;
  static constexpr Bits magnitude = 0x7fffffffU;
  static constexpr Bits infinity = 0x7f800000U;
  static float value(Bits bits) {
    float result;
    std::memcpy(&result, &bits, sizeof(result));
    return result;
  }
};

struct F64 {
  using Bits = std::uint64_t;
  static constexpr Bits magnitude = 0x7fffffffffffffffULL;
  static constexpr Bits infinity = 0x7ff0000000000000ULL;
  static double value(Bits bits) {
    double result;
    std::memcpy(&result, &bits, sizeof(result));
    return result;
  }
};

struct BF16 {
  using Bits = std::uint16_t;
  static constexpr Bits magnitude = 0x7fffU;
  static constexpr Bits infinity = 0x7f80U;
  static float value(Bits bits) { return F32::value(static_cast<std::uint32_t>(bits) << 16); }
};

struct F16 {
  using Bits = std::uint16_t;
  static constexpr Bits magnitude = 0x7fffU;
  static constexpr Bits infinity = 0x7c00U;
  // Moving the bits into a float's place scales by 2^-112, subnormals included; multiplying takes that back exactly.
  // The largest exponent means Inf or NaN and is put where a float keeps those.
  static float value(Bits bits) {
    const std::uint32_t wide = static_cast<std::uint32_t>(bits) << 13;
    const float finite = F32::value(wide) * 0x1p112F;
    const float special = F32::value(wide | F32::infinity);
    return bits >= infinity ? special : finite;
  }
};

// One row of `lanes` elements into the lanes. Three short loops, because each has one element width and so fills the
// vector unit; the row stays in registers or the first cache.
template <class Format>
inline __attribute__((always_inline)) void add_row(const typename Format::Bits* bits, std::int64_t width, double* sums,
                                                   typename Format::Bits* largest, typename Format::Bits* broken) {
  using Bits = typename Format::Bits;
  using Value = decltype(Format::value(Bits{}));
  Bits magnitudes[lanes];
  Value values[lanes];
#pragma omp simd
  for (std::int64_t lane = 0; lane < width; ++lane) {
    magnitudes[lane] = static_cast<Bits>(bits[lane] & Format::magnitude);
    largest[lane] = magnitudes[lane] > largest[lane] ? magnitudes[lane] : largest[lane];
    broken[lane] = static_cast<Bits>(broken[lane] + (magnitudes[lane] >= Format::infinity ? 1 : 0));
  }
#pragma omp simd
  for (std::int64_t lane = 0; lane < width; ++lane) {
    values[lane] = Format::value(magnitudes[lane]);
  }
#pragma omp simd
  for (std::int64_t lane = 0; lane < width; ++lane) {
    const double value = static_cast<double>(values[lane]);
    sums[lane] += value * value;
  }
}

template <class Format>
inline __attribute__((always_inline)) Partial scan(const void* data, std::int64_t count) {
  using Bits = typename Format::Bits;
  const auto* bits = static_cast<const Bits*>(data);
  double sums[lanes] = {};
  Bits largest[lanes] = {};
  Bits broken[lanes] = {};    // at most chunk_size / lanes each: fits 16 bits
  const std::int64_t whole = count - count % lanes;
  for (std::int64_t start = 0; start < whole; start += lanes) {
    add_row<Format>(bits + start, lanes, sums, largest, broken);
  }
  add_row<Format>(bits + whole, count - whole, sums, largest, broken);
  Partial partial{0.0, 0.0, 0};
  Bits top = 0;
  for (std::int64_t lane = 0; lane < lanes; ++lane) {
    partial.sum += sums[lane];
    top = largest[lane] > top ? largest[lane] : top;
    partial.nonfinite += static_cast<std::int64_t>(broken[lane]);
  }
  partial.max_abs = static_cast<double>(Format::value(top));
  return partial;
}

// One function per dtype, because target_clones does not apply to templates.
DOVETAIL_CLONES Partial scan_f32(const void* data, std::int64_t count) { return scan<F32>(data, count); }
DOVETAIL_CLONES Partial scan_f64(const void* data, std::int64_t count) { return scan<F64>(data, count); }
DOVETAIL_CLONES Partial scan_bf16(const void* data, std::int64_t count) { return scan<BF16>(data, count); }
DOVETAIL_CLONES Partial scan_f16(const void* data, std::int64_t count) { return scan<F16>(data, count); }

using Scan = Partial (*)(const void*, std::int64_t);

std::pair<Scan, std::int64_t> scan_and_item_size(ScalarType dtype) {
  switch (dtype) {
    case ScalarType::Float:
      return {scan_f32, 4};
    case ScalarType::BFloat16:
      return {scan_bf16, 2};
    case ScalarType::Half:
      return {scan_f16, 2};
    default:
      return {scan_f64, 8};
  }
}

struct Chunk {
  const void* data;
  std::int64_t count;
  Scan scan;
};

Result grad_norms(std::vector<Tensor> grads) {
  const std::vector<Flat> flats = flatten(grads);
  std::vector<Chunk> chunks;
  std::vector<std::size_t> ends;    // of each tensor's chunks
  ends.reserve(flats.size());
  std::int64_t total_numel = 0;
  for (const Flat& flat : flats) {
    const auto [scan, item_size] = scan_and_item_size(flat.dtype);
    const auto* data = static_cast<const char*>(flat.data);
    for (std::int64_t start = 0; start < flat.numel; start += chunk_size) {
      chunks.push_back(Chunk{data + start * item_size, std::min(chunk_size, flat.numel - start), scan});
    }
    ends.push_back(chunks.size());
    total_numel += flat.numel;
  }

  std::vector<Partial> partials(chunks.size());
  // For two chunks' worth of elements a second thread costs more than it saves.
  const auto chunk_count = static_cast<std::int64_t>(chunks.size());
  const std::int64_t grain = total_numel <= 2 * chunk_size ? chunk_count : 1;
  torch::stable::parallel_for(0, chunk_count, grain,
                              [&](std::int64_t begin, std::int64_t end) {
                                for (std::int64_t index = begin; index < end; ++index) {
                                  const Chunk& chunk = chunks[static_cast<std::size_t>(index)];
                                  partials[static_cast<std::size_t>(index)] = chunk.scan(chunk.data, chunk.count);
                                }
                              });

  Result result = new_result(grads.front(), static_cast<std::int64_t>(flats.size()));
  auto* norms = static_cast<double*>(std::get<0>(result).mutable_data_ptr());
  auto* max_abs = static_cast<double*>(std::get<1>(result).mutable_data_ptr());
  auto* nonfinite = static_cast<std::int64_t*>(std::get<2>(result).mutable_data_ptr());
  double total = 0.0;
  std::size_t index = 0;
  for (std::size_t tensor = 0; tensor < flats.size(); ++tensor) {
    Partial all{0.0, 0.0, 0};
    for (; index < ends[tensor]; ++index) {
      const Partial& partial = partials[index];
      all.sum += partial.sum;
      if (partial.max_abs > all.max_abs || std::isnan(partial.max_abs)) {
        all.max_abs = partial.max_abs;
      }
      all.nonfinite += partial.nonfinite;
    }
    norms[tensor] = std::sqrt(all.sum);
    max_abs[tensor] = all.max_abs;
    nonfinite[tensor] = all.nonfinite;
    total += all.sum;
  }
  *static_cast<double*>(std::get<3>(result).mutable_data_ptr()) = std::sqrt(total);
  return result;
}

}  // namespace
}  // namespace dovetail::grad_norms

STABLE_TORCH_LIBRARY_FRAGMENT(dovetail, library) {
  library.def("grad_norms(Tensor[] grads) -> (Tensor norms, Tensor max_abs, Tensor nonfinite, Tensor total)");
}

STABLE_TORCH_LIBRARY_IMPL(dovetail, CPU, library) {
  library.impl("grad_norms", TORCH_BOX(&dovetail::grad_norms::grad_norms));
}
