// SpecAugment: where the masks are, for the CPU and the CUDA twin alike.
#pragma once

#include "../common/dtypes.h"
#include "../common/host_device.h"
#include "../common/memory.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace dovetail::spec_augment {

using torch::stable::Tensor;

// Of both kinds together, for one sample. MAX_MASKS in src/dovetail/ops/_spec_augment.py is the same.
constexpr int max_masks = 64;

// From `start` up to, not including, `end`.
struct Span {
  std::int64_t start;
  std::int64_t end;
};

// What an op's arguments come down to. Sizes and strides are those of [samples, channels, frequencies, times].
struct Plan {
  std::int64_t samples, channels, frequencies, times;
  std::int64_t strides[4];
  const float* uniforms;          // [samples, freq_masks + time_masks, 2]
  const std::int64_t* lengths;    // [samples], or null
  const void* fills;              // [samples, channels] in the input's dtype, or null
  std::uint64_t fill;             // the bits of the fill value, where `fills` is null
  std::int64_t freq_masks, time_masks, freq_mask, time_mask;
  double max_time_share;
};

// A span of 0 to `widest` of `extent` places, from two uniform numbers. The product of a float32 and an integer below
// 2^29 is exact in float64, so every device finds the same span. Numbers outside of [0, 1] are taken to its ends.
DOVETAIL_HOST_DEVICE inline Span draw_span(const float* pair, std::int64_t widest, std::int64_t extent) {
  const double first = pair[0] > 0.0F ? static_cast<double>(pair[0]) : 0.0;
  const double second = pair[1] > 0.0F ? static_cast<double>(pair[1]) : 0.0;
  const double wide = first * static_cast<double>(widest + 1);
  const std::int64_t width = wide >= static_cast<double>(widest) ? widest : static_cast<std::int64_t>(wide);
  const double far = second * static_cast<double>(extent - width + 1);
  const std::int64_t last = extent - width;
  const std::int64_t start = far >= static_cast<double>(last) ? last : static_cast<std::int64_t>(far);
  return {start, start + width};
}

DOVETAIL_HOST_DEVICE inline std::int64_t smaller(std::int64_t left, std::int64_t right) {
  return left < right ? left : right;
}

// How many time steps of a sample are its own and not padding.
DOVETAIL_HOST_DEVICE inline std::int64_t valid_times(const Plan& plan, std::int64_t sample) {
  if (plan.lengths == nullptr) {
    return plan.times;
  }
  const std::int64_t length = plan.lengths[sample];
  return length < 0 ? 0 : smaller(length, plan.times);
}

// All masks of a sample, those over frequencies first. The widths of the time masks together stay within a share of the
// valid part: each mask has what the ones before it left.
DOVETAIL_HOST_DEVICE inline void draw_spans(const Plan& plan, std::int64_t sample, Span* freq, Span* time) {
  const float* pair = plan.uniforms + sample * (plan.freq_masks + plan.time_masks) * 2;
  for (std::int64_t mask = 0; mask < plan.freq_masks; ++mask, pair += 2) {
    freq[mask] = draw_span(pair, smaller(plan.freq_mask, plan.frequencies), plan.frequencies);
  }
  const std::int64_t valid = valid_times(plan, sample);
  auto budget = static_cast<std::int64_t>(plan.max_time_share * static_cast<double>(valid));
  for (std::int64_t mask = 0; mask < plan.time_masks; ++mask, pair += 2) {
    time[mask] = draw_span(pair, smaller(plan.time_mask, smaller(budget, valid)), valid);
    budget -= time[mask].end - time[mask].start;
  }
}

DOVETAIL_HOST_DEVICE inline bool covers(const Span* spans, std::int64_t count, std::int64_t place) {
  bool covered = false;
  for (std::int64_t index = 0; index < count; ++index) {
    covered = covered || (place >= spans[index].start && place < spans[index].end);
  }
  return covered;
}

// The arguments as the kernels want them; `keep` holds what had to be copied.
inline Plan make_plan(const Tensor& input, const Tensor& uniforms, const std::optional<Tensor>& lengths,
                      const std::optional<Tensor>& fills, std::int64_t time_masks, std::int64_t freq_mask,
                      std::int64_t time_mask, double max_time_share, double fill, std::vector<Tensor>& keep) {
  using torch::headeronly::ScalarType;
  const ScalarType dtype = input.scalar_type();
  STD_TORCH_CHECK(input.dim() == 4, "dovetail::spec_augment: the input must be [samples, channels, frequencies, times]");
  STD_TORCH_CHECK(dtype == ScalarType::Float || dtype == ScalarType::BFloat16 || dtype == ScalarType::Half ||
                      dtype == ScalarType::Double,
                  "dovetail::spec_augment: float32, bfloat16, float16 and float64 only");
  STD_TORCH_CHECK(uniforms.dim() == 3 && uniforms.size(0) == input.size(0) && uniforms.size(2) == 2 &&
                      uniforms.scalar_type() == ScalarType::Float && uniforms.device() == input.device(),
                  "dovetail::spec_augment: uniforms must be float32 [samples, masks, 2] where the input is");
  STD_TORCH_CHECK(time_masks >= 0 && time_masks <= uniforms.size(1) && uniforms.size(1) <= max_masks,
                  "dovetail::spec_augment: the number of masks does not fit");
  STD_TORCH_CHECK(freq_mask >= 0 && time_mask >= 0 && max_time_share >= 0.0 && max_time_share <= 1.0,
                  "dovetail::spec_augment: widths must be at least 0, the share from 0 to 1");
  Plan plan{};
  const auto sizes = input.sizes();
  plan.samples = sizes[0];
  plan.channels = sizes[1];
  plan.frequencies = sizes[2];
  plan.times = sizes[3];
  for (std::size_t dim = 0; dim < 4; ++dim) {
    plan.strides[dim] = input.strides()[dim];
  }
  keep.push_back(as_contiguous(uniforms));
  plan.uniforms = static_cast<const float*>(keep.back().const_data_ptr());
  if (lengths.has_value()) {
    STD_TORCH_CHECK(lengths->dim() == 1 && lengths->size(0) == plan.samples &&
                        lengths->scalar_type() == ScalarType::Long && lengths->device() == input.device(),
                    "dovetail::spec_augment: lengths must be int64 [samples] where the input is");
    keep.push_back(as_contiguous(*lengths));
    plan.lengths = static_cast<const std::int64_t*>(keep.back().const_data_ptr());
  }
  if (fills.has_value()) {
    STD_TORCH_CHECK(fills->dim() == 2 && fills->size(0) == plan.samples && fills->size(1) == plan.channels &&
                        fills->scalar_type() == dtype && fills->device() == input.device(),
                    "dovetail::spec_augment: fills must be [samples, channels] in the input's dtype where it is");
    keep.push_back(as_contiguous(*fills));
    plan.fills = keep.back().const_data_ptr();
  }
  plan.fill = bits_in(dtype, fill);
  plan.freq_masks = uniforms.size(1) - time_masks;
  plan.time_masks = time_masks;
  plan.freq_mask = freq_mask;
  plan.time_mask = time_mask;
  plan.max_time_share = max_time_share;
  return plan;
}

}  // namespace dovetail::spec_augment
