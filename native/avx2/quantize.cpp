// Contract: formats.h (Activation) and kernels.h. Thirty-two inputs in four registers.
#include <limits>

#include "avx2.h"

namespace slm::avx2 {

static uint32_t largest_of(__m256i a) {
  __m128i m = _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
  m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
  m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1));
  return static_cast<uint32_t>(_mm_cvtsi128_si32(m));
}

// Sums of pairs of inputs, alternating as Activation says, of 0..15 in the low half and of 16..31 in the high one; then
// what follows from them.
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

static void quantize_group(const float* x, Activation* out) {
  __m256 v[4];
  __m256i magnitude[4];
  for (int i = 0; i < 4; ++i) {
    v[i] = _mm256_loadu_ps(x + 8 * i);
    magnitude[i] = _mm256_and_si256(_mm256_castps_si256(v[i]), _mm256_set1_epi32(0x7fffffff));
  }
  const uint32_t largest = largest_of(_mm256_max_epi32(_mm256_max_epi32(magnitude[0], magnitude[1]),
                                                       _mm256_max_epi32(magnitude[2], magnitude[3])));
  float scale = float_of_bits(largest) / 127.0f;
  if (scale < std::numeric_limits<float>::min()) scale = 0.0f;
  __m256i q = _mm256_setzero_si256();
  if (largest >= 0x7f800000) {
    scale = std::numeric_limits<float>::quiet_NaN();
  } else if (scale > 0.0f) {
    const __m256 inverse = _mm256_set1_ps(1.0f / scale);
    __m256i i32[4];
    for (int i = 0; i < 4; ++i) i32[i] = _mm256_cvtps_epi32(_mm256_mul_ps(v[i], inverse));
    const __m256i low = _mm256_packs_epi32(i32[0], i32[1]), high = _mm256_packs_epi32(i32[2], i32[3]);
    // Packing works within 128-bit halves; this puts the fours of bytes back in order.
    q = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  }
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out->q), q);
  out->scale = scale;
  write_sums(q, out);
}

void quantize(const float* x, int64_t k, Activation* out) {
  int64_t i = 0;
  for (; i + kGroup <= k; i += kGroup) quantize_group(x + i, out++);
  if (i == k) return;
  float padded[kGroup] = {};
  std::memcpy(padded, x + i, static_cast<size_t>(k - i) * 4);
  quantize_group(padded, out);
}

// The largest magnitude of 256 inputs, as bits.
static uint32_t largest_of_block(const float* x) {
  __m256i largest = _mm256_setzero_si256();
  for (int i = 0; i < kSuper; i += 8) {
    const __m256i bits = _mm256_castps_si256(_mm256_loadu_ps(x + i));
    largest = _mm256_max_epi32(largest, _mm256_and_si256(bits, _mm256_set1_epi32(0x7fffffff)));
  }
  return largest_of(largest);
}

static __m256i thirty_two_integers(const float* x, __m256 inverse) {
  __m256i i32[4];
  for (int i = 0; i < 4; ++i) i32[i] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8 * i), inverse));
  const __m256i low = _mm256_packs_epi32(i32[0], i32[1]), high = _mm256_packs_epi32(i32[2], i32[3]);
  return _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

static void quantize_block(const float* x, WideActivation* out, UnsignedActivation* unsigned_out) {
  const uint32_t largest = largest_of_block(x);
  float scale = float_of_bits(largest) / 127.0f;
  if (scale < std::numeric_limits<float>::min()) scale = 0.0f;
  const bool finite = largest < 0x7f800000;
  out->scale = unsigned_out->scale = finite ? scale : std::numeric_limits<float>::quiet_NaN();
  const __m256 inverse = _mm256_set1_ps(1.0f / scale);
  const __m256i top = _mm256_set1_epi8(static_cast<char>(0x80));
  for (int i = 0; i < kSuper; i += 32) {
    const __m256i q = finite && scale > 0.0f ? thirty_two_integers(x + i, inverse) : _mm256_setzero_si256();
    _mm256_store_si256(reinterpret_cast<__m256i*>(out->q + i), q);
    _mm256_store_si256(reinterpret_cast<__m256i*>(unsigned_out->u + i), _mm256_xor_si256(q, top));
    // Pairs, then what alternates: a 32-bit lane has both, and each half of the register is a part.
    __m256i sums = _mm256_maddubs_epi16(_mm256_set1_epi8(1), q);
    sums = _mm256_add_epi16(sums, _mm256_shuffle_epi32(sums, 0x4e));
    sums = _mm256_add_epi16(sums, _mm256_shuffle_epi32(sums, 0xb1));
    sums = _mm256_slli_epi16(_mm256_sub_epi16(_mm256_setzero_si256(), sums), 3);
    const int32_t starts[2] = {_mm256_extract_epi32(sums, 0), _mm256_extract_epi32(sums, 4)};
    std::memcpy(out->start8[i / kPart], starts, sizeof starts);
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

}  // namespace slm::avx2
