// Frequency consistency: which part of a spectrum belongs to a class, for the CPU and the CUDA twin alike.
//
// A real signal of L samples at `bin_width` = sample rate / L has the bins k = 0 … L / 2. Bin k stands for the
// frequencies from k - 1/2 to k + 1/2, cut off at L / 2, over which its energy |X_k|² is spread evenly; the mean (bin 0)
// does not count. A place in the spectrum is t = f / bin_width + 1/2, so that bin k lies between k and k + 1, and the
// energy below t is a piecewise linear function E(t): a band, however narrow, always has some.
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

// Of one class, and of all together. MAX_BANDS and MAX_ALL_BANDS in src/dovetail/ops/_frequency.py are the same.
constexpr int max_bands = 64;
constexpr int max_all_bands = 1024;

// What an op's arguments come down to.
struct Plan {
  std::int64_t samples, channels, bins, classes;
  const double* bands;            // [bands, 4]: low and high in Hz, low and high in Hz per rpm; each pair is added up
  const std::int64_t* ends;       // [classes + 1]: where each class's bands begin, and the last one's end
  const double* rpm;              // [samples], or null
  const double* healthy;          // [classes] shares of energy, NaN for a flat spectrum's; or null
  std::int64_t band_count;
  double bin_width;
  double top;                     // the place of half the sample rate
};

// From `low` up to `high`, as places.
struct Stretch {
  double low;
  double high;
};

DOVETAIL_HOST_DEVICE inline double place_of(const Plan& plan, double hertz, double per_rpm, double rpm) {
  const double place = (hertz + per_rpm * rpm) / plan.bin_width + 0.5;
  return place < 1.0 ? 1.0 : place > plan.top ? plan.top : place;
}

DOVETAIL_HOST_DEVICE inline double rpm_of(const Plan& plan, std::int64_t sample) {
  const double rpm = plan.rpm == nullptr ? 0.0 : plan.rpm[sample];
  return rpm < 0.0 ? -rpm : rpm;
}

DOVETAIL_HOST_DEVICE inline std::int64_t end_of(const Plan& plan, std::int64_t index) {
  const std::int64_t end = plan.ends[index];
  return end < 0 ? 0 : end > plan.band_count ? plan.band_count : end;
}

// The stretches of a class for a sample, joined where they overlap, from low to high; `stretches` holds max_bands.
DOVETAIL_HOST_DEVICE inline int stretches_of(const Plan& plan, double rpm, std::int64_t which, Stretch* stretches) {
  int count = 0;
  const std::int64_t end = end_of(plan, which + 1);
  for (std::int64_t band = end_of(plan, which); band < end && count < max_bands; ++band) {
    const double* edges = plan.bands + 4 * band;
    const Stretch stretch{place_of(plan, edges[0], edges[2], rpm), place_of(plan, edges[1], edges[3], rpm)};
    int at = count++;
    for (; at > 0 && stretches[at - 1].low > stretch.low; --at) {
      stretches[at] = stretches[at - 1];
    }
    stretches[at] = stretch;
  }
  double reached = 1.0;
  int kept = 0;
  for (int index = 0; index < count; ++index) {
    const double low = stretches[index].low > reached ? stretches[index].low : reached;
    if (stretches[index].high > low) {
      reached = stretches[index].high;
      stretches[kept++] = Stretch{low, reached};
    }
  }
  return kept;
}

// What a class's bands hold of a sample's energy, and what that is to the class.
struct Evidence {
  double share;       // 0 to 1
  double penalty;     // 0 to 1
  double slope;       // of the penalty by the share
};

// A healthy machine's share h against the share s that was found: h / (s + h). 1 where the bands are empty, 1/2 where
// they hold what a healthy machine has in them, towards 0 where they stand out. 1/2 also where nothing can be said.
DOVETAIL_HOST_DEVICE inline Evidence weigh(const Plan& plan, std::int64_t which, double energy, double width,
                                           double total) {
  if (!(width > 0.0) || total == 0.0) {
    return {0.0, 0.5, 0.0};
  }
  const double share = energy / total;
  double healthy = width / (plan.top - 1.0);
  if (plan.healthy != nullptr && !(plan.healthy[which] != plan.healthy[which])) {
    healthy = plan.healthy[which];
  }
  const double both = share + healthy;
  if (both == 0.0) {
    return {share, 0.5, 0.0};
  }
  return {share, healthy / both, -healthy / (both * both)};
}

