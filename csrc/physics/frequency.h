// frequency_penalties and its backward: the ops, and what their CPU and CUDA implementations have in common.
//
// A real signal of L samples has the bins k = 0 … L / 2 of `bin_width` = sample rate / L. Bin k covers the frequencies
// from k - 1/2 to k + 1/2, cut off at L / 2, and its energy |X_k|² is spread evenly over them; the mean (bin 0) is
// ignored. A position in the spectrum is t = f / bin_width + 1/2, so that bin k is between k and k + 1. The energy
// below t is a piecewise linear function E(t), so a band contains some energy, however narrow it is.
#pragma once

#include "../common/host_device.h"
#include "../common/memory.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <cmath>
#include <cstdint>
#include <optional>
#include <vector>

namespace dovetail::physics {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// The largest number of bands of a class, and of all classes; MAX_BANDS and MAX_ALL_BANDS in
// src/dovetail/ops/_frequency.py are the same.
constexpr int max_bands = 64;
constexpr int max_all_bands = 1024;

// The checked arguments of an op.
struct Plan {
  std::int64_t samples, channels, bins, classes;
  // [bands, 4]: low and high in Hz, then low and high in Hz per rpm; an edge is the sum of both.
  const double* bands;
  const std::int64_t* ends;       // [classes + 1]: the first band of each class, then the number of bands
  const double* rpm;              // [samples], or null
  const double* healthy;          // [classes] fractions of energy, NaN for that of a flat spectrum; or null
  std::int64_t band_count;
  double bin_width;
  double top;                     // the position of half the sample rate
};

// The positions from `low` to `high`.
struct Interval {
  double low;
  double high;
};

DOVETAIL_HOST_DEVICE inline double position_of(const Plan& plan, double hertz, double per_rpm, double rpm) {
  const double position = (hertz + per_rpm * rpm) / plan.bin_width + 0.5;
  return position < 1.0 ? 1.0 : position > plan.top ? plan.top : position;
}

DOVETAIL_HOST_DEVICE inline double rpm_of(const Plan& plan, std::int64_t sample) {
  const double rpm = plan.rpm == nullptr ? 0.0 : plan.rpm[sample];
  return rpm < 0.0 ? -rpm : rpm;
}

DOVETAIL_HOST_DEVICE inline std::int64_t end_of(const Plan& plan, std::int64_t index) {
  const std::int64_t end = plan.ends[index];
  return end < 0 ? 0 : end > plan.band_count ? plan.band_count : end;
}

// Write the intervals of a class for a sample in ascending order, without overlaps, and return their number;
// `intervals` has room for max_bands.
DOVETAIL_HOST_DEVICE inline int intervals_of(const Plan& plan, double rpm, std::int64_t which, Interval* intervals) {
  int count = 0;
  const std::int64_t end = end_of(plan, which + 1);
  for (std::int64_t band = end_of(plan, which); band < end && count < max_bands; ++band) {
    const double* edges = plan.bands + 4 * band;
    const Interval interval{position_of(plan, edges[0], edges[2], rpm), position_of(plan, edges[1], edges[3], rpm)};
    int at = count++;
    for (; at > 0 && intervals[at - 1].low > interval.low; --at) {
      intervals[at] = intervals[at - 1];
    }
    intervals[at] = interval;
  }
  double reached = 1.0;
  int kept = 0;
  for (int index = 0; index < count; ++index) {
    const double low = intervals[index].low > reached ? intervals[index].low : reached;
    if (intervals[index].high > low) {
      reached = intervals[index].high;
      intervals[kept++] = Interval{low, reached};
    }
  }
  return kept;
}

// The energy of a sample in the bands of a class, and the penalty.
struct ClassPenalty {
  double fraction;    // of the energy, 0 to 1
  double penalty;     // 0 to 1
  double slope;       // derivative of the penalty with respect to the fraction
};

// Return the penalty h / (s + h) for the fractions of energy h of a healthy machine and s of the sample: 1 for empty
// bands, 1/2 for those of a healthy machine, towards 0 if they stand out. It is also 1/2 if it is undefined.
DOVETAIL_HOST_DEVICE inline ClassPenalty penalty_of(const Plan& plan, std::int64_t which, double energy, double width,
                                                    double total) {
  if (!(width > 0.0) || total == 0.0) {
    return {0.0, 0.5, 0.0};
  }
  const double fraction = energy / total;
  double healthy = width / (plan.top - 1.0);
  if (plan.healthy != nullptr && !(plan.healthy[which] != plan.healthy[which])) {
    healthy = plan.healthy[which];
  }
  const double both = fraction + healthy;
  if (both == 0.0) {
    return {fraction, 0.5, 0.0};
  }
  return {fraction, healthy / both, -healthy / (both * both)};
}

// Return whether the penalties of a sample are defined.
DOVETAIL_HOST_DEVICE inline bool defined(double total, double rpm) { return total < INFINITY && rpm < INFINITY; }

// Check the arguments; `storage` owns the memory of the result.
inline Plan make_plan(const Tensor& spectrum, const Tensor& bands, const Tensor& ends, const std::optional<Tensor>& rpm,
                      const std::optional<Tensor>& healthy, double bin_width, std::int64_t length,
                      std::vector<Tensor>& storage) {
  const auto fits = [&](const Tensor& tensor, ScalarType dtype) {
    return tensor.scalar_type() == dtype && tensor.device() == spectrum.device();
  };
  STD_TORCH_CHECK(spectrum.dim() == 4 && spectrum.size(3) == 2 && length > 0 && spectrum.size(2) == length / 2 + 1,
                  "dovetail::frequency_penalties: the spectrum must be [samples, channels, length / 2 + 1, 2]");
  STD_TORCH_CHECK(spectrum.scalar_type() == ScalarType::Float || spectrum.scalar_type() == ScalarType::Double,
                  "dovetail::frequency_penalties: float32 and float64 only");
  STD_TORCH_CHECK(bands.dim() == 2 && bands.size(1) == 4 && bands.size(0) <= max_all_bands &&
                      fits(bands, ScalarType::Double),
                  "dovetail::frequency_penalties: bands must be float64 [bands, 4] on the device of the spectrum");
  STD_TORCH_CHECK(ends.dim() == 1 && ends.size(0) > 0 && fits(ends, ScalarType::Long),
                  "dovetail::frequency_penalties: ends must be int64 [classes + 1] on the device of the spectrum");
  STD_TORCH_CHECK(bin_width > 0.0, "dovetail::frequency_penalties: the width of a bin must be above 0");
  Plan plan{};
  plan.samples = spectrum.size(0);
  plan.channels = spectrum.size(1);
  plan.bins = spectrum.size(2);
  plan.classes = ends.size(0) - 1;
  plan.band_count = bands.size(0);
  plan.bin_width = bin_width;
  plan.top = static_cast<double>(length) / 2.0 + 0.5;
  storage.push_back(as_contiguous(bands));
  plan.bands = static_cast<const double*>(storage.back().const_data_ptr());
  storage.push_back(as_contiguous(ends));
  plan.ends = static_cast<const std::int64_t*>(storage.back().const_data_ptr());
  if (rpm.has_value()) {
    STD_TORCH_CHECK(rpm->dim() == 1 && rpm->size(0) == plan.samples && fits(*rpm, ScalarType::Double),
                    "dovetail::frequency_penalties: rpm must be float64 [samples] on the device of the spectrum");
    storage.push_back(as_contiguous(*rpm));
    plan.rpm = static_cast<const double*>(storage.back().const_data_ptr());
  }
  if (healthy.has_value()) {
    STD_TORCH_CHECK(healthy->dim() == 1 && healthy->size(0) == plan.classes && fits(*healthy, ScalarType::Double),
                    "dovetail::frequency_penalties: healthy must be float64 [classes] on the device of the spectrum");
    storage.push_back(as_contiguous(*healthy));
    plan.healthy = static_cast<const double*>(storage.back().const_data_ptr());
  }
  return plan;
}

inline void check_grad(const Plan& plan, const Tensor& grad, const Tensor& spectrum) {
  STD_TORCH_CHECK(grad.dim() == 2 && grad.size(0) == plan.samples && grad.size(1) == plan.classes &&
                      grad.scalar_type() == spectrum.scalar_type() && grad.device() == spectrum.device(),
                  "dovetail::frequency_penalties_backward: the gradient must be [samples, classes] with the dtype and device "
                  "of the spectrum");
}

// The op. `Backend::dense(spectrum)` returns the spectrum as the kernels read it, and
// `Backend::forward<Real>(plan, spectrum, penalties)` writes the penalties.
template <class Backend>
Tensor frequency_penalties(Tensor spectrum, Tensor bands, Tensor ends, std::optional<Tensor> rpm,
                           std::optional<Tensor> healthy, double bin_width, std::int64_t length) {
  std::vector<Tensor> storage;
  const Plan plan = make_plan(spectrum, bands, ends, rpm, healthy, bin_width, length, storage);
  const Tensor dense = Backend::dense(spectrum);
  Tensor penalties = allocate(dense, {plan.samples, plan.classes}, dense.scalar_type());
  if (dense.scalar_type() == ScalarType::Float) {
    Backend::template forward<float>(plan, dense, penalties);
  } else {
    Backend::template forward<double>(plan, dense, penalties);
  }
  return penalties;
}

// The backward. `Backend::backward<Real>(plan, grads, spectrum, out)` writes the gradient of the spectrum.
template <class Backend>
Tensor frequency_penalties_backward(Tensor grad, Tensor spectrum, Tensor bands, Tensor ends, std::optional<Tensor> rpm,
                                    std::optional<Tensor> healthy, double bin_width, std::int64_t length) {
  std::vector<Tensor> storage;
  const Plan plan = make_plan(spectrum, bands, ends, rpm, healthy, bin_width, length, storage);
  check_grad(plan, grad, spectrum);
  const Tensor dense = Backend::dense(spectrum);
  const Tensor grads = as_contiguous(grad);
  Tensor out = allocate(dense, {plan.samples, plan.channels, plan.bins, 2}, dense.scalar_type());
  if (dense.scalar_type() == ScalarType::Float) {
    Backend::template backward<float>(plan, grads, dense, out);
  } else {
    Backend::template backward<double>(plan, grads, dense, out);
  }
  return out;
}

}  // namespace dovetail::physics
