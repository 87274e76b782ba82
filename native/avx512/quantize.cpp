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

// As in avx2/quantize.cpp.
static void write_sums(__m256i q, Activation* out) {
  __m256i sums = _mm256_maddubs_epi16(_mm256_set1_epi8(1), q);
  sums = _mm256_add_epi16(sums, _mm256_shuffle_epi32(sums, 0x4e));
  sums = _mm256_add_epi16(sums, _mm256_shuffle_epi32(sums, 0xb1));
  const __m256i minus = _mm256_sub_epi16(_mm256_setzero_si256(), sums), start32 = _mm256_slli_epi16(minus, 5);
  const __m128i all = _mm_add_epi16(_mm256_castsi256_si128(minus), _mm256_extracti128_si256(minus, 1));
  const int32_t start8 = _mm_cvtsi128_si32(_mm_slli_epi16(all, 3));
  const int32_t halves[2] = {_mm256_extract_epi32(start32, 0), _mm256_extract_epi32(start32, 4)};
  std::memcpy(out->start8, &start8, sizeof out->start8);
  std::memcpy(out->start32, halves, sizeof out->start32);
  out->sum = out->scale * static_cast<float>(_mm_cvtsi128_si32(_mm_madd_epi16(all, _mm_set1_epi16(-1))));
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
  write_sums(q, out);
}

void quantize(const float* x, int64_t k, Activation* out) {
  for (int64_t i = 0; i < k; i += kGroup) {
    const int64_t left = k - i, first = left < 16 ? left : 16, second = left < 16 ? 0 : left < 32 ? left - 16 : 16;
    const __m512 a = Lanes::load(x + i, first).v;
    const __m512 b = second ? Lanes::load(x + i + 16, second).v : _mm512_setzero_ps();
    quantize_group(a, b, out++);
  }
}

// The largest magnitude of 256 inputs, as bits.
static uint32_t largest_of_block(const float* x) {
  __m512i largest = _mm512_setzero_si512();
  for (int i = 0; i < kSuper; i += 16) {
    const __m512i bits = _mm512_castps_si512(_mm512_loadu_ps(x + i));
    largest = _mm512_max_epi32(largest, _mm512_and_si512(bits, _mm512_set1_epi32(0x7fffffff)));
  }
  return static_cast<uint32_t>(_mm512_reduce_max_epi32(largest));
}

static void quantize_block(const float* x, WideActivation* out, UnsignedActivation* unsigned_out) {
  const uint32_t largest = largest_of_block(x);
  float scale = float_of_bits(largest) / 127.0f;
  if (scale < std::numeric_limits<float>::min()) scale = 0.0f;
  const bool finite = largest < 0x7f800000;
  out->scale = unsigned_out->scale = finite ? scale : std::numeric_limits<float>::quiet_NaN();
  const __m512 inverse = _mm512_set1_ps(1.0f / scale);
  const __m128i top = _mm_set1_epi8(static_cast<char>(0x80));
  for (int i = 0; i < kSuper; i += kPart) {
    const __m128i q = finite && scale > 0.0f ? quantized(_mm512_loadu_ps(x + i), inverse) : _mm_setzero_si128();
    _mm_store_si128(reinterpret_cast<__m128i*>(out->q + i), q);
    _mm_store_si128(reinterpret_cast<__m128i*>(unsigned_out->u + i), _mm_xor_si128(q, top));
    const __m128i sums = _mm_madd_epi16(_mm_maddubs_epi16(_mm_set1_epi8(1), q), _mm_set1_epi16(-8));
    const __m128i halves = _mm_add_epi32(sums, _mm_shuffle_epi32(sums, 0x4e));
    out->whole_start8[i / kPart] = _mm_cvtsi128_si32(_mm_add_epi32(halves, _mm_shuffle_epi32(halves, 0xb1)));
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

}  // namespace slm::avx512
