// Contract: kernels.h. Layout: formats.h.
//
// vpmaddubsw wants an unsigned side, so the sign of each weight moves to its input: w x = |w| (sign(w) x). |w| is 128 at
// most, which fits only unsigned bytes; |x| is 127. A pair of products is at most 2 * 128 * 127 = 32512 and fits 16 bits
// once; each is widened before it is added.
#include "pieces.h"

namespace slm::avx2 {

// sum + the products of four inputs of eight rows; magnitude: |w|.
static inline __m256i add_products(__m256i sum, __m256i w, __m256i magnitude, __m256i x) {
  const __m256i pairs = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(x, w));
  return add_32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

template <int kTokens>
static void tile_rows(const uint8_t* data, const uint16_t* scale, int64_t groups, const Activation* x, int64_t stride,
                      float (*out)[kTile]) {
  __m256 acc[kTokens][2];
  for (auto& rows : acc) rows[0] = rows[1] = _mm256_setzero_ps();
  for (int64_t g = 0; g < groups; ++g, data += 512, scale += kTile, ++x) {
    prefetch<512>(data);
    __m256i sums[kTokens][2];
    for (auto& rows : sums) rows[0] = rows[1] = _mm256_setzero_si256();
    for (int c = 0; c < 8; ++c) {
      const __m256i w0 = load(data + 64 * c), w1 = load(data + 64 * c + 32);
      const __m256i m0 = _mm256_abs_epi8(w0), m1 = _mm256_abs_epi8(w1);
      for (int t = 0; t < kTokens; ++t) {
        const __m256i q = four_inputs(x[t * stride].q + 4 * c);
        sums[t][0] = add_products(sums[t][0], w0, m0, q);
        sums[t][1] = add_products(sums[t][1], w1, m1, q);
      }
    }
    for (int h = 0; h < 2; ++h) {
      const __m256 s = half_scales(scale + 8 * h);
      for (int t = 0; t < kTokens; ++t) {
        const __m256 both = _mm256_mul_ps(s, _mm256_set1_ps(x[t * stride].scale));
        acc[t][h] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[t][h]), both, acc[t][h]);
      }
    }
  }
  for (int t = 0; t < kTokens; ++t)
    for (int h = 0; h < 2; ++h) _mm256_storeu_ps(out[t] + 8 * h, acc[t][h]);
}

void matmul_q8(const Packed& w, int64_t tile_begin, int64_t tile_end, const Activation* x, int64_t tokens, float* out,
               void*) {
  float rows[3][kTile];
  for (int64_t tile = tile_begin; tile < tile_end; ++tile) {
    const uint8_t* data = w.data + tile * w.groups * 512;
    const uint16_t* scale = w.scale + tile * w.groups * kTile;
    const int64_t rows_left = w.n - tile * kTile;
    const size_t bytes = static_cast<size_t>(rows_left < kTile ? rows_left : kTile) * sizeof(float);
    for (int64_t t = 0; t < tokens;) {
      const Activation* xt = x + t * w.groups;
      const int64_t n = tokens - t >= 3 ? 3 : 1;
      if (n == 3) tile_rows<3>(data, scale, w.groups, xt, w.groups, rows);
      else tile_rows<1>(data, scale, w.groups, xt, w.groups, rows);
      for (int64_t i = 0; i < n; ++i) std::memcpy(out + (t + i) * w.n + tile * kTile, rows[i], bytes);
      t += n;
    }
  }
}

}  // namespace slm::avx2
