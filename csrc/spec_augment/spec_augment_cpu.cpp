// spec_augment and spec_augment_ on the CPU: schemas, kernels, registration.
//
// The functional op copies the spans between masks and fills the masks, so it writes every byte once. The in-place op
// writes only masked positions and reads nothing.

#include "spec_augment.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace dovetail::spec_augment {
namespace {

// The number of elements that justify another thread.
constexpr std::int64_t grain_elements = 1 << 15;

// Sort spans, merge those that touch or overlap, drop empty ones, and return the number of the rest.
std::int64_t merge_spans(Span* spans, std::int64_t count) {
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

// Mask the rows `begin` to `end` of all samples, channels and frequencies. `input` is null for the in-place op.
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
      spans = merge_spans(time.data(), plan.time_masks);
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

// `output` is null for the in-place op.
template <class Item>
void mask(const Plan& plan, void* data, void* output) {
  const std::int64_t contiguous[4] = {plan.channels * plan.frequencies * plan.times, plan.frequencies * plan.times,
                                      plan.times, 1};
  const bool in_place = output == nullptr;
  const auto* input = in_place ? nullptr : static_cast<const Item*>(data);
  auto* target = static_cast<Item*>(in_place ? data : output);
  const std::int64_t* strides = in_place ? plan.strides : contiguous;
  const std::int64_t rows = plan.samples * plan.channels * plan.frequencies;
  if (rows == 0 || plan.times == 0) {
    return;
  }
  // The in-place op does not touch most of a row.
  const std::int64_t work = in_place ? plan.times / 4 + 1 : plan.times;
  const std::int64_t grain = std::max<std::int64_t>(1, grain_elements / work);
  torch::stable::parallel_for(0, rows, grain, [&](std::int64_t begin, std::int64_t end) {
    mask_rows(plan, input, target, strides, begin, end);
  });
}

struct Cpu {
  // Rows with a stride are gathered first, and the copy is masked in place.
  static std::optional<Tensor> prepare(const Tensor& input) {
    if (input.dim() == 4 && input.stride(3) != 1 && !input.is_contiguous()) {
      return torch::stable::contiguous(input);
    }
    return std::nullopt;
  }

  static void run(const Plan& plan, const Tensor& input, void* data, void* output) {
    switch (input.element_size()) {
      case 2:
        return mask<std::uint16_t>(plan, data, output);
      case 4:
        return mask<std::uint32_t>(plan, data, output);
      default:
        return mask<std::uint64_t>(plan, data, output);
    }
  }
};

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
  library.impl("spec_augment", TORCH_BOX(&dovetail::spec_augment::spec_augment<dovetail::spec_augment::Cpu>));
  library.impl("spec_augment_", TORCH_BOX(&dovetail::spec_augment::spec_augment_<dovetail::spec_augment::Cpu>));
}
