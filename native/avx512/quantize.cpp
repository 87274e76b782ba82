// Contract: formats.h (Activation) and kernels.h. Thirty-two inputs in two registers.
#include <limits>

#include "avx512.h"

namespace slm::avx512 {

static __m128i quantized(__m512 x, __m512 inverse) { return _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(x, inverse))); }

static uint32_t magnitudes(__m512 a, __m512 b) {
  const __m512i mask = _mm512_set1_epi32(0x7fffffff);
  const __m512i largest = _mm512_max_epi32(_mm512_and_si512(_mm512_castps_si512(a), mask),
                                           _mm512_and_si512(_mm512_castps_si512(b), mask));
  return static_cast<uint32_t>(_mm512_reduce_max_epi32(largest));
}

static void quantize_group(__m512 a, __m512 b, Activation* out) {
  const uint32_t largest = magnitudes(a, b);
  float scale = float_of_bits(largest) / 127.0f;
  if (scale < std::numeric_limits<float>::min()) scale = 0.0f;
  __m256i q = _mm256_setzero_si256();
  if (largest >= 0x7f800000) {
    scale = std::numeric_limits<float>::quiet_NaN();
  } else if (scale > 0.0f) {
    const __m512 inverse = _mm512_set1_ps(1.0f / scale);
    q = _mm256_set_m128i(quantized(b, inverse), quantized(a, inverse));
  }
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out->q), q);
  out->scale = scale;
  out->offset = -8 * _mm512_reduce_add_epi32(_mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(1),
                                                                 _mm512_zextsi256_si512(q)));
}

void quantize(const float* x, int64_t k, Activation* out) {
  for (int64_t i = 0; i < k; i += kGroup) {
    const int64_t left = k - i, first = left < 16 ? left : 16, second = left < 16 ? 0 : left < 32 ? left - 16 : 16;
    const __m512 a = Lanes::load(x + i, first).v;
    const __m512 b = second ? Lanes::load(x + i + 16, second).v : _mm512_setzero_ps();
    quantize_group(a, b, out++);
  }
}

}  // namespace slm::avx512
