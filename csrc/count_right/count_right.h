// How many labels are predicted right, and how many count: what the CPU and the CUDA twin share.
//
// A label is predicted right if its score is the largest, and the first of those as large; NaN is larger than any
// number, as torch.argmax has it. So a row is right if nothing before the label's score is as large or larger and
// nothing after it is larger: no index has to be found, and the row can be read in any order.
#pragma once

#include "../common/host_device.h"
#include "../common/memory.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <cstdint>
#include <optional>

namespace dovetail::count_right {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Whether a score before (at or above it) or after (above it) the label's shows that the label is not predicted.
template <class Score>
DOVETAIL_HOST_DEVICE inline bool beaten_from_before(Score label, Score other) {
  return label != label ? other != other : !(other < label);
}

template <class Score>
DOVETAIL_HOST_DEVICE inline bool beaten_from_behind(Score label, Score other) {
  return label != label ? false : !(other <= label);
}

struct Labels {
  const std::int64_t* labels;    // [rows]
  const bool* mask;              // [rows], or null: all count
  std::int64_t rows;
  std::int64_t classes;
  std::int64_t ignore;

  DOVETAIL_HOST_DEVICE bool counts(std::int64_t row) const {
    return labels[row] != ignore && (mask == nullptr || mask[row]);
  }
};

// The arguments, checked; `keep_labels` and `keep_mask` hold what had to be copied.
inline Labels read_labels(const Tensor& logits, const Tensor& targets, const std::optional<Tensor>& mask,
                          std::int64_t ignore_index, Tensor& keep_labels, Tensor& keep_mask) {
  STD_TORCH_CHECK(logits.dim() == targets.dim() + 1, "dovetail::count_right: logits [..., classes], targets [...]");
  const ScalarType dtype = logits.scalar_type();
  STD_TORCH_CHECK(dtype == ScalarType::Float || dtype == ScalarType::BFloat16 || dtype == ScalarType::Half ||
                      dtype == ScalarType::Double,
                  "dovetail::count_right: float32, bfloat16, float16 and float64 only, got ",
                  torch::headeronly::toString(dtype));
  const std::int64_t classes = logits.size(logits.dim() - 1);
  const std::int64_t rows = targets.numel();
  STD_TORCH_CHECK(targets.scalar_type() == ScalarType::Long, "dovetail::count_right: targets must be int64");
  STD_TORCH_CHECK(logits.numel() == rows * classes, "dovetail::count_right: logits and targets do not fit");
  STD_TORCH_CHECK(targets.device() == logits.device(), "dovetail::count_right: logits and targets on two devices");
  keep_labels = as_contiguous(targets);
  const bool* kept = nullptr;
  if (mask.has_value()) {
    STD_TORCH_CHECK(mask->scalar_type() == ScalarType::Bool && mask->numel() == rows,
                    "dovetail::count_right: a mask is a boolean for each target");
    STD_TORCH_CHECK(mask->device() == logits.device(), "dovetail::count_right: logits and mask on two devices");
    keep_mask = as_contiguous(*mask);
    kept = static_cast<const bool*>(keep_mask.const_data_ptr());
  }
  return Labels{static_cast<const std::int64_t*>(keep_labels.const_data_ptr()), kept, rows, classes, ignore_index};
}

}  // namespace dovetail::count_right
