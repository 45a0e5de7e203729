// physical_terms on CUDA: terms and gradient in one launch, for more than a few thousand samples in two.
//
// A warp takes a sample, and works out again the probabilities of the windows before and after it. What the samples'
// terms add up to is folded in a fixed order: within a warp, within a block, and over the blocks, by the only block or
// by a second launch.

#include "head.h"

#include "../common/cuda.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <tuple>

namespace dovetail::physics {
namespace {

constexpr int block_size = 512;
constexpr int warps = block_size / warp_size;
// Of one block, each for a warp: beyond, a second block is worth the second launch.
constexpr std::int64_t samples_per_warp = 16;
constexpr std::int64_t most_blocks = 1024;

__device__ inline float as(float, float value) { return value; }
__device__ inline double as(double, double value) { return value; }
__device__ inline float as(float, __nv_bfloat16 value) { return __bfloat162float(value); }
__device__ inline float as(float, __half value) { return __half2float(value); }

__device__ inline float exponential(float x) { return expf(x); }
__device__ inline double exponential(double x) { return exp(x); }

// Softmax of one sample, of which a class's probability is worked out when it is wanted.
template <class Logit, class Real>
struct Softmax {
  const Logit* logits;
  Real most;
  Real scale;    // 1 / Σ e^(z - most)

  __device__ Softmax(const Logit* row, std::int64_t classes) : logits(row), most(static_cast<Real>(-INFINITY)) {
    const auto lane = static_cast<std::int64_t>(threadIdx.x % warp_size);
    for (std::int64_t which = lane; which < classes; which += warp_size) {
      const Real value = as(Real(), row[which]);
      most = value > most ? value : most;
    }
    most = warp_max(most);
    Real sum = 0;
    for (std::int64_t which = lane; which < classes; which += warp_size) {
      sum += exponential(as(Real(), row[which]) - most);
    }
    scale = Real(1) / warp_sum(sum);
  }

