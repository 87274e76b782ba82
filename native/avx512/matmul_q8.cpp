// Contract: kernels.h. Layout: formats.h.
//
// As matmul_q4, with 128 added to each weight for vpdpbusd's unsigned side (its top bit flipped); sums start at
// -128 * sum(q), which is 16 times q4's start.
#include "pieces.h"

namespace slm::avx512 {

constexpr int kMostTokens = 8;

template <int kTokens>
static void tile_rows(const uint8_t* data, const uint16_t* scale, int64_t groups, const Activation* x, int64_t stride,
                      __m512* acc) {
  const __m512i top = _mm512_set1_epi8(static_cast<char>(0x80));
  for (int t = 0; t < kTokens; ++t) acc[t] = _mm512_setzero_ps();
  for (int64_t g = 0; g < groups; ++g, data += 512, scale += kTile, ++x) {
    __m512i sums[kTokens];
    for (int t = 0; t < kTokens; ++t) sums[t] = start_of(x[t * stride].start8, 16);
    for (int c = 0; c < 8; ++c) {
      _mm_prefetch(reinterpret_cast<const char*>(data + kPrefetch + 64 * c), _MM_HINT_T0);
      const __m512i w = _mm512_xor_si512(_mm512_loadu_si512(data + 64 * c), top);
      for (int t = 0; t < kTokens; ++t) sums[t] = _mm512_dpbusd_epi32(sums[t], w, four_inputs(x[t * stride].q + 4 * c));
    }
    const __m512 scales = Lanes::load_half(scale).v;
    for (int t = 0; t < kTokens; ++t) {
      const __m512 both = _mm512_mul_ps(scales, _mm512_set1_ps(x[t * stride].scale));
      acc[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[t]), both, acc[t]);
    }
  }
}

void matmul_q8(const Packed& w, int64_t tile_begin, int64_t tile_end, const Activation* x, int64_t tokens, float* out,
               void*) {
  for (int64_t tile = tile_begin; tile < tile_end; ++tile) {
    const uint8_t* data = w.data + tile * w.groups * 512;
    const uint16_t* scale = w.scale + tile * w.groups * kTile;
    const int64_t rows_left = w.n - tile * kTile, rows = rows_left < kTile ? rows_left : kTile;
    __m512 acc[kMostTokens];
    for (int64_t t = 0; t < tokens;) {
      const Activation* xt = x + t * w.groups;
      const int64_t left = tokens - t;
      int64_t n = 1;
      if (left >= kMostTokens) tile_rows<kMostTokens>(data, scale, w.groups, xt, w.groups, acc), n = kMostTokens;
      else if (left >= 4) tile_rows<4>(data, scale, w.groups, xt, w.groups, acc), n = 4;
      else tile_rows<1>(data, scale, w.groups, xt, w.groups, acc);
      for (int64_t i = 0; i < n; ++i) Lanes{acc[i]}.store(out + (t + i) * w.n + tile * kTile, rows);
      t += n;
    }
  }
}

}  // namespace slm::avx512
