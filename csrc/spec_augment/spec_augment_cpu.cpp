// spec_augment and spec_augment_ on the CPU: schemas, kernels, registration.
//
// The functional form copies the stretches between masks and fills the masks, so every byte is written once; the one in
// place writes what is masked and reads nothing.

#include "spec_augment.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace dovetail::spec_augment {
namespace {

// About as many elements as are worth a thread.
constexpr std::int64_t grain_elements = 1 << 15;

// Sorts the spans, joins those that touch or overlap, drops empty ones; returns how many are left.
std::int64_t tidy(Span* spans, std::int64_t count) {
  std::sort(spans, spans + count, [](const Span& left, const Span& right) { return left.start < right.start; });
  std::int64_t kept = 0;
  for (std::int64_t index = 0; index < count; ++index) {
    const Span span = spans[index];
    if (span.start == span.end) {
      continue;
    }
    if (kept > 0 && span.start <= spans[kept - 1].end) {
      spans[kept - 1].end = std::max(spans[kept - 1].end, span.end);
    } else {
      spans[kept++] = span;
    }
  }
  return kept;
}

template <class Item>
void fill(Item* row, std::int64_t stride, Span span, Item value) {
  if (stride == 1) {
    std::fill(row + span.start, row + span.end, value);
    return;
  }
  for (std::int64_t time = span.start; time < span.end; ++time) {
    row[time * stride] = value;
  }
}

template <class Item>
void copy(Item* to, const Item* from, std::int64_t start, std::int64_t end) {
  if (end > start) {
    std::memcpy(to + start, from + start, static_cast<std::size_t>(end - start) * sizeof(Item));
  }
}

// Rows `begin` to `end` of all samples, channels and frequencies. `input` is null in place.
template <class Item>
void mask_rows(const Plan& plan, const Item* input, Item* output, const std::int64_t* output_strides,
               std::int64_t begin, std::int64_t end) {
  std::array<Span, max_masks> freq{};
  std::array<Span, max_masks> time{};
  std::int64_t drawn = -1;
  std::int64_t valid = 0;
  std::int64_t spans = 0;
  for (std::int64_t row = begin; row < end; ++row) {
    const std::int64_t frequency = row % plan.frequencies;
    const std::int64_t picture = row / plan.frequencies;
    const std::int64_t sample = picture / plan.channels;
    const std::int64_t channel = picture % plan.channels;
    if (sample != drawn) {
      draw_spans(plan, sample, freq.data(), time.data());
      spans = tidy(time.data(), plan.time_masks);
      valid = valid_times(plan, sample);
      drawn = sample;
    }
    auto value = static_cast<Item>(plan.fill);
    if (plan.fills != nullptr) {
      value = static_cast<const Item*>(plan.fills)[picture];
    }
    Item* out = output + sample * output_strides[0] + channel * output_strides[1] + frequency * output_strides[2];
    const bool whole_row = covers(freq.data(), plan.freq_masks, frequency);
    const Span whole{0, valid};
    const Span* masks = whole_row ? &whole : time.data();
    const std::int64_t mask_count = whole_row ? 1 : spans;
    for (std::int64_t mask = 0; mask < mask_count; ++mask) {
      fill(out, output_strides[3], masks[mask], value);
    }
    if (input != nullptr) {
      const Item* in = input + sample * plan.strides[0] + channel * plan.strides[1] + frequency * plan.strides[2];
      std::int64_t done = 0;
      for (std::int64_t mask = 0; mask < mask_count; ++mask) {
        copy(out, in, done, masks[mask].start);
        done = masks[mask].end;
      }
      copy(out, in, done, plan.times);
    }
  }
}

template <class Item>
void run(const Plan& plan, const void* input, void* output, const std::int64_t* output_strides) {
  const std::int64_t rows = plan.samples * plan.channels * plan.frequencies;
  if (rows == 0 || plan.times == 0) {
    return;
  }
  // In place, most of a row is left alone.
  const std::int64_t work = input == nullptr ? plan.times / 4 + 1 : plan.times;
  const std::int64_t grain = std::max<std::int64_t>(1, grain_elements / work);
  torch::stable::parallel_for(0, rows, grain, [&](std::int64_t begin, std::int64_t end) {
    mask_rows(plan, static_cast<const Item*>(input), static_cast<Item*>(output), output_strides, begin, end);
  });
}

void run(const Plan& plan, std::size_t item_size, const void* input, void* output, const std::int64_t* strides) {
  switch (item_size) {
    case 2:
      return run<std::uint16_t>(plan, input, output, strides);
    case 4:
      return run<std::uint32_t>(plan, input, output, strides);
    default:
      return run<std::uint64_t>(plan, input, output, strides);
  }
}

Tensor spec_augment(Tensor input, Tensor uniforms, std::optional<Tensor> lengths, std::optional<Tensor> fills,
                    std::int64_t time_masks, std::int64_t freq_mask, std::int64_t time_mask, double max_time_share,
                    double fill_value) {
  std::vector<Tensor> keep;
  if (input.dim() == 4 && input.stride(3) != 1 && !input.is_contiguous()) {
    // Rows that are strewn about are gathered first; the copy is ours to write to.
    Tensor output = torch::stable::contiguous(input);
    const Plan plan = make_plan(output, uniforms, lengths, fills, time_masks, freq_mask, time_mask, max_time_share,
                                fill_value, keep);
    run(plan, output.element_size(), nullptr, output.mutable_data_ptr(), plan.strides);
    return output;
  }
  const Plan plan = make_plan(input, uniforms, lengths, fills, time_masks, freq_mask, time_mask, max_time_share,
                              fill_value, keep);
  Tensor output = empty_beside(input, {plan.samples, plan.channels, plan.frequencies, plan.times}, input.scalar_type());
  const std::int64_t strides[4] = {plan.channels * plan.frequencies * plan.times, plan.frequencies * plan.times,
                                   plan.times, 1};
  run(plan, input.element_size(), input.const_data_ptr(), output.mutable_data_ptr(), strides);
  return output;
}

void spec_augment_(Tensor input, Tensor uniforms, std::optional<Tensor> lengths, std::optional<Tensor> fills,
                   std::int64_t time_masks, std::int64_t freq_mask, std::int64_t time_mask, double max_time_share,
                   double fill_value) {
  std::vector<Tensor> keep;
  const Plan plan = make_plan(input, uniforms, lengths, fills, time_masks, freq_mask, time_mask, max_time_share,
                              fill_value, keep);
  run(plan, input.element_size(), nullptr, input.mutable_data_ptr(), plan.strides);
}

}  // namespace
}  // namespace dovetail::spec_augment

STABLE_TORCH_LIBRARY_FRAGMENT(dovetail, library) {
  library.def(
      "spec_augment(Tensor input, Tensor uniforms, Tensor? lengths, Tensor? fills, int time_masks, int freq_mask, "
      "int time_mask, float max_time_share, float fill) -> Tensor");
  library.def(
      "spec_augment_(Tensor(a!) input, Tensor uniforms, Tensor? lengths, Tensor? fills, int time_masks, int freq_mask, "
      "int time_mask, float max_time_share, float fill) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(dovetail, CPU, library) {
  library.impl("spec_augment", TORCH_BOX(&dovetail::spec_augment::spec_augment));
  library.impl("spec_augment_", TORCH_BOX(&dovetail::spec_augment::spec_augment_));
}
