// physical_terms on CUDA: terms and gradient in one launch, or in two for many samples.
//
// A warp processes a sample, and recomputes the probabilities of the windows before and after it. The terms of the
// samples are summed in a fixed order: within a warp, within a block, and over the blocks by the only block or a second
// launch.

#include "physical_terms.h"

#include "../common/cuda.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>

namespace dovetail::physics {
namespace {

constexpr int block_size = 512;
constexpr int warps = block_size / warp_size;
// The number of samples per warp of a single block; for more, several blocks justify the second launch.
constexpr std::int64_t samples_per_warp = 16;
constexpr std::int64_t max_blocks = 1024;

__device__ inline float as(float, float value) { return value; }
__device__ inline double as(double, double value) { return value; }
__device__ inline float as(float, __nv_bfloat16 value) { return __bfloat162float(value); }
__device__ inline float as(float, __half value) { return __half2float(value); }

__device__ inline float exponential(float x) { return expf(x); }
__device__ inline double exponential(double x) { return exp(x); }

// The softmax of one sample; a class's probability is computed on access.
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

// Return a sample's terms in every lane and, unless `grad` is null, write its gradient.
template <class Logit, class Real>
__device__ Terms terms_of_sample(const Inputs<Real>& inputs, const Scales& scales, const Logit* logits, Real* grad,
                           std::int64_t sample) {
  const std::int64_t classes = inputs.classes;
  const auto lane = static_cast<std::int64_t>(threadIdx.x % warp_size);
  const std::int64_t before = neighbour(inputs, sample, 0);
  const std::int64_t after = neighbour(inputs, sample, 1);
  const Softmax<Logit, Real> q(logits + sample * classes, classes);
  const Softmax<Logit, Real> q_before(logits + (before < 0 ? sample : before) * classes, classes);
  const Softmax<Logit, Real> q_after(logits + (after < 0 ? sample : after) * classes, classes);
  const double rate_before = before < 0 ? 0.0 : static_cast<double>(inputs.rates[sample]);
  const double rate_after = after < 0 ? 0.0 : static_cast<double>(inputs.rates[after]);
  const Real* penalties = inputs.penalties == nullptr ? nullptr : inputs.penalties + sample * classes;

  double penalty = 0.0;
  double level = 0.0;
  double change = 0.0;
  double along_before = 0.0;
  double along_after = 0.0;
  for (std::int64_t which = lane; which < classes; which += warp_size) {
    const double probability = q[which];
    penalty += penalties == nullptr ? 0.0 : probability * static_cast<double>(penalties[which]);
    level += inputs.levels == nullptr ? 0.0 : probability * static_cast<double>(inputs.levels[which]);
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
  const double difference = inputs.severity == nullptr ? 0.0 : level - static_cast<double>(inputs.severity[sample]);
  const bool counts = labelled(inputs, sample);
  const std::int64_t target = counts ? inputs.targets[sample] : 0;
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
    v += inputs.levels == nullptr
             ? 0.0
             : 2.0 * scales.severity * difference * static_cast<double>(inputs.levels[which]);
    v += before < 0 ? 0.0 : 2.0 * scales.pairs * rate_before * (probability - q_before[which]);
    v += after < 0 ? 0.0 : 2.0 * scales.pairs * rate_after * (probability - q_after[which]);
    const double found = probability * (v - mean + of_label) - (counts && which == target ? of_label : 0.0);
    grad[sample * classes + which] = static_cast<Real>(found);
  }
  return terms;
}

// Compute the means and their sum from the blocks' sums in one thread.
template <class Real>
__device__ void finish(const Inputs<Real>& inputs, const Terms* sums, int blocks, long long labels, long long pairs,
                       Real* total, Real* parts) {
  const std::int64_t counts[term_count] = {labels, inputs.samples, inputs.samples, pairs};
  double all = 0.0;
  for (int term = 0; term < term_count; ++term) {
    double sum = 0.0;
    for (int block = 0; block < blocks; ++block) {
      sum += sums[block].of[term];
    }
    const double mean = divided_by(sum, counts[term]);
    parts[term] = static_cast<Real>(mean);
    all += inputs.weights[term] * mean;
  }
  *total = static_cast<Real>(all);
}

// Count the samples with a label and those with a previous window, with all threads of a block.
template <class Real>
__device__ void count(const Inputs<Real>& inputs, unsigned long long* counts) {
  if (threadIdx.x < 2) {
    counts[threadIdx.x] = 0;
  }
  __syncthreads();
  unsigned long long labels = 0;
  unsigned long long pairs = 0;
  for (std::int64_t sample = static_cast<std::int64_t>(threadIdx.x); sample < inputs.samples; sample += block_size) {
    labels += labelled(inputs, sample) ? 1 : 0;
    pairs += neighbour(inputs, sample, 0) >= 0 ? 1 : 0;
  }
  atomicAdd(&counts[0], labels);    // integers: the order does not matter
  atomicAdd(&counts[1], pairs);
  __syncthreads();
}

template <class Logit, class Real>
__global__ void __launch_bounds__(block_size)
    sum_terms(const __grid_constant__ Inputs<Real> inputs, const Logit* logits, Real* grad, Terms* block_terms,
              Real* total, Real* parts) {
  __shared__ unsigned long long counts[2];
  __shared__ Terms warp_terms[warps];
  count(inputs, counts);
  const Scales scales =
      scales_of(inputs, static_cast<std::int64_t>(counts[0]), static_cast<std::int64_t>(counts[1]));
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  Terms sums{};
  for (std::int64_t sample = static_cast<std::int64_t>(blockIdx.x) * warps + warp; sample < inputs.samples;
       sample += static_cast<std::int64_t>(gridDim.x) * warps) {
    const Terms terms = terms_of_sample(inputs, scales, logits, grad, sample);
    for (int term = 0; term < term_count; ++term) {
      sums.of[term] += terms.of[term];
    }
  }
  if (lane == 0) {
    warp_terms[warp] = sums;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    Terms all{};
    for (int other = 0; other < warps; ++other) {
      for (int term = 0; term < term_count; ++term) {
        all.of[term] += warp_terms[other].of[term];
      }
    }
    block_terms[blockIdx.x] = all;
    if (gridDim.x == 1) {
      finish(inputs, block_terms, 1, static_cast<long long>(counts[0]), static_cast<long long>(counts[1]), total,
             parts);
    }
  }
}

template <class Real>
__global__ void __launch_bounds__(block_size)
    fold_blocks(const __grid_constant__ Inputs<Real> inputs, const Terms* block_terms, int blocks, Real* total,
                Real* parts) {
  __shared__ unsigned long long counts[2];
  count(inputs, counts);
  if (threadIdx.x == 0) {
    finish(inputs, block_terms, blocks, static_cast<long long>(counts[0]), static_cast<long long>(counts[1]), total,
           parts);
  }
}

struct TermsOnCuda {
  using BFloat16 = __nv_bfloat16;
  using Half = __half;

