// A superblock of q4_s unpacked for many tokens: products of scale and integer, in the order the instructions want.
//
// Dot products add four inputs of four rows. With i8mm a register has eight inputs of two rows, or of two tokens, and
// one instruction makes the four sums of both tokens with both rows: twice the products.
#pragma once

#include "pieces.h"

namespace slm::neon {

struct alignas(64) Panel {
  int8_t products[kSuper / kPart][kQuads][4][16];  // part, quad, and its four registers
  float d[kTile];
};
static_assert(sizeof(Panel) * kPanelBlocks <= q4s_scratch, "the panels fit the scratch");

// The four scales of each of four rows in a unit.
inline uint32x4_t scale_words(const uint8_t* unit, int quad) {
  uint16_t words[4];
  std::memcpy(words, unit + 8 * quad, sizeof words);
  return vmovl_u16(vld1_u16(words));
}

// Those of part j, as integers.
template <int j>
inline int32x4_t scales_of(uint32x4_t words) {
  return vshrq_n_s32(vreinterpretq_s32_u32(vshlq_n_u32(words, 28 - 4 * j)), 28);
}

// Part j of a unit: scale times integer.
template <int j>
inline Part products_of(const uint8_t* unit, uint32x4_t words, int quad) {
  const uint8_t lowest[16] = {0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12};
  const int8x16_t scales = vqtbl1q_s8(vreinterpretq_s8_s32(scales_of<j>(words)), vld1q_u8(lowest));
  Part part = nibbles(unit + 2 * kTile + 128 * j, quad);
  for (int8x16_t& w : part.w) w = vmulq_s8(vsubq_s8(w, vdupq_n_s8(8)), scales);
  return part;
}

inline int8x16_t signed_inputs(const uint8_t* u) {
  return vreinterpretq_s8_u8(veorq_u8(vld1q_u8(u), vdupq_n_u8(0x80)));
}

#ifdef __ARM_FEATURE_MATMUL_INT8

// The first eight inputs of rows 0 and 1, of rows 2 and 3; then the other eight.
inline void put_part(Panel& panel, int p, int quad, const Part& part) {
  int8_t(*to)[16] = panel.products[p][quad];
  for (int c = 0; c < 4; c += 2) {
    const int32x4_t a = vreinterpretq_s32_s8(part.w[c]), b = vreinterpretq_s32_s8(part.w[c + 1]);
    vst1q_s8(to[c], vreinterpretq_s8_s32(vzip1q_s32(a, b)));
    vst1q_s8(to[c + 1], vreinterpretq_s8_s32(vzip2q_s32(a, b)));
  }
}

inline int32x4_t halves_of(int32x4_t a, int32x4_t b, bool upper) {
  const int64x2_t c = vreinterpretq_s64_s32(a), d = vreinterpretq_s64_s32(b);
  return vreinterpretq_s32_s64(upper ? vzip2q_s64(c, d) : vzip1q_s64(c, d));
}

// The sums of kTokens tokens with a panel of so many parts. A token without a second one is paired with itself.
template <int kTokens>
inline void sum_panel(const Panel& panel, int parts, const UnsignedActivation* x, int32x4_t (*totals)[kQuads]) {
  constexpr int kPairs = (kTokens + 1) / 2;
  int32x4_t sums[kPairs][kQuads][2];  // token 2 i with rows 2 j and 2 j + 1, then token 2 i + 1 with these
  for (auto& pair : sums)
    for (auto& quad : pair) quad[0] = quad[1] = vdupq_n_s32(0);
  for (int p = 0; p < parts; ++p) {
    int8x16_t q[kPairs][2];
    for (int i = 0; i < kPairs; ++i) {
      const int32x4_t one = vreinterpretq_s32_s8(signed_inputs(x[2 * i].u + kPart * p));
      const int second = 2 * i + 1 < kTokens ? 2 * i + 1 : 2 * i;
      const int32x4_t two = vreinterpretq_s32_s8(signed_inputs(x[second].u + kPart * p));
      for (int half = 0; half < 2; ++half) q[i][half] = vreinterpretq_s8_s32(halves_of(one, two, half));
    }
    for (int quad = 0; quad < kQuads; ++quad)
      for (int c = 0; c < 4; ++c) {
        const int8x16_t w = vld1q_s8(panel.products[p][quad][c]);
        for (int i = 0; i < kPairs; ++i) sums[i][quad][c % 2] = vmmlaq_s32(sums[i][quad][c % 2], q[i][c / 2], w);
      }
  }
  for (int t = 0; t < kTokens; ++t)
    for (int quad = 0; quad < kQuads; ++quad)
      totals[t][quad] = halves_of(sums[t / 2][quad][0], sums[t / 2][quad][1], t % 2);
}

#else

inline void put_part(Panel& panel, int p, int quad, const Part& part) {
  for (int c = 0; c < 4; ++c) vst1q_s8(panel.products[p][quad][c], part.w[c]);
}

// The sums of kTokens tokens with a panel of so many parts.
template <int kTokens>
inline void sum_panel(const Panel& panel, int parts, const UnsignedActivation* x, int32x4_t (*totals)[kQuads]) {
  for (int i = 0; i < kTokens; ++i)
    for (int quad = 0; quad < kQuads; ++quad) totals[i][quad] = vdupq_n_s32(0);
  for (int p = 0; p < parts; ++p) {
    int8x16_t q[kTokens];
    for (int i = 0; i < kTokens; ++i) q[i] = signed_inputs(x[i].u + kPart * p);
    for (int quad = 0; quad < kQuads; ++quad) {
      const int8_t(*from)[16] = panel.products[p][quad];
      const Part part = {{vld1q_s8(from[0]), vld1q_s8(from[1]), vld1q_s8(from[2]), vld1q_s8(from[3])}};
      for (int i = 0; i < kTokens; ++i) totals[i][quad] = dot(totals[i][quad], part, q[i]);
    }
  }
}

#endif

}  // namespace slm::neon
