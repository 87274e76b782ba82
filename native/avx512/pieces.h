// What the packed matrix products share: a register holds four inputs of sixteen rows, a piece of a group.
#pragma once

#include "avx512.h"

namespace slm::avx512 {

constexpr int kPrefetch = 8 * 1024;  // bytes read ahead of use

// The same four bytes in each 32-bit lane.
inline __m512i four_bytes(const void* p) {
  int32_t bytes;
  std::memcpy(&bytes, p, 4);
  return _mm512_set1_epi32(bytes);
}
inline __m512i four_inputs(const int8_t* q) { return four_bytes(q); }

// What 32-bit sums start from: both of an Activation's pair together, some times.
inline __m512i start_of(const int16_t* pair, short times) {
  return _mm512_madd_epi16(four_bytes(pair), _mm512_set1_epi16(times));
}

inline __m512i low(__m512i both) { return _mm512_and_si512(both, _mm512_set1_epi8(15)); }
inline __m512i high(__m512i both) { return low(_mm512_srli_epi16(both, 4)); }

}  // namespace slm::avx512