  __device__ double operator[](std::int64_t which) const {
    return static_cast<double>(exponential(as(Real(), logits[which]) - most) * scale);
  }
};

struct Terms {
  double of[term_count];
};

// One sample's terms, in every lane, and its gradient where `grad` is not null.
template <class Logit, class Real>
__device__ Terms of_sample(const Head<Real>& head, const Scales& scales, const Logit* logits, Real* grad,
                           std::int64_t sample) {
  const std::int64_t classes = head.classes;
  const auto lane = static_cast<std::int64_t>(threadIdx.x % warp_size);
  const std::int64_t before = neighbour(head, sample, 0);
  const std::int64_t after = neighbour(head, sample, 1);
  const Softmax<Logit, Real> q(logits + sample * classes, classes);
  const Softmax<Logit, Real> q_before(logits + (before < 0 ? sample : before) * classes, classes);
  const Softmax<Logit, Real> q_after(logits + (after < 0 ? sample : after) * classes, classes);
  const double rate_before = before < 0 ? 0.0 : static_cast<double>(head.rates[sample]);
  const double rate_after = after < 0 ? 0.0 : static_cast<double>(head.rates[after]);
  const Real* penalties = head.penalties == nullptr ? nullptr : head.penalties + sample * classes;

  double penalty = 0.0;
  double level = 0.0;
  double change = 0.0;
  double along_before = 0.0;
  double along_after = 0.0;
  for (std::int64_t which = lane; which < classes; which += warp_size) {
    const double probability = q[which];
    penalty += penalties == nullptr ? 0.0 : probability * static_cast<double>(penalties[which]);
    level += head.levels == nullptr ? 0.0 : probability * static_cast<double>(head.levels[which]);
    if (before >= 0) {
      const double step = probability - q_before[which];
      change += step * step;
      along_before += probability * step;
    }
    if (after >= 0) {
      along_after += probability * (probability - q_after[which]);
    }
  }
  penalty = warp_sum(penalty);
  level = warp_sum(level);
  change = warp_sum(change);
  along_before = warp_sum(along_before);
  along_after = warp_sum(along_after);
  const double difference = head.severity == nullptr ? 0.0 : level - static_cast<double>(head.severity[sample]);
  const bool counts = labelled(head, sample);
  const std::int64_t target = counts ? head.targets[sample] : 0;
  const bool valid = target >= 0 && target < classes;

  Terms terms{};
  if (counts) {
    const double logit = valid ? static_cast<double>(as(Real(), q.logits[target])) : static_cast<double>(NAN);
    terms.of[0] = -log(static_cast<double>(q.scale)) - (logit - static_cast<double>(q.most));
  }
  terms.of[1] = penalty;
  terms.of[2] = difference * difference;
  terms.of[3] = before < 0 ? 0.0 : rate_before * change;
  if (grad == nullptr) {
    return terms;
  }

  const double of_label = counts ? (valid ? scales.labelled : static_cast<double>(NAN)) : 0.0;
  const double mean = scales.frequency * penalty + 2.0 * scales.severity * difference * level +
                      2.0 * scales.pairs * (rate_before * along_before + rate_after * along_after);
  for (std::int64_t which = lane; which < classes; which += warp_size) {
    const double probability = q[which];
    double v = 0.0;
    v += penalties == nullptr ? 0.0 : scales.frequency * static_cast<double>(penalties[which]);
    v += head.levels == nullptr ? 0.0 : 2.0 * scales.severity * difference * static_cast<double>(head.levels[which]);
    v += before < 0 ? 0.0 : 2.0 * scales.pairs * rate_before * (probability - q_before[which]);
    v += after < 0 ? 0.0 : 2.0 * scales.pairs * rate_after * (probability - q_after[which]);
    const double found = probability * (v - mean + of_label) - (counts && which == target ? of_label : 0.0);
    grad[sample * classes + which] = static_cast<Real>(found);
  }
  return terms;
}

// The means and their sum from the blocks' sums, by one thread.
template <class Real>
__device__ void finish(const Head<Real>& head, const Terms* sums, int blocks, long long labels, long long pairs,
                       Real* total, Real* parts) {
  const std::int64_t counts[term_count] = {labels, head.samples, head.samples, pairs};
  double all = 0.0;
  for (int term = 0; term < term_count; ++term) {
    double sum = 0.0;
    for (int block = 0; block < blocks; ++block) {
      sum += sums[block].of[term];
    }
    const double mean = share_of(sum, counts[term]);
    parts[term] = static_cast<Real>(mean);
    all += head.weights[term] * mean;
  }
  *total = static_cast<Real>(all);
}

// How many samples have a label, and how many a window before them; every thread gets both. By all of a block.
template <class Real>
__device__ void count(const Head<Real>& head, unsigned long long* counts) {
  if (threadIdx.x < 2) {
    counts[threadIdx.x] = 0;
  }
  __syncthreads();
  unsigned long long labels = 0;
  unsigned long long pairs = 0;
  for (std::int64_t sample = static_cast<std::int64_t>(threadIdx.x); sample < head.samples; sample += block_size) {
    labels += labelled(head, sample) ? 1 : 0;
    pairs += neighbour(head, sample, 0) >= 0 ? 1 : 0;
  }
  atomicAdd(&counts[0], labels);    // integers: in any order the same
  atomicAdd(&counts[1], pairs);
  __syncthreads();
}

template <class Logit, class Real>
__global__ void __launch_bounds__(block_size)
    add_up(const __grid_constant__ Head<Real> head, const Logit* logits, Real* grad, Terms* of_blocks, Real* total,
           Real* parts) {
  __shared__ unsigned long long counts[2];
  __shared__ Terms of_warps[warps];
  count(head, counts);
  const Scales scales =
      scales_of(head, static_cast<std::int64_t>(counts[0]), static_cast<std::int64_t>(counts[1]));
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  Terms sums{};
  for (std::int64_t sample = static_cast<std::int64_t>(blockIdx.x) * warps + warp; sample < head.samples;
       sample += static_cast<std::int64_t>(gridDim.x) * warps) {
    const Terms terms = of_sample(head, scales, logits, grad, sample);
    for (int term = 0; term < term_count; ++term) {
      sums.of[term] += terms.of[term];
    }
  }
  if (lane == 0) {
    of_warps[warp] = sums;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    Terms all{};
    for (int other = 0; other < warps; ++other) {
      for (int term = 0; term < term_count; ++term) {
        all.of[term] += of_warps[other].of[term];
      }
    }
    of_blocks[blockIdx.x] = all;
    if (gridDim.x == 1) {
      finish(head, of_blocks, 1, static_cast<long long>(counts[0]), static_cast<long long>(counts[1]), total, parts);
    }
  }
}

template <class Real>
__global__ void __launch_bounds__(block_size)
    fold_blocks(const __grid_constant__ Head<Real> head, const Terms* of_blocks, int blocks, Real* total, Real* parts) {
  __shared__ unsigned long long counts[2];
  count(head, counts);
  if (threadIdx.x == 0) {
    finish(head, of_blocks, blocks, static_cast<long long>(counts[0]), static_cast<long long>(counts[1]), total, parts);
  }
}

using Result = std::tuple<Tensor, Tensor, Tensor>;

template <class Logit, class Real>
Result compute(const Arguments& arguments, bool want_grad) {
  std::vector<Tensor> keep;
  const Head<Real> head = make_head<Real>(arguments, keep);
  const Tensor dense = as_contiguous(arguments.logits);
  const torch::stable::accelerator::DeviceGuard guard(dense.get_device_index());
  Tensor total = empty_beside(dense, {}, scalar_type_of<Real>);
  Tensor parts = empty_beside(dense, {term_count}, scalar_type_of<Real>);
  Tensor grad = empty_beside(dense, {want_grad ? head.samples : 0, head.classes}, scalar_type_of<Real>);
  const std::int64_t share = warps * samples_per_warp;
  const std::int64_t blocks =
      std::clamp<std::int64_t>(head.classes == 0 ? 1 : (head.samples + share - 1) / share, 1, most_blocks);
  const Tensor scratch = empty_beside(dense, {blocks * term_count}, ScalarType::Double);
  auto* of_blocks = static_cast<Terms*>(scratch.mutable_data_ptr());
  auto* total_data = static_cast<Real*>(total.mutable_data_ptr());
  auto* parts_data = static_cast<Real*>(parts.mutable_data_ptr());
  const cudaStream_t stream = current_stream(dense);
  add_up<Logit, Real><<<static_cast<unsigned>(blocks), block_size, 0, stream>>>(
      head, static_cast<const Logit*>(dense.const_data_ptr()),
      want_grad ? static_cast<Real*>(grad.mutable_data_ptr()) : nullptr, of_blocks, total_data, parts_data);
  check_launch("physical_terms");
  if (blocks > 1) {
    fold_blocks<Real><<<1, block_size, 0, stream>>>(head, of_blocks, static_cast<int>(blocks), total_data, parts_data);
    check_launch("physical_terms");
  }
  return {total, parts, grad};
}

Result physical_terms(Tensor logits, std::optional<Tensor> targets, std::optional<Tensor> penalties,
                      std::optional<Tensor> levels, std::optional<Tensor> severity, std::optional<Tensor> neighbours,
                      std::optional<Tensor> rates, double classification, double frequency, double sommerfeld,
                      double temporal, bool want_grad) {
  const Arguments arguments{logits,   targets,    penalties, levels,
                            severity, neighbours, rates,     {classification, frequency, sommerfeld, temporal}};
  switch (logits.scalar_type()) {
    case ScalarType::Float:
      return compute<float, float>(arguments, want_grad);
    case ScalarType::BFloat16:
      return compute<__nv_bfloat16, float>(arguments, want_grad);
    case ScalarType::Half:
      return compute<__half, float>(arguments, want_grad);
    case ScalarType::Double:
      return compute<double, double>(arguments, want_grad);
    default:
      STD_TORCH_CHECK(false, "dovetail::physical_terms: float32, bfloat16, float16 and float64 only");
  }
}

}  // namespace
}  // namespace dovetail::physics

STABLE_TORCH_LIBRARY_IMPL(dovetail, CUDA, library) {
  library.impl("physical_terms", TORCH_BOX(&dovetail::physics::physical_terms));
}
