// Contract: kernels.h (Read, Multiply).
#include "avx512.h"

namespace slm::avx512 {

uint64_t read(const void* data, int64_t bytes) {
  const char* p = static_cast<const char*>(data);
  __m512i a[4];
  for (__m512i& sum : a) sum = _mm512_setzero_si512();
  for (int64_t i = 0; i + 256 <= bytes; i += 256)
    for (int j = 0; j < 4; ++j) a[j] = _mm512_xor_si512(a[j], _mm512_loadu_si512(p + i + 64 * j));
  const __m512i all = _mm512_xor_si512(_mm512_xor_si512(a[0], a[1]), _mm512_xor_si512(a[2], a[3]));
  uint64_t words[8];
  _mm512_storeu_si512(words, all);
  uint64_t sum = 0;
  for (const uint64_t word : words) sum ^= word;
  return sum;
}

int64_t multiply(int64_t rounds) {
  __m512i sums[12];
  for (int i = 0; i < 12; ++i) sums[i] = _mm512_set1_epi32(i);
  __m512i x = _mm512_set1_epi8(3), w = _mm512_set1_epi8(2);
  for (int64_t i = 0; i < rounds; ++i) {
#if defined(__GNUC__) && !defined(SLMKIT_EMULATE_AVX512)
    __asm__ volatile("" : "+v"(x), "+v"(w));  // so that the products are not hoisted out of the loop
#endif
    for (__m512i& sum : sums) sum = _mm512_dpbusd_epi32(sum, w, x);
  }
  __m512i all = sums[0];
  for (int i = 1; i < 12; ++i) all = _mm512_xor_si512(all, sums[i]);
  volatile int32_t sink = _mm512_reduce_add_epi32(all);
  (void)sink;
  return 12 * 64;
}

}  // namespace slm::avx512
