// Sixteen floats in one 512-bit register; see scalar/lanes.h for what each function means.
#pragma once

#include "intrinsics.h"

#include <cstring>

#include "../formats.h"
#include "../half.h"

namespace slm::avx512 {

inline __mmask16 first_lanes(int64_t n) { return static_cast<__mmask16>((1u << n) - 1u); }

struct Lanes {
  static constexpr int kRows = 4, kTokens = 4;   // 16 sums, 4 weights, 1 input of the 32 registers
  static constexpr int kQueries = 8, kWide = 2;  // 16 sums, 2 of the keys or values, broadcasts

  __m512 v;

  static Lanes broadcast(float x) { return {_mm512_set1_ps(x)}; }
  static Lanes zero() { return {_mm512_setzero_ps()}; }

  static Lanes load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static Lanes load(const float* p, int64_t n) { return {_mm512_maskz_loadu_ps(first_lanes(n), p)}; }
  static Lanes load_half(const uint16_t* p) {
    return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
  }
  static Lanes load_half(const uint16_t* p, int64_t n) {
    return {_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first_lanes(n), p))};
  }
  static Lanes load_int8(const int8_t* p) {
    return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
  }
  static Lanes load_int8(const int8_t* p, int64_t n) {
    if (n == 16) return load_int8(p);
    int8_t padded[16] = {};  // SIMDe has no masked loads and stores of bytes
    std::memcpy(padded, p, static_cast<size_t>(n));
    return load_int8(padded);
  }
  static Lanes load_bf16(const uint16_t* p) {
    return widened(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static Lanes load_bf16(const uint16_t* p, int64_t n) { return widened(_mm256_maskz_loadu_epi16(first_lanes(n), p)); }

  void store(float* p) const { _mm512_storeu_ps(p, v); }
  void store(float* p, int64_t n) const { _mm512_mask_storeu_ps(p, first_lanes(n), v); }
  void store_half(uint16_t* p) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), half()); }
  void store_half(uint16_t* p, int64_t n) const { _mm256_mask_storeu_epi16(p, first_lanes(n), half()); }
  void store_int8(int8_t* p) const { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes()); }
  void store_int8(int8_t* p, int64_t n) const {
    if (n == 16) return store_int8(p);
    int8_t all[16];
    store_int8(all);
    std::memcpy(p, all, static_cast<size_t>(n));
  }

 private:
  static Lanes widened(__m256i bits) {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))};
  }
  __m128i bytes() const { return _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v)); }
  __m256i half() const { return _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
};

inline Lanes operator+(Lanes a, Lanes b) { return {_mm512_add_ps(a.v, b.v)}; }
inline Lanes operator-(Lanes a, Lanes b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline Lanes operator*(Lanes a, Lanes b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline Lanes operator/(Lanes a, Lanes b) { return {_mm512_div_ps(a.v, b.v)}; }
inline Lanes fma(Lanes a, Lanes b, Lanes c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline Lanes max(Lanes a, Lanes b) { return {_mm512_max_ps(a.v, b.v)}; }
inline Lanes min(Lanes a, Lanes b) { return {_mm512_min_ps(a.v, b.v)}; }

inline Lanes zero_where_less(Lanes x, Lanes limit, Lanes value) {
  return {_mm512_mask_mov_ps(value.v, _mm512_cmp_ps_mask(x.v, limit.v, _CMP_LT_OQ), _mm512_setzero_ps())};
}
inline Lanes power_of_two(Lanes shifted) {
  const __m512i biased = _mm512_add_epi32(_mm512_castps_si512(shifted.v), _mm512_set1_epi32(127));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(biased, 23))};
}
inline Lanes within(int64_t begin, int64_t end, Lanes a, Lanes b) {
  const auto below = [](int64_t n) { return static_cast<uint32_t>(n <= 0 ? 0 : n >= 16 ? 0xffff : (1 << n) - 1); };
  return {_mm512_mask_mov_ps(b.v, static_cast<__mmask16>(below(end) & ~below(begin)), a.v)};
}

inline float sum(Lanes a) {
  const __m256 lo = _mm512_castps512_ps256(a.v), hi = _mm512_extractf32x8_ps(a.v, 1);
  const __m256 eight = _mm256_add_ps(lo, hi);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}
inline float largest(Lanes a) {
  const __m256 lo = _mm512_castps512_ps256(a.v), hi = _mm512_extractf32x8_ps(a.v, 1);
  const __m256 eight = _mm256_max_ps(lo, hi);
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
}

}  // namespace slm::avx512
