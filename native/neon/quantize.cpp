// Contract: formats.h (Activation) and kernels.h.
#include <limits>

#include "neon.h"

namespace slm::neon {

// The largest magnitude of n inputs, a multiple of four, as bits.
static uint32_t largest_of(const float* x, int n) {
  uint32x4_t largest = vdupq_n_u32(0);
  for (int i = 0; i < n; i += 4)
    largest = vmaxq_u32(largest, vandq_u32(vreinterpretq_u32_f32(vld1q_f32(x + i)), vdupq_n_u32(0x7fffffff)));
  return vmaxvq_u32(largest);
}

struct Scale {
  float scale, inverse;  // inverse is 0 where all integers are 0

  explicit Scale(uint32_t largest) : scale(float_of_bits(largest) / 127.0f), inverse(0.0f) {
    if (largest >= 0x7f800000) scale = std::numeric_limits<float>::quiet_NaN();
    if (scale < std::numeric_limits<float>::min()) scale = 0.0f;
    if (scale > 0.0f) inverse = 1.0f / scale;
  }
};

static int8x16_t sixteen_integers(const float* x, float inverse) {
  if (inverse == 0.0f) return vdupq_n_s8(0);  // a NaN or an infinity may be among them
  return (Lanes::load(x) * Lanes::broadcast(inverse)).bytes();
}

struct Sums {
  int pairs[2];  // as Activation says: of the inputs 4 i, 4 i + 1 and of 4 i + 2, 4 i + 3

  explicit Sums(int8x16_t q) {
    const int16x8_t two = vpaddlq_s8(q);
    const int16x4_t four = vadd_s16(vget_low_s16(two), vget_high_s16(two));
    const int16x4_t sums = vadd_s16(four, vext_s16(four, four, 2));
    pairs[0] = vget_lane_s16(sums, 0);
    pairs[1] = vget_lane_s16(sums, 1);
  }
};

static void quantize_group(const float* x, Activation* out) {
  const Scale by(largest_of(x, kGroup));
  const int8x16_t low = sixteen_integers(x, by.inverse), high = sixteen_integers(x + 16, by.inverse);
  vst1q_s8(out->q, low);
  vst1q_s8(out->q + 16, high);
  const Sums halves[2] = {Sums(low), Sums(high)};
  int all = 0;
  for (int j = 0; j < 2; ++j) {
    const int sum = halves[0].pairs[j] + halves[1].pairs[j];
    out->start8[j] = static_cast<int16_t>(-8 * sum);
    for (int half = 0; half < 2; ++half) out->start32[half][j] = static_cast<int16_t>(-32 * halves[half].pairs[j]);
    all += sum;
  }
  out->scale = by.scale;
  out->sum = by.scale * static_cast<float>(all);
}

void quantize(const float* x, int64_t k, Activation* out) {
  int64_t i = 0;
  for (; i + kGroup <= k; i += kGroup) quantize_group(x + i, out++);
  if (i == k) return;
  float padded[kGroup] = {};
  std::memcpy(padded, x + i, static_cast<size_t>(k - i) * 4);
  quantize_group(padded, out);
}

static void quantize_block(const float* x, WideActivation* out, UnsignedActivation* unsigned_out) {
  const Scale by(largest_of(x, kSuper));
  out->scale = unsigned_out->scale = by.scale;
  for (int i = 0; i < kSuper; i += kPart) {
    const int8x16_t q = sixteen_integers(x + i, by.inverse);
    vst1q_s8(out->q + i, q);
    vst1q_u8(unsigned_out->u + i, veorq_u8(vreinterpretq_u8_s8(q), vdupq_n_u8(0x80)));
    const Sums sums(q);
    for (int j = 0; j < 2; ++j) out->start8[i / kPart][j] = static_cast<int16_t>(-8 * sums.pairs[j]);
  }
}

void quantize_wide(const float* x, int64_t k, WideActivation* out, UnsignedActivation* unsigned_out,
                   int64_t block_stride) {
  int64_t i = 0;
  for (; i + kSuper <= k; i += kSuper, unsigned_out += block_stride) quantize_block(x + i, out++, unsigned_out);
  if (i == k) return;
  float padded[kSuper] = {};
  std::memcpy(padded, x + i, static_cast<size_t>(k - i) * 4);
  quantize_block(padded, out, unsigned_out);
}

}  // namespace slm::neon
