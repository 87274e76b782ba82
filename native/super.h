// What the bytes of the K formats mean, one weight at a time; layouts in src/slmkit/ops/matrix.py.
//
// Functions here are static: each instruction set must keep its own copy (see half.h).
#pragma once

#include "formats.h"
#include "half.h"

namespace slm {

// The 16-bit scale of row r at `header`: of d, or 32 bytes on of dmin.
static inline float super_scale(const uint8_t* header, int r) {
  uint16_t half;
  std::memcpy(&half, header + 2 * r, 2);
  return float_of_half(half);
}

// Input i (0..31) of row r of a group, as stored: 0..2^kBits - 1.
template <int kBits>
static inline int super_integer(const uint8_t* group, int r, int i) {
  const uint8_t *high = group + Super<kBits>::kScales, *nibbles = high + Super<kBits>::kHigh;
  const int piece = i / 4, at = 4 * (r % 8) + i % 4;
  const uint8_t both = nibbles[64 * (i / 8) + 4 * r + i % 4];
  const int low = piece % 2 ? both >> 4 : both & 15;
  if constexpr (kBits == 5) return low | (high[32 * (r / 8) + at] >> piece & 1) << 4;
  if constexpr (kBits == 6) return low | (high[64 * (r / 8) + 32 * (piece / 4) + at] >> 2 * (piece % 4) & 3) << 4;
  return low;
}

}  // namespace slm
