// What the packed matrix products share: a register holds four inputs of eight rows, a piece of a group.
#pragma once

#include "avx2.h"

namespace slm::avx2 {

// Brings what lies 4 KB ahead into the level 1 cache, `bytes` of it.
template <int bytes>
inline void prefetch(const uint8_t* data) {
  for (int i = 0; i < bytes; i += 64) _mm_prefetch(reinterpret_cast<const char*>(data + 4 * 1024 + i), _MM_HINT_T0);
}

inline __m256i load(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
inline __m256i low(__m256i both) { return _mm256_and_si256(both, _mm256_set1_epi8(15)); }
inline __m256i high(__m256i both) { return low(_mm256_srli_epi16(both, 4)); }

// The same four bytes in each 32-bit lane: four inputs, or a pair of 16-bit starts.
inline __m256i four_bytes(const void* p) {
  int32_t bytes;
  std::memcpy(&bytes, p, 4);
  return _mm256_set1_epi32(bytes);
}
inline __m256i four_inputs(const int8_t* q) { return four_bytes(q); }
inline __m256i pair(const int16_t* start) { return four_bytes(start); }

inline __m256 half_scales(const void* p) { return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(p))); }

inline void write_rows(const float (*rows)[kTile], int64_t tokens, const Packed& w, int64_t tile, float* out) {
  const int64_t left = w.n - tile * kTile, n = left < kTile ? left : kTile;
  for (int64_t t = 0; t < tokens; ++t)
    std::memcpy(out + t * w.n + tile * kTile, rows[t], static_cast<size_t>(n) * sizeof(float));
}

}  // namespace slm::avx2
