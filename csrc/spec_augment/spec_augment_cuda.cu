// spec_augment and spec_augment_ on CUDA: one launch each.
//
// A block processes a few rows (frequencies) of one picture, a channel of a sample. One thread draws the spans into
// shared memory, a few dozen instructions, before the other threads need them.

#include "spec_augment.h"

#include "../common/cuda.h"

#include <algorithm>

namespace dovetail::spec_augment {
namespace {

constexpr int block_size = 256;
constexpr std::int64_t elements_per_block = 8192;
constexpr std::int64_t vector_bytes = 16;

struct Masks {
  Span freq[max_masks];
  Span time[max_masks];
  std::int64_t valid;
};

__device__ inline void draw(const Plan& plan, std::int64_t sample, Masks& masks) {
  if (threadIdx.x == 0) {
    draw_spans(plan, sample, masks.freq, masks.time);
    masks.valid = valid_times(plan, sample);
  }
  __syncthreads();
}

template <class Item>
__device__ inline Item value_of(const Plan& plan, std::int64_t picture) {
  return plan.fills == nullptr ? static_cast<Item>(plan.fill) : static_cast<const Item*>(plan.fills)[picture];
}

// Copy rows with masks. A picture has `row_groups` groups of rows; with `wide`, 16 bytes are loaded and stored at once.
template <class Item>
__global__ void __launch_bounds__(block_size)
    copy_masked(const __grid_constant__ Plan plan, const Item* input, Item* output, std::int64_t rows_per_block,
                std::int64_t row_groups, bool wide) {
  __shared__ Masks masks;
  constexpr std::int64_t width = vector_bytes / static_cast<std::int64_t>(sizeof(Item));
  struct alignas(vector_bytes) Vector {
    Item items[width];
  };
  const std::int64_t picture = static_cast<std::int64_t>(blockIdx.x) / row_groups;
  const std::int64_t first = (static_cast<std::int64_t>(blockIdx.x) % row_groups) * rows_per_block;
  const std::int64_t last = smaller(first + rows_per_block, plan.frequencies);
  const std::int64_t sample = picture / plan.channels;
  draw(plan, sample, masks);
  const Item value = value_of<Item>(plan, picture);
  for (std::int64_t frequency = first; frequency < last; ++frequency) {
    const Item* in = input + sample * plan.strides[0] + (picture % plan.channels) * plan.strides[1] +
                     frequency * plan.strides[2];
    Item* out = output + (picture * plan.frequencies + frequency) * plan.times;
    const bool whole_row = covers(masks.freq, plan.freq_masks, frequency);
    const auto masked = [&](std::int64_t time) {
      return time < masks.valid && (whole_row || covers(masks.time, plan.time_masks, time));
    };
    if (wide) {
      for (std::int64_t time = static_cast<std::int64_t>(threadIdx.x) * width; time < plan.times;
           time += block_size * width) {
        Vector vector = *reinterpret_cast<const Vector*>(in + time);
#pragma unroll
        for (std::int64_t item = 0; item < width; ++item) {
          vector.items[item] = masked(time + item) ? value : vector.items[item];
        }
        *reinterpret_cast<Vector*>(out + time) = vector;
      }
    } else {
      for (std::int64_t time = static_cast<std::int64_t>(threadIdx.x); time < plan.times; time += block_size) {
        out[time] = masked(time) ? value : in[time * plan.strides[3]];
      }
    }
  }
}

template <class Item>
__global__ void __launch_bounds__(block_size) fill_masked(const __grid_constant__ Plan plan, Item* data,
                                                          std::int64_t rows_per_block, std::int64_t row_groups) {
  __shared__ Masks masks;
  const std::int64_t picture = static_cast<std::int64_t>(blockIdx.x) / row_groups;
  const std::int64_t first = (static_cast<std::int64_t>(blockIdx.x) % row_groups) * rows_per_block;
  const std::int64_t last = smaller(first + rows_per_block, plan.frequencies);
  const std::int64_t sample = picture / plan.channels;
  draw(plan, sample, masks);
  const Item value = value_of<Item>(plan, picture);
  const Span whole{0, masks.valid};
  for (std::int64_t frequency = first; frequency < last; ++frequency) {
    Item* row =
        data + sample * plan.strides[0] + (picture % plan.channels) * plan.strides[1] + frequency * plan.strides[2];
    const bool whole_row = covers(masks.freq, plan.freq_masks, frequency);
    const Span* spans = whole_row ? &whole : masks.time;
    const std::int64_t count = whole_row ? 1 : plan.time_masks;
    for (std::int64_t span = 0; span < count; ++span) {
      for (std::int64_t time = spans[span].start + static_cast<std::int64_t>(threadIdx.x); time < spans[span].end;
           time += block_size) {
        row[time * plan.strides[3]] = value;
      }
    }
  }
}

// `output` is null for the in-place op.
template <class Item>
void launch(const Plan& plan, void* data, void* output, cudaStream_t stream) {
  const std::int64_t pictures = plan.samples * plan.channels;
  if (pictures * plan.frequencies * plan.times == 0) {
    return;
  }
  const std::int64_t rows_per_block = std::max<std::int64_t>(1, elements_per_block / plan.times);
  const std::int64_t row_groups = (plan.frequencies + rows_per_block - 1) / rows_per_block;
  const std::int64_t blocks = pictures * row_groups;
  STD_TORCH_CHECK(blocks <= 0x7fffffff, "dovetail::spec_augment: the input is too large for one launch");
  const auto grid = static_cast<unsigned>(blocks);
  if (output == nullptr) {
    fill_masked<Item><<<grid, block_size, 0, stream>>>(plan, static_cast<Item*>(data), rows_per_block, row_groups);
  } else {
    constexpr auto item_size = static_cast<std::int64_t>(sizeof(Item));
    const auto fits = [](std::int64_t bytes) { return bytes % vector_bytes == 0; };
    const bool wide = plan.strides[3] == 1 && fits(plan.times * item_size) && fits(plan.strides[0] * item_size) &&
                      fits(plan.strides[1] * item_size) && fits(plan.strides[2] * item_size) &&
                      reinterpret_cast<std::uintptr_t>(data) % vector_bytes == 0;
    copy_masked<Item><<<grid, block_size, 0, stream>>>(plan, static_cast<const Item*>(data),
                                                       static_cast<Item*>(output), rows_per_block, row_groups, wide);
  }
  check_launch("spec_augment");
}

struct Cuda {
  static std::optional<Tensor> prepare(const Tensor& /*input*/) { return std::nullopt; }

  static void run(const Plan& plan, const Tensor& input, void* data, void* output) {
    const torch::stable::accelerator::DeviceGuard guard(input.get_device_index());
    const cudaStream_t stream = current_stream(input);
    switch (input.element_size()) {
      case 2:
        return launch<std::uint16_t>(plan, data, output, stream);
      case 4:
        return launch<std::uint32_t>(plan, data, output, stream);
      default:
        return launch<std::uint64_t>(plan, data, output, stream);
    }
  }
};

}  // namespace
}  // namespace dovetail::spec_augment

STABLE_TORCH_LIBRARY_IMPL(dovetail, CUDA, library) {
  library.impl("spec_augment", TORCH_BOX(&dovetail::spec_augment::spec_augment<dovetail::spec_augment::Cuda>));
  library.impl("spec_augment_", TORCH_BOX(&dovetail::spec_augment::spec_augment_<dovetail::spec_augment::Cuda>));
}
