// count_right on the CPU: schema, kernel, registration.

#include "count_right.h"

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <algorithm>
#include <atomic>

namespace dovetail::count_right {
namespace {

// The number of scores that justify another thread.
constexpr std::int64_t grain_scores = 1 << 16;

// 16-bit scores are compared as float32, an exact conversion.
inline float comparable(float score) { return score; }
inline double comparable(double score) { return score; }
inline float comparable(torch::headeronly::BFloat16 score) { return static_cast<float>(score); }
inline float comparable(torch::headeronly::Half score) { return static_cast<float>(score); }

// No early exit, so that the compiler can vectorise the comparison.
template <class Score>
inline bool is_correct(const Score* row, std::int64_t label, std::int64_t classes) {
  if (label < 0 || label >= classes) {
    return false;
  }
  const auto own = comparable(row[label]);
  int exceeded = 0;
  for (std::int64_t other = 0; other < label; ++other) {
    exceeded |= exceeded_before(own, comparable(row[other])) ? 1 : 0;
  }
  for (std::int64_t other = label + 1; other < classes; ++other) {
    exceeded |= exceeded_after(own, comparable(row[other])) ? 1 : 0;
  }
  return exceeded == 0;
}

template <class Score>
void count_rows(const Labels& labels, const void* logits, std::int64_t* result) {
  const auto* scores = static_cast<const Score*>(logits);
  std::atomic<std::int64_t> all_correct{0};
  std::atomic<std::int64_t> all_counted{0};
  const std::int64_t grain = std::max<std::int64_t>(1, grain_scores / std::max<std::int64_t>(1, labels.classes));
  torch::stable::parallel_for(0, labels.rows, grain, [&](std::int64_t begin, std::int64_t end) {
    std::int64_t correct = 0;
    std::int64_t counted = 0;
    for (std::int64_t row = begin; row < end; ++row) {
      if (labels.counts(row)) {
        ++counted;
        correct += is_correct(scores + row * labels.classes, labels.labels[row], labels.classes) ? 1 : 0;
      }
    }
    all_correct += correct;
    all_counted += counted;
  });
  result[0] = all_correct;
  result[1] = all_counted;
}

struct Cpu {
  static void count(const Labels& labels, const Tensor& scores, std::int64_t* result) {
    switch (scores.scalar_type()) {
      case ScalarType::Float:
        return count_rows<float>(labels, scores.const_data_ptr(), result);
      case ScalarType::Double:
        return count_rows<double>(labels, scores.const_data_ptr(), result);
      case ScalarType::BFloat16:
        return count_rows<torch::headeronly::BFloat16>(labels, scores.const_data_ptr(), result);
      default:    // read_labels accepts only one other dtype
        return count_rows<torch::headeronly::Half>(labels, scores.const_data_ptr(), result);
    }
  }
};

}  // namespace
}  // namespace dovetail::count_right

STABLE_TORCH_LIBRARY_FRAGMENT(dovetail, library) {
  library.def("count_right(Tensor logits, Tensor targets, Tensor? mask, int ignore_index) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(dovetail, CPU, library) {
  library.impl("count_right", TORCH_BOX(&dovetail::count_right::count_right<dovetail::count_right::Cpu>));
}
