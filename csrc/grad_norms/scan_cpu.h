// The scans of grad_norms_cpu.cpp. It includes this file once per x86-64 level, inside a namespace of that level, so
// there is no include guard. target_clones does not work here: it lowers vector types to the level's registers before
// inlining. The code calls no function of the standard library: the linker could keep a single level's copy of it for
// all levels.

// 64 bytes: one register with AVX-512, two with AVX2, four at the baseline.
using Words = std::int32_t __attribute__((vector_size(64)));
using Floats = float __attribute__((vector_size(64)));
using Longs = std::int64_t __attribute__((vector_size(64)));
using Doubles = double __attribute__((vector_size(64)));
using HalfWords = std::int32_t __attribute__((vector_size(32)));
using HalfFloats = float __attribute__((vector_size(32)));

// Readers of each dtype: `split` returns the magnitudes of a row of elements as the bits of two vectors of floats. With
// the sign cleared, the bits as integers have the order of the magnitudes, with NaN above infinity: an integer maximum
// gives max |g| and keeps NaN.
struct F32 {
  using Item = float;
  using Bits = Words;
  using Values = Floats;
  static constexpr std::int64_t lanes = 32;
  static constexpr std::int64_t infinity = infinity_bits;
  static void split(const Item* row, Words& first, Words& second) {
    __builtin_memcpy(&first, row, sizeof(first));
    __builtin_memcpy(&second, row + lanes / 2, sizeof(second));
    first &= 0x7fffffff;
    second &= 0x7fffffff;
  }
};

struct BF16 {
  using Item = std::uint16_t;
  using Bits = Words;
  using Values = Floats;
  static constexpr std::int64_t lanes = 32;
  static constexpr std::int64_t infinity = infinity_bits;
  static void split(const Item* row, Words& first, Words& second) {
    Words pairs;
    __builtin_memcpy(&pairs, row, sizeof(pairs));
    first = (pairs << 16) & 0x7fff0000;
    second = pairs & 0x7fff0000;
  }
};

struct F16 {
  using Item = std::uint16_t;
  using Bits = Words;
  using Values = Floats;
  static constexpr std::int64_t lanes = 32;
  static constexpr std::int64_t infinity = infinity_bits;
  // Adding 112 changes the bias of the exponent. A subnormal is read as 2^-14 × (1 + m / 1024) minus 2^-14, which is
  // exact and avoids denormal floats, which take a hundred cycles each. The largest exponent becomes that of float32.
  static void widen(Words& bits) {
    const Words normal = bits + (112 << 23);
    const Words subnormal = (Words)((Floats)(bits + (113 << 23)) - 0x1p-14F);
    const Words finite = bits < (1 << 23) ? subnormal : normal;
    bits = bits >= (31 << 23) ? normal + (112 << 23) : finite;
  }
  static void split(const Item* row, Words& first, Words& second) {
    Words pairs;
    __builtin_memcpy(&pairs, row, sizeof(pairs));
    first = (pairs & 0x7fff) << 13;
    second = (pairs >> 3) & 0x0fffe000;
    widen(first);
    widen(second);
  }
};

struct F64 {
  using Item = double;
  using Bits = Longs;
  using Values = Doubles;
  static constexpr std::int64_t lanes = 16;
  static constexpr std::int64_t infinity = 0x7ff0000000000000LL;
  static void split(const Item* row, Longs& first, Longs& second) {
    __builtin_memcpy(&first, row, sizeof(first));
    __builtin_memcpy(&second, row + lanes / 2, sizeof(second));
    first &= 0x7fffffffffffffffLL;
    second &= 0x7fffffffffffffffLL;
  }
};

// Call `take` with both vectors of each row of `items`, the last one padded with zeros; return the number of zeros.
template <class Format, class Take>
inline std::int64_t visit(const typename Format::Item* items, std::int64_t count, Take take) {
  typename Format::Bits first, second;
  const std::int64_t whole = count - count % Format::lanes;
  for (std::int64_t start = 0; start < whole; start += Format::lanes) {
    __builtin_prefetch(items + start + prefetch_bytes / static_cast<std::int64_t>(sizeof(*items)));
    Format::split(items + start, first, second);
    take(first, second);
  }
  if (whole == count) {
    return 0;
  }
  typename Format::Item rest[Format::lanes] = {};
  __builtin_memcpy(rest, items + whole, static_cast<std::size_t>(count - whole) * sizeof(rest[0]));
  Format::split(rest, first, second);
  take(first, second);
  return Format::lanes - (count - whole);
}

inline void widen(const Words& vector, Longs& low, Longs& high) {
  low = __builtin_convertvector(__builtin_shufflevector(vector, vector, 0, 1, 2, 3, 4, 5, 6, 7), Longs);
  high = __builtin_convertvector(__builtin_shufflevector(vector, vector, 8, 9, 10, 11, 12, 13, 14, 15), Longs);
}

inline void widen(const Floats& vector, Doubles& low, Doubles& high) {
  low = __builtin_convertvector(__builtin_shufflevector(vector, vector, 0, 1, 2, 3, 4, 5, 6, 7), Doubles);
  high = __builtin_convertvector(__builtin_shufflevector(vector, vector, 8, 9, 10, 11, 12, 13, 14, 15), Doubles);
}

// Combine two vectors by adding pairs of elements.
inline void fold(const Words& first, const Words& second, Longs& out) {
  Longs high;
  widen(first + second, out, high);
  out += high;
}

inline void fold(const Longs& first, const Longs& second, Longs& out) { out = first + second; }