// Whether the sample's penalties are defined at all.
DOVETAIL_HOST_DEVICE inline bool defined(double total, double rpm) { return total < INFINITY && rpm < INFINITY; }

// The arguments as the kernels want them; `keep` holds what had to be copied.
inline Plan make_plan(const Tensor& spectrum, const Tensor& bands, const Tensor& ends, const std::optional<Tensor>& rpm,
                      const std::optional<Tensor>& healthy, double bin_width, std::int64_t length,
                      std::vector<Tensor>& keep) {
  const auto fits = [&](const Tensor& tensor, ScalarType dtype) {
    return tensor.scalar_type() == dtype && tensor.device() == spectrum.device();
  };
  STD_TORCH_CHECK(spectrum.dim() == 4 && spectrum.size(3) == 2 && length > 0 && spectrum.size(2) == length / 2 + 1,
                  "dovetail::frequency_penalties: the spectrum must be [samples, channels, length / 2 + 1, 2]");
  STD_TORCH_CHECK(spectrum.scalar_type() == ScalarType::Float || spectrum.scalar_type() == ScalarType::Double,
                  "dovetail::frequency_penalties: float32 and float64 only");
  STD_TORCH_CHECK(bands.dim() == 2 && bands.size(1) == 4 && bands.size(0) <= max_all_bands &&
                      fits(bands, ScalarType::Double),
                  "dovetail::frequency_penalties: bands must be float64 [bands, 4] where the spectrum is");
  STD_TORCH_CHECK(ends.dim() == 1 && ends.size(0) > 0 && fits(ends, ScalarType::Long),
                  "dovetail::frequency_penalties: ends must be int64 [classes + 1] where the spectrum is");
  STD_TORCH_CHECK(bin_width > 0.0, "dovetail::frequency_penalties: the width of a bin must be above 0");
  Plan plan{};
  plan.samples = spectrum.size(0);
  plan.channels = spectrum.size(1);
  plan.bins = spectrum.size(2);
  plan.classes = ends.size(0) - 1;
  plan.band_count = bands.size(0);
  plan.bin_width = bin_width;
  plan.top = static_cast<double>(length) / 2.0 + 0.5;
  keep.push_back(as_contiguous(bands));
  plan.bands = static_cast<const double*>(keep.back().const_data_ptr());
  keep.push_back(as_contiguous(ends));
  plan.ends = static_cast<const std::int64_t*>(keep.back().const_data_ptr());
  if (rpm.has_value()) {
    STD_TORCH_CHECK(rpm->dim() == 1 && rpm->size(0) == plan.samples && fits(*rpm, ScalarType::Double),
                    "dovetail::frequency_penalties: rpm must be float64 [samples] where the spectrum is");
    keep.push_back(as_contiguous(*rpm));
    plan.rpm = static_cast<const double*>(keep.back().const_data_ptr());
  }
  if (healthy.has_value()) {
    STD_TORCH_CHECK(healthy->dim() == 1 && healthy->size(0) == plan.classes && fits(*healthy, ScalarType::Double),
                    "dovetail::frequency_penalties: healthy must be float64 [classes] where the spectrum is");
    keep.push_back(as_contiguous(*healthy));
    plan.healthy = static_cast<const double*>(keep.back().const_data_ptr());
  }
  return plan;
}

inline void check_grad(const Plan& plan, const Tensor& grad, const Tensor& spectrum) {
  STD_TORCH_CHECK(grad.dim() == 2 && grad.size(0) == plan.samples && grad.size(1) == plan.classes &&
                      grad.scalar_type() == spectrum.scalar_type() && grad.device() == spectrum.device(),
                  "dovetail::frequency_penalties_backward: the gradient must be [samples, classes] like the spectrum");
}

}  // namespace dovetail::physics
