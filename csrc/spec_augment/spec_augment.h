// spec_augment and spec_augment_: the ops, and what their CPU and CUDA implementations have in common.
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

// The largest number of masks per sample, of both kinds; MAX_MASKS in src/dovetail/ops/_spec_augment.py is the same.
constexpr int max_masks = 64;

// The positions from `start` up to but excluding `end`.
struct Span {
  std::int64_t start;
  std::int64_t end;
};

// The checked arguments of an op. Sizes and strides are those of [samples, channels, frequencies, times].
struct Plan {
  std::int64_t samples, channels, frequencies, times;
  std::int64_t strides[4];
  const float* uniforms;          // [samples, freq_masks + time_masks, 2]
  const std::int64_t* lengths;    // [samples], or null
  const void* fills;              // [samples, channels] in the input's dtype, or null
  std::uint64_t fill;             // the bits of the fill value if `fills` is null
  std::int64_t freq_masks, time_masks, freq_mask, time_mask;
  double max_time_share;
};

// Return a span of 0 to `widest` of `extent` positions for a pair of uniform numbers, which are clamped to [0, 1]. The
// product of a float32 and an integer below 2^29 is exact in float64, so the span is the same on every device.
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

// Return the number of time steps of a sample without padding.
DOVETAIL_HOST_DEVICE inline std::int64_t valid_times(const Plan& plan, std::int64_t sample) {
  if (plan.lengths == nullptr) {
    return plan.times;
  }
  const std::int64_t length = plan.lengths[sample];
  return length < 0 ? 0 : smaller(length, plan.times);
}

// Draw all masks of a sample, frequency masks first. The total width of the time masks is limited to a fraction of the
// valid part: each mask can use what earlier ones left.
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

DOVETAIL_HOST_DEVICE inline bool covers(const Span* spans, std::int64_t count, std::int64_t position) {
  bool covered = false;
  for (std::int64_t index = 0; index < count; ++index) {
    covered = covered || (position >= spans[index].start && position < spans[index].end);
  }
  return covered;
}

// The arguments of an op besides its input.
struct Arguments {
  Tensor uniforms;
  std::optional<Tensor> lengths, fills;
  std::int64_t time_masks, freq_mask, time_mask;
  double max_time_share, fill;
};

// Check the arguments; `storage` owns the memory of the result.
inline Plan make_plan(const Tensor& input, const Arguments& arguments, std::vector<Tensor>& storage) {
  const auto& [uniforms, lengths, fills, time_masks, freq_mask, time_mask, max_time_share, fill] = arguments;
  using torch::headeronly::ScalarType;
  const ScalarType dtype = input.scalar_type();
  STD_TORCH_CHECK(input.dim() == 4,
                  "dovetail::spec_augment: the input must be [samples, channels, frequencies, times]");
  check_floating("spec_augment", dtype);
  STD_TORCH_CHECK(uniforms.dim() == 3 && uniforms.size(0) == input.size(0) && uniforms.size(2) == 2 &&
                      uniforms.scalar_type() == ScalarType::Float && uniforms.device() == input.device(),
                  "dovetail::spec_augment: uniforms must be float32 [samples, masks, 2] on the device of the input");
  STD_TORCH_CHECK(time_masks >= 0 && time_masks <= uniforms.size(1) && uniforms.size(1) <= max_masks,
                  "dovetail::spec_augment: the number of masks is invalid");
  STD_TORCH_CHECK(freq_mask >= 0 && time_mask >= 0 && max_time_share >= 0.0 && max_time_share <= 1.0,
                  "dovetail::spec_augment: widths must be at least 0, max_time_share from 0 to 1");
  Plan plan{};
  const auto sizes = input.sizes();
  plan.samples = sizes[0];
  plan.channels = sizes[1];
  plan.frequencies = sizes[2];
  plan.times = sizes[3];
  for (std::size_t dim = 0; dim < 4; ++dim) {
    plan.strides[dim] = input.strides()[dim];
  }
  storage.push_back(as_contiguous(uniforms));
  plan.uniforms = static_cast<const float*>(storage.back().const_data_ptr());
  if (lengths.has_value()) {
    STD_TORCH_CHECK(lengths->dim() == 1 && lengths->size(0) == plan.samples &&
                        lengths->scalar_type() == ScalarType::Long && lengths->device() == input.device(),
                    "dovetail::spec_augment: lengths must be int64 [samples] on the device of the input");
    storage.push_back(as_contiguous(*lengths));
    plan.lengths = static_cast<const std::int64_t*>(storage.back().const_data_ptr());
  }
  if (fills.has_value()) {
    STD_TORCH_CHECK(fills->dim() == 2 && fills->size(0) == plan.samples && fills->size(1) == plan.channels &&
                        fills->scalar_type() == dtype && fills->device() == input.device(),
                    "dovetail::spec_augment: fills must be [samples, channels] with the dtype and device of the input");
    storage.push_back(as_contiguous(*fills));
    plan.fills = storage.back().const_data_ptr();
  }
  plan.fill = bits_in(dtype, fill);
  plan.freq_masks = uniforms.size(1) - time_masks;
  plan.time_masks = time_masks;
  plan.freq_mask = freq_mask;
  plan.time_mask = time_mask;
  plan.max_time_share = max_time_share;
  return plan;
}

// The functional op. `Backend::prepare(input)` returns a copy of the input if the backend masks copies of such inputs
// in place; `Backend::run(plan, input, data, output)` writes the masked input to `output`, or masks `data` if that is
// null.
template <class Backend>
Tensor spec_augment(Tensor input, Tensor uniforms, std::optional<Tensor> lengths, std::optional<Tensor> fills,
                    std::int64_t time_masks, std::int64_t freq_mask, std::int64_t time_mask, double max_time_share,
                    double fill) {
  const Arguments arguments{uniforms, lengths, fills, time_masks, freq_mask, time_mask, max_time_share, fill};
  std::vector<Tensor> storage;
  if (std::optional<Tensor> copy = Backend::prepare(input); copy.has_value()) {
    const Plan plan = make_plan(*copy, arguments, storage);
    Backend::run(plan, *copy, copy->mutable_data_ptr(), nullptr);
    return *copy;
  }
  const Plan plan = make_plan(input, arguments, storage);
  Tensor output = allocate(input, {plan.samples, plan.channels, plan.frequencies, plan.times}, input.scalar_type());
  // The input is only read.
  Backend::run(plan, input, const_cast<void*>(input.const_data_ptr()), output.mutable_data_ptr());
  return output;
}

// The in-place op.
template <class Backend>
void spec_augment_(Tensor input, Tensor uniforms, std::optional<Tensor> lengths, std::optional<Tensor> fills,
                   std::int64_t time_masks, std::int64_t freq_mask, std::int64_t time_mask, double max_time_share,
                   double fill) {
  const Arguments arguments{uniforms, lengths, fills, time_masks, freq_mask, time_mask, max_time_share, fill};
  std::vector<Tensor> storage;
  const Plan plan = make_plan(input, arguments, storage);
  Backend::run(plan, input, input.mutable_data_ptr(), nullptr);
}

}  // namespace dovetail::spec_augment