  template <class Logit, class Real>
  static void compute(const Inputs<Real>& inputs, const Tensor& logits, Real* total, Real* parts, Real* grad) {
    const torch::stable::accelerator::DeviceGuard guard(logits.get_device_index());
    const std::int64_t per_block = warps * samples_per_warp;
    const std::int64_t blocks = std::clamp<std::int64_t>(
        inputs.classes == 0 ? 1 : (inputs.samples + per_block - 1) / per_block, 1, max_blocks);
    const Tensor scratch = allocate(logits, {blocks * term_count}, ScalarType::Double);
    auto* block_terms = static_cast<Terms*>(scratch.mutable_data_ptr());
    const cudaStream_t stream = current_stream(logits);
    sum_terms<Logit, Real><<<static_cast<unsigned>(blocks), block_size, 0, stream>>>(
        inputs, static_cast<const Logit*>(logits.const_data_ptr()), grad, block_terms, total, parts);
    check_launch("physical_terms");
    if (blocks > 1) {
      fold_blocks<Real><<<1, block_size, 0, stream>>>(inputs, block_terms, static_cast<int>(blocks), total, parts);
      check_launch("physical_terms");
    }
  }
};

}  // namespace
}  // namespace dovetail::physics

STABLE_TORCH_LIBRARY_IMPL(dovetail, CUDA, library) {
  library.impl("physical_terms", TORCH_BOX(&dovetail::physics::physical_terms<dovetail::physics::TermsOnCuda>));
}
