// A number in the bits of a dtype.
#pragma once

#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <cstdint>
#include <cstring>

namespace dovetail {

template <class Value>
std::uint64_t bits_of(Value value) {
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(value));
  return bits;
}

// The bits of `value` rounded to a floating dtype, in the low bytes.
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
