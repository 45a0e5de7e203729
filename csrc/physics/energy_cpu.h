// E(t), the energy of a sample's spectrum below a position t, on the CPU.
//
// One pass sums squares and stores the running sums after each chunk of bins, in as many lanes as a vector register
// has. Lanes are added only at the edges of bands; there, the bins of a chunk are read again, each weighted by the part
// of it below the position. All sums are float64.
#pragma once

#include "../common/clones.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace dovetail::physics {
namespace {

constexpr std::int64_t lanes = 8;
constexpr std::int64_t chunk_bins = 8;
constexpr std::int64_t chunk_numbers = 2 * chunk_bins;
// The prefetch distance in numbers.
constexpr std::int64_t prefetch_distance = 512;

// Return the number of running sums of a spectrum.
inline std::size_t below_size(std::int64_t bins) {
  return static_cast<std::size_t>(lanes * ((bins + chunk_bins - 1) / chunk_bins));
}

// The numbers of a chunk for the sums: 0 for the mean (bin 0) and after the last bin.
template <class Real>
struct Chunk {
  Chunk(const Real* spectrum, std::int64_t bins, std::int64_t index) {
    const std::int64_t first = chunk_numbers * index;
    if (index > 0 && first + chunk_numbers <= 2 * bins) {
      numbers = spectrum + first;
      return;
    }
    const std::int64_t begin = std::max<std::int64_t>(first, 2);
    const std::int64_t end = std::min(first + chunk_numbers, 2 * bins);
    for (std::int64_t position = begin; position < end; ++position) {
      padded[position - first] = spectrum[position];
    }
    numbers = padded;
  }
  Chunk(const Chunk&) = delete;
  Chunk& operator=(const Chunk&) = delete;

  const Real* numbers;
  Real padded[chunk_numbers] = {};
};

template <class Real>
[[gnu::always_inline]] inline void add_chunk(const Real* numbers, double* running, bool more, double* below) {
#pragma omp simd
  for (std::int64_t lane = 0; lane < lanes; ++lane) {
    const auto first = static_cast<double>(numbers[lane]);
    const auto second = static_cast<double>(numbers[lane + lanes]);
    running[lane] += first * first + second * second;
    below[lane] = more ? below[lane] + running[lane] : running[lane];
  }
}
static_assert(chunk_numbers == 2 * lanes);

// Write a channel's running sums to `below`, a row of lanes for each chunk; with `more`, add them to those in `below`.
template <class Real>
[[gnu::always_inline]] inline void sum_channel(const Real* spectrum, std::int64_t bins, bool more, double* below) {
  double running[lanes] = {};
  const std::int64_t chunks = (bins + chunk_bins - 1) / chunk_bins;
  const std::int64_t whole = bins / chunk_bins;
  // The first and last chunk are separate, so that the sums of the others stay in registers.
  add_chunk(Chunk<Real>(spectrum, bins, 0).numbers, running, more, below);
  for (std::int64_t index = 1; index < whole; ++index) {
    const Real* numbers = spectrum + chunk_numbers * index;
    __builtin_prefetch(numbers + prefetch_distance);
    add_chunk(numbers, running, more, below + lanes * index);
  }
  if (chunks > std::max<std::int64_t>(whole, 1)) {
    add_chunk(Chunk<Real>(spectrum, bins, chunks - 1).numbers, running, more, below + lanes * (chunks - 1));
  }
}

// Add to `sums` the squares of a chunk's numbers, each times the part of its bin below `position`, relative to the
// chunk.
template <class Real>
[[gnu::always_inline]] inline void add_part(const Real* numbers, double position, double* sums) {
  for (std::int64_t first = 0; first < chunk_numbers; first += lanes) {
#pragma omp simd
    for (std::int64_t lane = 0; lane < lanes; ++lane) {
      const auto number = static_cast<double>(numbers[first + lane]);
      const double above = position - static_cast<double>((first + lane) / 2);
      const double cut = above < 1.0 ? above : 1.0;
      const double part = cut > 0.0 ? cut : 0.0;
      sums[lane] += part * (number * number);
    }
  }
}

// Return E(t) at a position in the chunk `index`; `at_end` for the first and the last chunk.
template <class Real>
[[gnu::always_inline]] inline double energy_at(const Real* spectrum, std::int64_t channels, std::int64_t bins,
                                               const double* below, double position, std::int64_t index, bool at_end) {
  double sums[lanes] = {};
#pragma omp simd
  for (std::int64_t lane = 0; lane < lanes; ++lane) {
    sums[lane] = index > 0 ? below[lanes * (index - 1) + lane] : 0.0;
  }
  for (std::int64_t channel = 0; channel < channels; ++channel) {
    const Real* numbers = spectrum + 2 * bins * channel;
    add_part(at_end ? Chunk<Real>(numbers, bins, index).numbers : numbers + chunk_numbers * index,
             position - static_cast<double>(chunk_bins * index), sums);
  }
  return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

// Write E(t) at `count` positions.
template <class Real>
[[gnu::always_inline]] inline void evaluate_energies(const Real* spectrum, std::int64_t channels, std::int64_t bins,
                                           const double* below, const double* positions, std::int64_t count,
                                           double* energies) {
  for (std::int64_t at = 0; at < count; ++at) {
    const std::int64_t index = static_cast<std::int64_t>(positions[at]) / chunk_bins;
    if (index > 0 && (index + 1) * chunk_bins <= bins) {
      energies[at] = energy_at(spectrum, channels, bins, below, positions[at], index, false);
    }
  }
  for (std::int64_t at = 0; at < count; ++at) {
    const std::int64_t index = static_cast<std::int64_t>(positions[at]) / chunk_bins;
    if (index == 0 || (index + 1) * chunk_bins > bins) {
      energies[at] = energy_at(spectrum, channels, bins, below, positions[at], index, true);
    }
  }
}

template <class Real>
[[gnu::always_inline]] inline void sum_channels(const Real* spectrum, std::int64_t channels, std::int64_t bins,
                                                   double* below) {
  for (std::int64_t channel = 0; channel < channels; ++channel) {
    if (channel == 0) {
      sum_channel(spectrum, bins, false, below);
    } else {
      sum_channel(spectrum + 2 * bins * channel, bins, true, below);
    }
  }
}

DOVETAIL_CLONES void running_sums(const float* spectrum, std::int64_t channels, std::int64_t bins, double* below) {
  sum_channels(spectrum, channels, bins, below);
}
DOVETAIL_CLONES void running_sums(const double* spectrum, std::int64_t channels, std::int64_t bins, double* below) {
  sum_channels(spectrum, channels, bins, below);
}
DOVETAIL_CLONES void energies_at(const float* spectrum, std::int64_t channels, std::int64_t bins,
                                        const double* below, const double* positions, std::int64_t count,
                                        double* energies) {
  evaluate_energies(spectrum, channels, bins, below, positions, count, energies);
}
DOVETAIL_CLONES void energies_at(const double* spectrum, std::int64_t channels, std::int64_t bins,
                                        const double* below, const double* positions, std::int64_t count,
                                        double* energies) {
  evaluate_energies(spectrum, channels, bins, below, positions, count, energies);
}

}  // namespace
}  // namespace dovetail::physics
