// Contract: kernels.h (Read, Multiply).
#include "avx2.h"

namespace slm::avx2 {

uint64_t read(const void* data, int64_t bytes) {
  const char* p = static_cast<const char*>(data);
  __m256i a[4] = {};
  for (int64_t i = 0; i + 128 <= bytes; i += 128)
    for (int j = 0; j < 4; ++j)
      a[j] = _mm256_xor_si256(a[j], _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + i + 32 * j)));
  const __m256i all = _mm256_xor_si256(_mm256_xor_si256(a[0], a[1]), _mm256_xor_si256(a[2], a[3]));
  uint64_t words[4];
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(words), all);
  return words[0] ^ words[1] ^ words[2] ^ words[3];
}

// Byte products and the 16-bit additions that collect them: the two instructions that q4 spends its time on.
int64_t multiply(int64_t rounds) {
  __m256i sums[8], x[4], w[2];
  for (int i = 0; i < 8; ++i) sums[i] = _mm256_set1_epi16(static_cast<short>(i));
  for (int i = 0; i < 4; ++i) x[i] = _mm256_set1_epi8(static_cast<char>(i + 3));
  for (int i = 0; i < 2; ++i) w[i] = _mm256_set1_epi8(static_cast<char>(i + 1));
  for (int64_t i = 0; i < rounds; ++i) {
#if defined(__GNUC__)
    for (__m256i& inputs : x) __asm__("" : "+x"(inputs));  // so that the products are not hoisted out of the loop
#endif
    for (int j = 0; j < 8; ++j) sums[j] = add_16(sums[j], _mm256_maddubs_epi16(w[j % 2], x[j / 2]));
  }
  __m256i all = sums[0];
  for (int i = 1; i < 8; ++i) all = _mm256_xor_si256(all, sums[i]);
  volatile int32_t sink = _mm256_extract_epi32(all, 0);
  (void)sink;
  return 8 * 32;
}

}  // namespace slm::avx2
