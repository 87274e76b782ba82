// AVX-512 without AVX-512: SIMDe's portable versions of the intrinsics, and plain ones of those it lacks (0.7.4).
//
// For tests on machines without the instructions (CMake option SLMKIT_EMULATE_AVX512); never shipped.
#pragma once

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <simde/x86/avx512/dpbusd.h>
#include <simde/x86/avx512/dpwssd.h>
#include <simde/x86/f16c.h>

#include <cmath>
#include <cstdint>
#include <cstring>

namespace emulated {

template <class To, class From>
inline To bits(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

template <class T>
struct Sixteen {
  T v[16];
};
using Floats = Sixteen<float>;
using Ints = Sixteen<int32_t>;
using Shorts = Sixteen<uint16_t>;
using Bytes = Sixteen<int8_t>;

inline __m256i maskz_loadu_epi16(uint32_t mask, const void* p) {
  Shorts r = {};
  for (int i = 0; i < 16; ++i)
    if (mask >> i & 1) r.v[i] = static_cast<const uint16_t*>(p)[i];
  return bits<__m256i>(r);
}

inline void mask_storeu_epi16(void* p, uint32_t mask, __m256i a) {
  const Shorts v = bits<Shorts>(a);
  for (int i = 0; i < 16; ++i)
    if (mask >> i & 1) static_cast<uint16_t*>(p)[i] = v.v[i];
}

inline __m512 maskz_loadu_ps(uint32_t mask, const float* p) {
  Floats r = {};
  for (int i = 0; i < 16; ++i)
    if (mask >> i & 1) r.v[i] = p[i];
  return bits<__m512>(r);
}

inline void mask_storeu_ps(float* p, uint32_t mask, __m512 a) {
  const Floats v = bits<Floats>(a);
  for (int i = 0; i < 16; ++i)
    if (mask >> i & 1) p[i] = v.v[i];
}

inline __m512i cvtps_epi32(__m512 a) {
  const Floats v = bits<Floats>(a);
  Ints r;
  for (int i = 0; i < 16; ++i) r.v[i] = static_cast<int32_t>(std::rint(v.v[i]));
  return bits<__m512i>(r);
}

inline __m512 cvtepi32_ps(__m512i a) {
  const Ints v = bits<Ints>(a);
  Floats r;
  for (int i = 0; i < 16; ++i) r.v[i] = static_cast<float>(v.v[i]);
  return bits<__m512>(r);
}

inline __m128i cvtepi32_epi8(__m512i a) {
  const Ints v = bits<Ints>(a);
  Bytes r;
  for (int i = 0; i < 16; ++i) r.v[i] = static_cast<int8_t>(v.v[i]);
  return bits<__m128i>(r);
}

template <class Byte>
inline __m512i widen(__m128i a) {
  const auto v = bits<Sixteen<Byte>>(a);
  Ints r;
  for (int i = 0; i < 16; ++i) r.v[i] = v.v[i];
  return bits<__m512i>(r);
}

inline __m512i cvtepu16_epi32(__m256i a) {
  const Shorts v = bits<Shorts>(a);
  Ints r;
  for (int i = 0; i < 16; ++i) r.v[i] = v.v[i];
  return bits<__m512i>(r);
}

struct Halves {
  __m256 low, high;
};

inline __m512 cvtph_ps(__m256i a) {
  return bits<__m512>(Halves{_mm256_cvtph_ps(_mm256_castsi256_si128(a)), _mm256_cvtph_ps(_mm256_extracti128_si256(a, 1))});
}

inline __m256i cvtps_ph(__m512 a) {
  const Halves h = bits<Halves>(a);
  return _mm256_set_m128i(_mm256_cvtps_ph(h.high, 0), _mm256_cvtps_ph(h.low, 0));
}

inline __m256 extractf32x8(__m512 a, int part) {
  const Halves h = bits<Halves>(a);
  return part ? h.high : h.low;
}

inline __m512i zextsi256(__m256i a) {
  Sixteen<int32_t> r = {};
  std::memcpy(&r, &a, sizeof a);
  return bits<__m512i>(r);
}

inline int32_t reduce_add(__m512i a) {
  uint32_t sum = 0;
  for (const int32_t x : bits<Ints>(a).v) sum += static_cast<uint32_t>(x);
  return static_cast<int32_t>(sum);
}

inline int32_t reduce_max(__m512i a) {
  const Ints v = bits<Ints>(a);
  int32_t most = v.v[0];
  for (const int32_t x : v.v) most = x > most ? x : most;
  return most;
}

}  // namespace emulated

#undef _mm512_cvtph_ps
#undef _mm512_cvtepi8_epi32
#undef _mm512_madd_epi16
#undef _mm512_cvtps_ph
#undef _mm512_extractf32x8_ps
#define _mm256_maskz_loadu_epi16(mask, p) emulated::maskz_loadu_epi16(mask, p)
#define _mm256_mask_storeu_epi16(p, mask, a) emulated::mask_storeu_epi16(p, mask, a)
#define _mm512_maskz_loadu_ps(mask, p) emulated::maskz_loadu_ps(mask, p)
#define _mm512_mask_storeu_ps(p, mask, a) emulated::mask_storeu_ps(p, mask, a)
#define _mm512_cvtps_epi32(a) emulated::cvtps_epi32(a)
#define _mm512_cvtepi32_ps(a) emulated::cvtepi32_ps(a)
#define _mm512_cvtepi32_epi8(a) emulated::cvtepi32_epi8(a)
#define _mm512_cvtepi8_epi32(a) emulated::widen<int8_t>(a)
#define _mm512_cvtepu8_epi32(a) emulated::widen<uint8_t>(a)
#define _mm512_cvtepu16_epi32(a) emulated::cvtepu16_epi32(a)
#define _mm512_madd_epi16(a, b) simde_mm512_madd_epi16(a, b)
#define _mm512_cvtph_ps(a) emulated::cvtph_ps(a)
#define _mm512_cvtps_ph(a, rounding) emulated::cvtps_ph(a)
#define _mm512_extractf32x8_ps(a, part) emulated::extractf32x8(a, part)
#define _mm512_zextsi256_si512(a) emulated::zextsi256(a)
#define _mm512_reduce_add_epi32(a) emulated::reduce_add(a)
#define _mm512_reduce_max_epi32(a) emulated::reduce_max(a)
#undef _mm512_stream_ps
#define _mm512_stream_ps(p, a) _mm512_storeu_ps(p, a)