inline void fold(const Floats& first, const Floats& second, Doubles& out) {
  Doubles low, high;
  widen(first, out, low);
  out += low;
  widen(second, low, high);
  out += low + high;
}

inline void fold(const Doubles& first, const Doubles& second, Doubles& out) { out = first + second; }

inline void fold_largest(const Words& first, const Words& second, Longs& out) {
  Longs high;
  const Words larger = first > second ? first : second;
  widen(larger, out, high);
  out = high > out ? high : out;
}

inline void fold_largest(const Longs& first, const Longs& second, Longs& out) { out = first > second ? first : second; }

// Return the sum of eight elements, by halves.
template <class Scalar, class Vector>
inline Scalar sum_of(Vector vector) {
  vector += __builtin_shufflevector(vector, vector, 4, 5, 6, 7, 0, 1, 2, 3);
  vector += __builtin_shufflevector(vector, vector, 2, 3, 0, 1, 6, 7, 4, 5);
  return vector[0] + vector[1];
}

inline std::int64_t largest_of(const Longs& vector) {
  const Longs halves = __builtin_shufflevector(vector, vector, 4, 5, 6, 7, 0, 1, 2, 3);
  const Longs half = halves > vector ? halves : vector;
  const Longs quarters = __builtin_shufflevector(half, half, 2, 3, 0, 1, 6, 7, 4, 5);
  const Longs quarter = quarters > half ? quarters : half;
  return quarter[0] > quarter[1] ? quarter[0] : quarter[1];
}

inline void add_square(const Words& bits, Doubles& sum) {
  Doubles low, high;
  widen((Floats)bits, low, high);
  sum += low * low;
  sum += high * high;
}

inline void add_square(const Longs& bits, Doubles& sum) { sum += (Doubles)bits * (Doubles)bits; }

// Scan a block with NaN, an infinity, or squares outside the range of float32: sum in float64, and count NaN and Inf.
template <class Format>
inline void scan_slowly(const typename Format::Item* items, std::int64_t count, Partial& partial) {
  using Bits = typename Format::Bits;
  Doubles sum_0{}, sum_1{};
  Bits nans_0{}, nans_1{}, infs_0{}, infs_1{};
  visit<Format>(items, count, [&](const Bits& first, const Bits& second) {
    add_square(first, sum_0);
    add_square(second, sum_1);
    nans_0 -= first > Format::infinity;
    nans_1 -= second > Format::infinity;
    infs_0 -= first == Format::infinity;
    infs_1 -= second == Format::infinity;
  });
  Longs nans, infs;
  fold(nans_0, nans_1, nans);
  fold(infs_0, infs_1, infs);
  partial.sum = sum_of<double>(Doubles(sum_0 + sum_1));
  partial.nans = sum_of<std::int64_t>(nans);
  partial.infs = sum_of<std::int64_t>(infs);
}

inline double magnitude_of(std::int64_t top, Words) {
  const auto bits = static_cast<std::uint32_t>(top);
  float value;
  __builtin_memcpy(&value, &bits, sizeof(value));
  return static_cast<double>(value);
}

inline double magnitude_of(std::int64_t top, Longs) {
  double value;
  __builtin_memcpy(&value, &top, sizeof(value));
  return value;
}

inline bool needs_care(std::int64_t top, Words) {
  return top != 0 && (top < static_cast<std::int64_t>(smallest_fast) || top > static_cast<std::int64_t>(largest_fast));
}

inline bool needs_care(std::int64_t top, Longs) { return top >= F64::infinity; }

template <class Format>
inline void scan_block(const typename Format::Item* items, std::int64_t count, Partial& partial) {
  using Bits = typename Format::Bits;
  using Values = typename Format::Values;
  Values sum_0{}, sum_1{};
  Bits top_0{}, top_1{}, zeros_0{}, zeros_1{};
  const std::int64_t padding = visit<Format>(items, count, [&](const Bits& first, const Bits& second) {
    sum_0 += (Values)first * (Values)first;
    sum_1 += (Values)second * (Values)second;
    top_0 = first > top_0 ? first : top_0;
    top_1 = second > top_1 ? second : top_1;
    zeros_0 -= first == 0;
    zeros_1 -= second == 0;
  });
  Longs tops, zeros;
  fold_largest(top_0, top_1, tops);
  fold(zeros_0, zeros_1, zeros);
  const std::int64_t top = largest_of(tops);
  partial.max_abs = magnitude_of(top, Bits{});
  partial.zeros = sum_of<std::int64_t>(zeros) - padding;
  if (__builtin_expect(needs_care(top, Bits{}), 0)) {
    scan_slowly<Format>(items, count, partial);
    return;
  }
  Doubles sum;
  fold(sum_0, sum_1, sum);
  partial.sum = sum_of<double>(sum);
}

template <class Format>
inline Partial scan(const void* data, std::int64_t count) {
  const auto* items = static_cast<const typename Format::Item*>(data);
  Partial all;
  for (std::int64_t start = 0; start < count; start += block_size) {
    Partial partial;
    scan_block<Format>(items + start, count - start < block_size ? count - start : block_size, partial);
    all.add(partial);
  }
  return all;
}

inline Partial scan_f32(const void* data, std::int64_t count) { return scan<F32>(data, count); }
inline Partial scan_bf16(const void* data, std::int64_t count) { return scan<BF16>(data, count); }
inline Partial scan_f16(const void* data, std::int64_t count) { return scan<F16>(data, count); }
inline Partial scan_f64(const void* data, std::int64_t count) { return scan<F64>(data, count); }
