// E(t), the energy of a sample's spectrum below a place t, on the CPU.
//
// One pass adds up squares and leaves the running sums after every chunk of bins, in as many lanes as a vector register
// has: they are added to one another only where a band begins or ends. There, a chunk's bins are looked at again, each
// weighed by how much of it lies below the place. All sums are float64.
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
// How far ahead numbers are fetched.
constexpr std::int64_t ahead = 512;

// How many running sums a spectrum has.
inline std::size_t below_size(std::int64_t bins) {
  return static_cast<std::size_t>(lanes * ((bins + chunk_bins - 1) / chunk_bins));
}

// The numbers of a chunk as the sums want them: without the mean (bin 0), and zeros after the last bin.
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
    for (std::int64_t place = begin; place < end; ++place) {
      filled_up[place - first] = spectrum[place];
    }
    numbers = filled_up;
  }
  Chunk(const Chunk&) = delete;
  Chunk& operator=(const Chunk&) = delete;

  const Real* numbers;
  Real filled_up[chunk_numbers] = {};
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

// A channel's running sums, a row of lanes for each chunk; `more` are added to what is in `below`.
template <class Real>
[[gnu::always_inline]] inline void run_through(const Real* spectrum, std::int64_t bins, bool more, double* below) {
  double running[lanes] = {};
  const std::int64_t chunks = (bins + chunk_bins - 1) / chunk_bins;
  const std::int64_t whole = bins / chunk_bins;
  // Apart from the rest, so that the sums stay in registers over the whole chunks.
  add_chunk(Chunk<Real>(spectrum, bins, 0).numbers, running, more, below);
  for (std::int64_t index = 1; index < whole; ++index) {
    const Real* numbers = spectrum + chunk_numbers * index;
    __builtin_prefetch(numbers + ahead);
    add_chunk(numbers, running, more, below + lanes * index);
  }
  if (chunks > std::max<std::int64_t>(whole, 1)) {
    add_chunk(Chunk<Real>(spectrum, bins, chunks - 1).numbers, running, more, below + lanes * (chunks - 1));
  }
}

// To `sums` the squares of a chunk's numbers, each times the part of its bin that is below `place`, which is counted
// from the beginning of the chunk.
template <class Real>
[[gnu::always_inline]] inline void add_part(const Real* numbers, double place, double* sums) {
  for (std::int64_t first = 0; first < chunk_numbers; first += lanes) {
#pragma omp simd
    for (std::int64_t lane = 0; lane < lanes; ++lane) {
      const auto number = static_cast<double>(numbers[first + lane]);
      const double above = place - static_cast<double>((first + lane) / 2);
      const double cut = above < 1.0 ? above : 1.0;
      const double part = cut > 0.0 ? cut : 0.0;
      sums[lane] += part * (number * number);
    }
  }
}

// E(t) at a place in the chunk `index`; `at_end` if it is the first or the last.
template <class Real>
[[gnu::always_inline]] inline double energy_at(const Real* spectrum, std::int64_t channels, std::int64_t bins,
                                               const double* below, double place, std::int64_t index, bool at_end) {
  double sums[lanes] = {};
#pragma omp simd
  for (std::int64_t lane = 0; lane < lanes; ++lane) {
    sums[lane] = index > 0 ? below[lanes * (index - 1) + lane] : 0.0;
  }
  for (std::int64_t channel = 0; channel < channels; ++channel) {
    const Real* numbers = spectrum + 2 * bins * channel;
    add_part(at_end ? Chunk<Real>(numbers, bins, index).numbers : numbers + chunk_numbers * index,
             place - static_cast<double>(chunk_bins * index), sums);
  }
  return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

// E(t) at each of `count` places.
template <class Real>
[[gnu::always_inline]] inline void look_up(const Real* spectrum, std::int64_t channels, std::int64_t bins,
                                           const double* below, const double* places, std::int64_t count,
                                           double* energies) {
  for (std::int64_t at = 0; at < count; ++at) {
    const std::int64_t index = static_cast<std::int64_t>(places[at]) / chunk_bins;
    if (index > 0 && (index + 1) * chunk_bins <= bins) {
      energies[at] = energy_at(spectrum, channels, bins, below, places[at], index, false);
    }
  }
  for (std::int64_t at = 0; at < count; ++at) {
    const std::int64_t index = static_cast<std::int64_t>(places[at]) / chunk_bins;
    if (index == 0 || (index + 1) * chunk_bins > bins) {
      energies[at] = energy_at(spectrum, channels, bins, below, places[at], index, true);
    }
  }
}

template <class Real>
[[gnu::always_inline]] inline void run_through_all(const Real* spectrum, std::int64_t channels, std::int64_t bins,
                                                   double* below) {
  for (std::int64_t channel = 0; channel < channels; ++channel) {
    if (channel == 0) {
      run_through(spectrum, bins, false, below);
    } else {
      run_through(spectrum + 2 * bins * channel, bins, true, below);
    }
  }
}

DOVETAIL_CLONES void running_sums(const float* spectrum, std::int64_t channels, std::int64_t bins, double* below) {
  run_through_all(spectrum, channels, bins, below);
}
DOVETAIL_CLONES void running_sums(const double* spectrum, std::int64_t channels, std::int64_t bins, double* below) {
  run_through_all(spectrum, channels, bins, below);
}
DOVETAIL_CLONES void energies_at(const float* spectrum, std::int64_t channels, std::int64_t bins,
                                        const double* below, const double* places, std::int64_t count,
                                        double* energies) {
  look_up(spectrum, channels, bins, below, places, count, energies);
}
DOVETAIL_CLONES void energies_at(const double* spectrum, std::int64_t channels, std::int64_t bins,
                                        const double* below, const double* places, std::int64_t count,
                                        double* energies) {
  look_up(spectrum, channels, bins, below, places, count, energies);
}

}  // namespace
}  // namespace dovetail::physics
