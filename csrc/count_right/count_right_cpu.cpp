// count_right on the CPU: schema, kernel, registration.

#include "count_right.h"

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <algorithm>
#include <atomic>

namespace dovetail::count_right {
namespace {

// About as many scores as are worth a thread.
constexpr std::int64_t grain_scores = 1 << 16;

// 16-bit scores are compared as float32, which holds them exactly.
inline float comparable(float score) { return score; }
inline double comparable(double score) { return score; }
inline float comparable(torch::headeronly::BFloat16 score) { return static_cast<float>(score); }
inline float comparable(torch::headeronly::Half score) { return static_cast<float>(score); }

// Written without an early way out, so that a row is compared many scores at a time.
template <class Score>
inline bool is_right(const Score* row, std::int64_t label, std::int64_t classes) {
  if (label < 0 || label >= classes) {
    return false;
  }
  const auto own = comparable(row[label]);
  int beaten = 0;
  for (std::int64_t other = 0; other < label; ++other) {
    beaten |= beaten_from_before(own, comparable(row[other])) ? 1 : 0;
  }
  for (std::int64_t other = label + 1; other < classes; ++other) {
    beaten |= beaten_from_behind(own, comparable(row[other])) ? 1 : 0;
  }
  return beaten == 0;
}

template <class Score>
void count(const Labels& labels, const void* logits, std::int64_t* result) {
  const auto* scores = static_cast<const Score*>(logits);
  std::atomic<std::int64_t> all_right{0};
  std::atomic<std::int64_t> all{0};
  const std::int64_t grain = std::max<std::int64_t>(1, grain_scores / std::max<std::int64_t>(1, labels.classes));
  torch::stable::parallel_for(0, labels.rows, grain, [&](std::int64_t begin, std::int64_t end) {
    std::int64_t right = 0;
    std::int64_t total = 0;
    for (std::int64_t row = begin; row < end; ++row) {
      if (labels.counts(row)) {
        ++total;
        right += is_right(scores + row * labels.classes, labels.labels[row], labels.classes) ? 1 : 0;
      }
    }
    all_right += right;
    all += total;
  });
  result[0] = all_right;
  result[1] = all;
}

Tensor count_right(Tensor logits, Tensor targets, std::optional<Tensor> mask, std::int64_t ignore_index) {
  Tensor keep_labels;
  Tensor keep_mask;
  const Labels labels = read_labels(logits, targets, mask, ignore_index, keep_labels, keep_mask);
  const Tensor scores = as_contiguous(logits);
  Tensor result = empty_beside(logits, {2}, ScalarType::Long);
  auto* out = static_cast<std::int64_t*>(result.mutable_data_ptr());
  switch (scores.scalar_type()) {
    case ScalarType::Float:
      count<float>(labels, scores.const_data_ptr(), out);
      break;
    case ScalarType::Double:
      count<double>(labels, scores.const_data_ptr(), out);
      break;
    case ScalarType::BFloat16:
      count<torch::headeronly::BFloat16>(labels, scores.const_data_ptr(), out);
      break;
    default:    // the last that read_labels lets through
      count<torch::headeronly::Half>(labels, scores.const_data_ptr(), out);
  }
  return result;
}

}  // namespace
}  // namespace dovetail::count_right

STABLE_TORCH_LIBRARY_FRAGMENT(dovetail, library) {
  library.def("count_right(Tensor logits, Tensor targets, Tensor? mask, int ignore_index) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(dovetail, CPU, library) {
  library.impl("count_right", TORCH_BOX(&dovetail::count_right::count_right));
}
