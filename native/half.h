// float16 and bfloat16 to float32 and back, to the bit as the hardware does it (nearest, ties to even).
//
// Functions here are static: each instruction set must keep its own copy, or the linker would hand one set code that
// was compiled for another.
#pragma once

#include <cstdint>
#include <cstring>

namespace slm {

static inline float float_of_bits(uint32_t bits) {
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}

static inline uint32_t bits_of_float(float f) {
  uint32_t bits;
  std::memcpy(&bits, &f, 4);
  return bits;
}

static inline float float_of_bf16(uint16_t b) { return float_of_bits(static_cast<uint32_t>(b) << 16); }

static inline float float_of_half(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16;
  const uint32_t exponent = (h >> 10) & 31, mantissa = h & 1023;
  if (exponent == 31) return float_of_bits(sign | 0x7f800000 | (mantissa << 13) | (mantissa ? 0x400000 : 0));
  if (exponent != 0) return float_of_bits(sign | ((exponent + 112) << 23) | (mantissa << 13));
  const float tiny = static_cast<float>(mantissa) * 0x1p-24f;  // subnormal halves are normal floats
  return float_of_bits(sign | bits_of_float(tiny));
}

static inline uint16_t half_of_float(float f) {
  const uint32_t bits = bits_of_float(f), magnitude = bits & 0x7fffffff;
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000);
  if (magnitude > 0x7f800000) return sign | 0x7e00 | static_cast<uint16_t>((magnitude >> 13) & 0x3ff);
  if (magnitude >= 0x477ff000) return sign | 0x7c00;  // 65520 and above round to infinity
  if (magnitude < 0x38800000) {                       // below the smallest normal half, 2^-14
    // Adding 0.5 leaves units of 2^-24, the step of subnormal halves, in the last place; the addition rounds.
    return sign | static_cast<uint16_t>(bits_of_float(float_of_bits(magnitude) + 0.5f) - 0x3f000000);
  }
  const uint32_t odd = (magnitude >> 13) & 1;
  return sign | static_cast<uint16_t>((magnitude - (112u << 23) + 0xfff + odd) >> 13);
}

}  // namespace slm
