// Sixteen floats in two 256-bit registers; see scalar/lanes.h for what each function means.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "../formats.h"
#include "../half.h"

namespace slm::avx2 {

// sum + terms in 16-bit (32-bit) lanes, done where it is written. GCC puts off a chain of plain additions until its
// end, with all its terms alive at once; they spill, and the matrix products run at a third of their speed.
inline __m256i add_16(__m256i sum, __m256i terms) {
#if defined(__GNUC__)
  __asm__("vpaddw %1, %0, %0" : "+x"(sum) : "x"(terms));
  return sum;
#else
  return _mm256_add_epi16(sum, terms);
#endif
}
inline __m256i add_32(__m256i sum, __m256i terms) {
#if defined(__GNUC__)
  __asm__("vpaddd %1, %0, %0" : "+x"(sum) : "x"(terms));
  return sum;
#else
  return _mm256_add_epi32(sum, terms);
#endif
}

struct Lanes {
  static constexpr int kRows = 2, kTokens = 3;   // 12 sums, 2 weights, 2 inputs: all 16 registers
  static constexpr int kQueries = 6, kWide = 1;  // 12 sums, 2 of the keys or values, 1 broadcast

  __m256 lo, hi;

  static Lanes broadcast(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
  static Lanes zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }

  static Lanes load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  static Lanes load(const float* p, int64_t n) {
    if (n == 16) return load(p);
    float padded[16] = {};
    std::memcpy(padded, p, static_cast<size_t>(n) * 4);
    return load(padded);
  }
  static Lanes load_half(const uint16_t* p) {
    const __m128i* q = reinterpret_cast<const __m128i*>(p);
    return {_mm256_cvtph_ps(_mm_loadu_si128(q)), _mm256_cvtph_ps(_mm_loadu_si128(q + 1))};
  }
  static Lanes load_half(const uint16_t* p, int64_t n) {
    if (n == 16) return load_half(p);
    uint16_t padded[16] = {};
    std::memcpy(padded, p, static_cast<size_t>(n) * 2);
    return load_half(padded);
  }
  static Lanes load_int8(const int8_t* p) { return {widened(p), widened(p + 8)}; }
  static Lanes load_int8(const int8_t* p, int64_t n) {
    if (n == 16) return load_int8(p);
    int8_t padded[16] = {};
    std::memcpy(padded, p, static_cast<size_t>(n));
    return load_int8(padded);
  }
  static Lanes load_bf16(const uint16_t* p) {
    const __m128i* q = reinterpret_cast<const __m128i*>(p);
    const __m256i lo = _mm256_cvtepu16_epi32(_mm_loadu_si128(q)), hi = _mm256_cvtepu16_epi32(_mm_loadu_si128(q + 1));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(lo, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(hi, 16))};
  }
  static Lanes load_bf16(const uint16_t* p, int64_t n) {
    if (n == 16) return load_bf16(p);
    uint16_t padded[16] = {};
    std::memcpy(padded, p, static_cast<size_t>(n) * 2);
    return load_bf16(padded);
  }

  void store(float* p) const {
    _mm256_storeu_ps(p, lo);
    _mm256_storeu_ps(p + 8, hi);
  }
  void store(float* p, int64_t n) const {
    if (n == 16) return store(p);
    float all[16];
    store(all);
    std::memcpy(p, all, static_cast<size_t>(n) * 4);
  }
  void store_half(uint16_t* p) const {
    __m128i* q = reinterpret_cast<__m128i*>(p);
    _mm_storeu_si128(q, _mm256_cvtps_ph(lo, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128(q + 1, _mm256_cvtps_ph(hi, _MM_FROUND_TO_NEAREST_INT));
  }
  void store_half(uint16_t* p, int64_t n) const {
    if (n == 16) return store_half(p);
    uint16_t all[16];
    store_half(all);
    std::memcpy(p, all, static_cast<size_t>(n) * 2);
  }
  void store_int8(int8_t* p) const {
    const __m256i words = _mm256_packs_epi32(_mm256_cvtps_epi32(lo), _mm256_cvtps_epi32(hi));  // 0-3 8-11 4-7 12-15
    const __m256i sorted = _mm256_permute4x64_epi64(words, 0xd8);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm_packs_epi16(_mm256_castsi256_si128(sorted), _mm256_extracti128_si256(sorted, 1)));
  }
  void store_int8(int8_t* p, int64_t n) const {
    if (n == 16) return store_int8(p);
    int8_t all[16];
    store_int8(all);
    std::memcpy(p, all, static_cast<size_t>(n));
  }

 private:
  static __m256 widened(const int8_t* p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
  }
};

inline Lanes operator+(Lanes a, Lanes b) { return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
inline Lanes operator-(Lanes a, Lanes b) { return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
inline Lanes operator*(Lanes a, Lanes b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
inline Lanes operator/(Lanes a, Lanes b) { return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
inline Lanes fma(Lanes a, Lanes b, Lanes c) {
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
inline Lanes max(Lanes a, Lanes b) { return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }
inline Lanes min(Lanes a, Lanes b) { return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)}; }

inline Lanes zero_where_less(Lanes x, Lanes limit, Lanes value) {
  return {_mm256_andnot_ps(_mm256_cmp_ps(x.lo, limit.lo, _CMP_LT_OQ), value.lo),
          _mm256_andnot_ps(_mm256_cmp_ps(x.hi, limit.hi, _CMP_LT_OQ), value.hi)};
}
inline __m256 power_of_two(__m256 shifted) {
  const __m256i biased = _mm256_add_epi32(_mm256_castps_si256(shifted), _mm256_set1_epi32(127));
  return _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23));
}
inline Lanes power_of_two(Lanes shifted) { return {power_of_two(shifted.lo), power_of_two(shifted.hi)}; }

inline Lanes within(int64_t begin, int64_t end, Lanes a, Lanes b) {
  const __m256i first = _mm256_set1_epi32(static_cast<int>(begin) - 1), last = _mm256_set1_epi32(static_cast<int>(end));
  const __m256i i = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), j = _mm256_add_epi32(i, _mm256_set1_epi32(8));
  const auto inside = [&](__m256i lane) {
    return _mm256_castsi256_ps(_mm256_and_si256(_mm256_cmpgt_epi32(lane, first), _mm256_cmpgt_epi32(last, lane)));
  };
  return {_mm256_blendv_ps(b.lo, a.lo, inside(i)), _mm256_blendv_ps(b.hi, a.hi, inside(j))};
}

inline float sum(Lanes a) {
  const __m256 eight = _mm256_add_ps(a.lo, a.hi);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}
inline float largest(Lanes a) {
  const __m256 eight = _mm256_max_ps(a.lo, a.hi);
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
}

}  // namespace slm::avx2
