// What the packed matrix products share: a register holds four inputs of four rows, a quarter of a piece, and a dot
// product adds them, times four of the sixteen inputs of a token in another register, to 32-bit sums of the four rows.
#pragma once

#include <type_traits>

#include "neon.h"

namespace slm::neon {

// Brings what lies 4 KB ahead into the level 1 cache, `bytes` of it.
template <int bytes>
inline void prefetch(const uint8_t* data) {
  for (int i = 0; i < bytes; i += 64) __builtin_prefetch(data + 4 * 1024 + i);
}

constexpr int kQuads = kTile / 4;  // of rows, each in a register

// Sixteen inputs of four rows.
struct Part {
  int8x16_t w[4];
};

inline uint8x16_t low(uint8x16_t both) { return vandq_u8(both, vdupq_n_u8(15)); }
inline uint8x16_t high(uint8x16_t both) { return vshrq_n_u8(both, 4); }

// Weights 0..15 of a part, which is 128 bytes of nibbles; data: the first of these, of quad 0.
inline Part nibbles(const uint8_t* data, int quad) {
  const uint8x16_t a = vld1q_u8(data + 16 * quad), b = vld1q_u8(data + 64 + 16 * quad);
  const auto integers = [](uint8x16_t w) { return vreinterpretq_s8_u8(w); };
  return {{integers(low(a)), integers(high(a)), integers(low(b)), integers(high(b))}};
}

// The same of 8-bit weights, 256 bytes.
inline Part bytes_of(const int8_t* data, int quad) {
  const auto load = [&](int c) { return vld1q_s8(data + 64 * c + 16 * quad); };
  return {{load(0), load(1), load(2), load(3)}};
}

inline int32x4_t dot(int32x4_t sum, const Part& part, int8x16_t x) {
  sum = vdotq_laneq_s32(sum, part.w[0], x, 0);
  sum = vdotq_laneq_s32(sum, part.w[1], x, 1);
  sum = vdotq_laneq_s32(sum, part.w[2], x, 2);
  return vdotq_laneq_s32(sum, part.w[3], x, 3);
}

// What sums start from: both of an Activation's pair together, some times.
inline int32x4_t start_of(const int16_t* pair, int times) { return vdupq_n_s32(times * (pair[0] + pair[1])); }

inline float32x4_t half_floats(const void* p, int quad) {
  uint16_t halves[4];
  std::memcpy(halves, static_cast<const char*>(p) + 8 * quad, sizeof halves);
  return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(halves)));
}

// acc = fma(float(sum), scale_w * scale_x, acc).
inline float32x4_t collect(int32x4_t sum, float32x4_t scale, float scale_x, float32x4_t acc) {
  return vfmaq_f32(acc, vcvtq_f32_s32(sum), vmulq_n_f32(scale, scale_x));
}

// Where a tile's results go: [tokens][n] from its first row on, of which there may be fewer than 16.
struct Rows {
  float* out;
  int64_t n, count;

  Rows(const Packed& w, int64_t tile, float* start) : out(start + tile * kTile), n(w.n) {
    const int64_t left = w.n - tile * kTile;
    count = left < kTile ? left : kTile;
  }

  void load(int64_t t, float32x4_t* quads) const {
    const Lanes lanes = Lanes::load(out + t * n, count);
    for (int i = 0; i < kQuads; ++i) quads[i] = lanes.v[i];
  }
  void store(int64_t t, const float32x4_t* quads) const {
    Lanes{{quads[0], quads[1], quads[2], quads[3]}}.store(out + t * n, count);
  }
};

// All tokens in tiles of four, two and one: tile_of(t, std::integral_constant<int, tokens>).
template <class F>
inline void in_fours(int64_t tokens, F tile_of) {
  int64_t t = 0;
  for (; t + 4 <= tokens; t += 4) tile_of(t, std::integral_constant<int, 4>());
  for (; t + 2 <= tokens; t += 2) tile_of(t, std::integral_constant<int, 2>());
  if (t < tokens) tile_of(t, std::integral_constant<int, 1>());
}

}  // namespace slm::neon
