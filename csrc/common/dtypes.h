// Dtypes: which ones the ops support, and the bits of a number in a dtype.
#pragma once

#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Exception.h>
#include <torch/headeronly/util/Half.h>

#include <cstdint>
#include <cstring>

namespace dovetail {

// Raise unless an op supports the dtype: float32, bfloat16, float16 or float64.
inline void check_floating(const char* op, torch::headeronly::ScalarType dtype) {
  using torch::headeronly::ScalarType;
  STD_TORCH_CHECK(dtype == ScalarType::Float || dtype == ScalarType::BFloat16 || dtype == ScalarType::Half ||
                      dtype == ScalarType::Double,
                  "dovetail::", op, ": float32, bfloat16, float16 and float64 only, got ",
                  torch::headeronly::toString(dtype));
}

template <class Value>
std::uint64_t bits_of(Value value) {
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(value));
  return bits;
}

// Return the bits of `value` rounded to a floating dtype, in the low bytes.
inline std::uint64_t bits_in(torch::headeronly::ScalarType dtype, double value) {
  using torch::headeronly::ScalarType;
  switch (dtype) {
    case ScalarType::Double:
      return bits_of(value);
    case ScalarType::BFloat16:
      return bits_of(torch::headeronly::BFloat16(static_cast<float>(value)));
    case ScalarType::Half:
      return bits_of(torch::headeronly::Half(static_cast<float>(value)));
    default:
      return bits_of(static_cast<float>(value));
  }
}

}  // namespace dovetail
