// grad_norms on the CPU: schema, kernel, registration.
//
// Tensors are divided into chunks, and chunks into blocks. The squares of a block are summed in a fixed number of
// float32 lanes, 128 per lane: the relative rounding error of a norm is at most 4e-6, in practice 1e-7. All other sums
// are float64. The order of additions depends neither on the number of threads nor on the width of the vector unit, so
// a result is the same bit for bit on every x86-64 level and with any number of threads (-ffp-contract=off prevents
// fused additions). A block with NaN, an infinity, or squares outside the range of float32 is read again in float64.

#include "grad_norms.h"

#include "../common/clones.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

namespace dovetail::grad_norms {
namespace {

constexpr std::int64_t block_size = 4096;
constexpr std::int64_t prefetch_bytes = 2048;

struct Partial {
  double sum = 0.0;        // of squares
  double max_abs = 0.0;    // NaN if an element is NaN
  std::int64_t zeros = 0;
  std::int64_t nans = 0;
  std::int64_t infs = 0;

  void add(const Partial& other) {
    sum += other.sum;
    if (other.max_abs > max_abs || __builtin_isnan(other.max_abs)) {
      max_abs = other.max_abs;
    }
    zeros += other.zeros;
    nans += other.nans;
    infs += other.infs;
  }
};

namespace baseline {
#include "scan_cpu.h"
}  // namespace baseline

#ifdef DOVETAIL_LEVELS
#pragma GCC push_options
#pragma GCC target("arch=x86-64-v3")
namespace v3 {
#include "scan_cpu.h"
}  // namespace v3
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("arch=x86-64-v4")
namespace v4 {
#include "scan_cpu.h"
}  // namespace v4
#pragma GCC pop_options

#define DOVETAIL_PICK(scan) (level() == 4 ? v4::scan : level() == 3 ? v3::scan : baseline::scan)
#else
#define DOVETAIL_PICK(scan) baseline::scan
#endif

using Scan = Partial (*)(const void*, std::int64_t);

std::pair<Scan, std::int64_t> scan_and_item_size(ScalarType dtype) {
  switch (dtype) {
    case ScalarType::Float:
      return {DOVETAIL_PICK(scan_f32), 4};
    case ScalarType::BFloat16:
      return {DOVETAIL_PICK(scan_bf16), 2};
    case ScalarType::Half:
      return {DOVETAIL_PICK(scan_f16), 2};
    default:
      return {DOVETAIL_PICK(scan_f64), 8};
  }
}

struct Chunk {
  const void* data;
  std::int64_t count;
  Scan scan;
};

struct Cpu {
  static void reduce(const std::vector<Flat>& flats, double max_norm, const Layout& out);
};

void Cpu::reduce(const std::vector<Flat>& flats, double max_norm, const Layout& out) {
  std::vector<Chunk> chunks;
  std::vector<std::size_t> ends;    // one past the last chunk of each tensor
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
  // For up to two chunks of elements, a second thread costs more than it saves.
  const auto chunk_count = static_cast<std::int64_t>(chunks.size());
  const std::int64_t grain = total_numel <= 2 * chunk_size ? chunk_count : 1;
  torch::stable::parallel_for(0, chunk_count, grain,
                              [&](std::int64_t begin, std::int64_t end) {
                                for (std::int64_t index = begin; index < end; ++index) {
                                  const Chunk& chunk = chunks[static_cast<std::size_t>(index)];
                                  partials[static_cast<std::size_t>(index)] = chunk.scan(chunk.data, chunk.count);
                                }
                              });

  std::fill_n(out.histogram, bin_count, 0LL);
  double squares = 0.0;
  double sum = 0.0;
  double minimum = std::numeric_limits<double>::infinity();
  double maximum = 0.0;
  std::size_t index = 0;
  for (std::size_t tensor = 0; tensor < flats.size(); ++tensor) {
    Partial all;
    for (; index < ends[tensor]; ++index) {
      all.add(partials[index]);
    }
    const double norm = std::sqrt(all.sum);
    out.norms[tensor] = norm;
    out.max_abs[tensor] = all.max_abs;
    out.zeros[tensor] = all.zeros;
    out.nans[tensor] = all.nans;
    out.infs[tensor] = all.infs;
    ++out.histogram[bin_of(norm)];
    squares += all.sum;
    sum += norm;
    minimum = norm < minimum || std::isnan(norm) ? norm : minimum;
    maximum = norm > maximum || std::isnan(norm) ? norm : maximum;
  }
  const double total = std::sqrt(squares);
  out.summary[0] = total;
  out.summary[1] = clip_coefficient(total, max_norm);
  out.summary[2] = minimum;
  out.summary[3] = sum / static_cast<double>(flats.size());
  out.summary[4] = maximum;
}

}  // namespace
}  // namespace dovetail::grad_norms

STABLE_TORCH_LIBRARY_FRAGMENT(dovetail, library) {
  library.def("grad_norms(Tensor[] grads, float max_norm) -> (Tensor values, Tensor counts)");
}

STABLE_TORCH_LIBRARY_IMPL(dovetail, CPU, library) {
  library.impl("grad_norms", TORCH_BOX(&dovetail::grad_norms::grad_norms<dovetail::grad_norms::Cpu>));
}
