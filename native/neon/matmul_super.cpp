// Contract: kernels.h. Layout: formats.h and super.h.
//
// As matmul_q4; sums start where the token says, which undoes the 16 of q5_k and the 32 of q6_k. They fit 16 bits, and
// stay exact in 32 when multiplied with their 8-bit scales.
#include "pieces.h"

namespace slm::neon {

constexpr int kSuperGroups = kSuper / kGroup;

// Bits [from, from + width) of each byte, as bits 4 and up.
template <int width, int from>
static inline int8x16_t above_nibble(uint8x16_t bits) {
  if constexpr (from < 4) bits = vshlq_n_u8(bits, 4 - from);
  if constexpr (from > 4) bits = vshrq_n_u8(bits, from - 4);
  return vreinterpretq_s8_u8(vandq_u8(bits, vdupq_n_u8(width == 1 ? 0x10 : 0x30)));
}

template <int width, int from>
static inline void add_bits(Part& part, uint8x16_t bits) {
  part.w[0] = vorrq_s8(part.w[0], above_nibble<width, from>(bits));
  part.w[1] = vorrq_s8(part.w[1], above_nibble<width, from + width>(bits));
  part.w[2] = vorrq_s8(part.w[2], above_nibble<width, from + 2 * width>(bits));
  part.w[3] = vorrq_s8(part.w[3], above_nibble<width, from + 3 * width>(bits));
}

// Inputs 16 half .. 16 half + 15 of four rows of a group.
template <int kBits, int half>
static inline Part part_of(const uint8_t* group, int quad) {
  const uint8_t* bits = group + Super<kBits>::kScales;
  Part part = nibbles(bits + Super<kBits>::kHigh + 128 * half, quad);
  if constexpr (kBits == 5) add_bits<1, 4 * half>(part, vld1q_u8(bits + 16 * quad));
  if constexpr (kBits == 6) add_bits<2, 0>(part, vld1q_u8(bits + 64 * (quad / 2) + 32 * half + 16 * (quad % 2)));
  return part;
}

// Four 8-bit scales, as integers.
template <bool kSigned>
static inline int32x4_t scales_of(const uint8_t* p) {
  uint64_t bytes = 0;
  std::memcpy(&bytes, p, 4);
  const uint8x8_t eight = vcreate_u8(bytes);
  if constexpr (kSigned) return vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u8(eight))));
  return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(eight))));
}

// Four rows of a group: their scales, and least (kernels.h).
template <int kBits>
struct Scales {
  int32x4_t scale, second;
  float32x4_t d, least;

  Scales(const uint8_t* header, const uint8_t* group, int quad) : d(half_floats(header, quad)) {
    scale = scales_of<kBits == 6>(group + 4 * quad);
    second = scales_of<kBits == 6>(group + 16 + 4 * quad);
    if constexpr (kBits == 6) return;
    least = vnegq_f32(vmulq_f32(half_floats(header + 32, quad), vcvtq_f32_s32(second)));
    if constexpr (kBits == 5) least = vaddq_f32(vmulq_n_f32(vmulq_f32(d, vcvtq_f32_s32(scale)), 16.0f), least);
  }
};

// acc, and what a group of four rows adds to it.
template <int kBits>
static inline float32x4_t add_group(const Part* parts, const Scales<kBits>& by, const Activation& x, float32x4_t acc) {
  const int8x16_t q[2] = {vld1q_s8(x.q), vld1q_s8(x.q + 16)};
  if constexpr (kBits == 6) {
    const int32x4_t first = dot(start_of(x.start32[0], 1), parts[0], q[0]);
    const int32x4_t second = dot(start_of(x.start32[1], 1), parts[1], q[1]);
    return collect(vmlaq_s32(vmulq_s32(first, by.scale), second, by.second), by.d, x.scale, acc);
  } else {
    const int32x4_t start = kBits == 5 ? start_of(x.start8, 2) : vdupq_n_s32(0);
    const int32x4_t sum = dot(dot(start, parts[0], q[0]), parts[1], q[1]);
    acc = collect(vmulq_s32(sum, by.scale), by.d, x.scale, acc);
    return vfmaq_n_f32(acc, by.least, x.sum);
  }
}

template <int kBits, int kTokens>
static void packed_tile(const uint8_t* data, int64_t supers, const Activation* x, int64_t t, Rows rows) {
  using S = Super<kBits>;
  const int64_t groups = supers * kSuperGroups;
  float32x4_t acc[kTokens][kQuads];
  for (auto& quads : acc)
    for (float32x4_t& sum : quads) sum = vdupq_n_f32(0.0f);
  x += t * groups;
  for (int64_t s = 0; s < supers; ++s) {
    const uint8_t* header = data;
    data += S::kHeader;
    for (int g = 0; g < kSuperGroups; ++g, data += S::kGroupBytes, ++x) {
      prefetch<S::kGroupBytes>(data);
      for (int quad = 0; quad < kQuads; ++quad) {
        const Part parts[2] = {part_of<kBits, 0>(data, quad), part_of<kBits, 1>(data, quad)};
        const Scales<kBits> scales(header, data, quad);
        for (int i = 0; i < kTokens; ++i) acc[i][quad] = add_group(parts, scales, x[i * groups], acc[i][quad]);
      }
    }
  }
  for (int i = 0; i < kTokens; ++i) rows.store(t + i, acc[i]);
}

template <int kBits>
void matmul_super(const Packed& w, int64_t tile_begin, int64_t tile_end, const Activation* x, int64_t tokens,
                  float* out, void*) {
  const int64_t supers = w.groups / kSuperGroups;
  for (int64_t tile = tile_begin; tile < tile_end; ++tile) {
    const uint8_t* data = w.data + tile * supers * Super<kBits>::kBytes;
    in_fours(tokens, [&](int64_t t, auto n) {
      packed_tile<kBits, decltype(n)::value>(data, supers, x, t, Rows(w, tile, out));
    });
  }
}

template void matmul_super<4>(const Packed&, int64_t, int64_t, const Activation*, int64_t, float*, void*);
template void matmul_super<5>(const Packed&, int64_t, int64_t, const Activation*, int64_t, float*, void*);
template void matmul_super<6>(const Packed&, int64_t, int64_t, const Activation*, int64_t, float*, void*);

}  // namespace slm::neon
