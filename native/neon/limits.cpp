// Contract: kernels.h (Read, Multiply).
#include "neon.h"

namespace slm::neon {

uint64_t read(const void* data, int64_t bytes) {
  const auto* p = static_cast<const uint8_t*>(data);
  uint8x16_t a[4];
  for (uint8x16_t& sum : a) sum = vdupq_n_u8(0);
  for (int64_t i = 0; i + 64 <= bytes; i += 64)
    for (int j = 0; j < 4; ++j) a[j] = veorq_u8(a[j], vld1q_u8(p + i + 16 * j));
  const uint64x2_t all = vreinterpretq_u64_u8(veorq_u8(veorq_u8(a[0], a[1]), veorq_u8(a[2], a[3])));
  return vgetq_lane_u64(all, 0) ^ vgetq_lane_u64(all, 1);
}

#ifdef __ARM_FEATURE_MATMUL_INT8
constexpr int kProducts = 32;
static inline int32x4_t add_products(int32x4_t sum, int8x16_t w, int8x16_t x) { return vmmlaq_s32(sum, w, x); }
#else
constexpr int kProducts = 16;
static inline int32x4_t add_products(int32x4_t sum, int8x16_t w, int8x16_t x) { return vdotq_s32(sum, w, x); }
#endif

int64_t multiply(int64_t rounds) {
  int32x4_t sums[16];
  for (int i = 0; i < 16; ++i) sums[i] = vdupq_n_s32(i);
  int8x16_t x = vdupq_n_s8(3), w = vdupq_n_s8(2);
  for (int64_t i = 0; i < rounds; ++i) {
    __asm__ volatile("" : "+w"(x), "+w"(w));  // so that the products are not hoisted out of the loop
    for (int32x4_t& sum : sums) sum = add_products(sum, w, x);
  }
  int32x4_t all = sums[0];
  for (int i = 1; i < 16; ++i) all = veorq_s32(all, sums[i]);
  volatile int32_t sink = vaddvq_s32(all);
  (void)sink;
  return 16 * kProducts;
}

}  // namespace slm::neon
