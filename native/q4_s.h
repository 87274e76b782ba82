// What the bytes of q4_s mean, one weight at a time; layout in formats.h.
//
// Functions here are static: each instruction set must keep its own copy (see half.h).
#pragma once

#include "formats.h"
#include "half.h"

namespace slm {

static inline const uint8_t* q4s_super(const uint8_t* tile, int64_t super) {
  return tile + super * (kSuperHeader + kSuper / kUnit * kUnitBytes);
}

// d of row r of a superblock.
static inline float q4s_d(const uint8_t* super, int r) {
  uint16_t half;
  std::memcpy(&half, super + 2 * r, 2);
  return float_of_half(half);
}

// scale * integer of row r, input i (0..255) of a superblock: -56..64.
static inline int q4s_product(const uint8_t* super, int r, int i) {
  const uint8_t* unit = super + kSuperHeader + i / kUnit * kUnitBytes;
  uint16_t word;
  std::memcpy(&word, unit + 2 * r, 2);
  const int at = i % kUnit, nibble = word >> 4 * (at / kPart) & 15;
  const uint8_t both = unit[2 * kTile + 64 * (at / 8) + 4 * r + at % 4];
  const int integer = (at % 8 < 4 ? both & 15 : both >> 4) - 8;
  return (nibble < 8 ? nibble : nibble - 16) * integer;
}

}  // namespace slm
