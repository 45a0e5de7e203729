// count_right: the op, and what its CPU and CUDA implementations have in common.
//
// A prediction is correct if the score of the label is the first maximum of its row; NaN is larger than any number, as
// in torch.argmax. Equivalently, all scores before the label's are smaller and none after it is larger. So the kernels
// need no index of the maximum and can read a row in any order.
#pragma once

#include "../common/dtypes.h"
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

// Return whether a score before the label's (if not smaller) or after it (if larger) rules out the label.
template <class Score>
DOVETAIL_HOST_DEVICE inline bool exceeded_before(Score label, Score other) {
  return label != label ? other != other : !(other < label);
}

template <class Score>
DOVETAIL_HOST_DEVICE inline bool exceeded_after(Score label, Score other) {
  return label != label ? false : !(other <= label);
}

struct Labels {
  const std::int64_t* labels;    // [rows]
  const bool* mask;              // [rows], or null to count all
  std::int64_t rows;
  std::int64_t classes;
  std::int64_t ignore;

  DOVETAIL_HOST_DEVICE bool counts(std::int64_t row) const {
    return labels[row] != ignore && (mask == nullptr || mask[row]);
  }
};

// Check the arguments. `label_storage` and `mask_storage` own the memory of the result.
inline Labels read_labels(const Tensor& logits, const Tensor& targets, const std::optional<Tensor>& mask,
                          std::int64_t ignore_index, Tensor& label_storage, Tensor& mask_storage) {
  STD_TORCH_CHECK(logits.dim() == targets.dim() + 1,
                  "dovetail::count_right: logits must be [..., classes] and targets [...]");
  check_floating("count_right", logits.scalar_type());
  const std::int64_t classes = logits.size(logits.dim() - 1);
  const std::int64_t rows = targets.numel();
  STD_TORCH_CHECK(targets.scalar_type() == ScalarType::Long, "dovetail::count_right: targets must be int64");
  STD_TORCH_CHECK(logits.numel() == rows * classes,
                  "dovetail::count_right: the shapes of logits and targets do not match");
  STD_TORCH_CHECK(targets.device() == logits.device(),
                  "dovetail::count_right: logits and targets must be on one device");
  label_storage = as_contiguous(targets);
  const bool* mask_data = nullptr;
  if (mask.has_value()) {
    STD_TORCH_CHECK(mask->scalar_type() == ScalarType::Bool && mask->numel() == rows,
                    "dovetail::count_right: the mask must have a boolean for each target");
    STD_TORCH_CHECK(mask->device() == logits.device(), "dovetail::count_right: logits and mask must be on one device");
    mask_storage = as_contiguous(*mask);
    mask_data = static_cast<const bool*>(mask_storage.const_data_ptr());
  }
  return Labels{static_cast<const std::int64_t*>(label_storage.const_data_ptr()), mask_data, rows, classes,
                ignore_index};
}

// The op. `Backend::count(labels, scores, result)` writes the two counts of contiguous scores to the result.
template <class Backend>
Tensor count_right(Tensor logits, Tensor targets, std::optional<Tensor> mask, std::int64_t ignore_index) {
  Tensor label_storage;
  Tensor mask_storage;
  const Labels labels = read_labels(logits, targets, mask, ignore_index, label_storage, mask_storage);
  const Tensor scores = as_contiguous(logits);
  Tensor result = allocate(logits, {2}, ScalarType::Long);
  Backend::count(labels, scores, static_cast<std::int64_t*>(result.mutable_data_ptr()));
  return result;
}

}  // namespace dovetail::count_right
