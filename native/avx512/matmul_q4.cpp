// Contract: kernels.h. Layout: formats.h.
//
// A 512-bit register holds four inputs of all sixteen rows, and vpdpbusd adds their four products to each row's 32-bit
// sum. The weights as stored, 0..15, are its unsigned side; sums start where the token says, which undoes the 8.
#include "pieces.h"

namespace slm::avx512 {

constexpr int kPanelTokens = 12;     // 12 sums, 12 totals, and what is left of 32 registers for weights and inputs

static inline __m512 collect(__m512i sums, __m512 scale, const Activation& x, __m512 acc) {
  return _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), _mm512_mul_ps(scale, _mm512_set1_ps(x.scale)), acc);
}

// One tile for kTokens tokens straight from the packed bytes: for few tokens, where reading the weights is what counts.
template <int kTokens>
static void packed_tile(const uint8_t* data, const uint16_t* scale, int64_t groups, const Activation* x, int64_t stride,
                        __m512* acc) {
  for (int t = 0; t < kTokens; ++t) acc[t] = _mm512_setzero_ps();
  for (int64_t g = 0; g < groups; ++g, data += 256, scale += kTile, ++x) {
    __m512i sums[kTokens], more[kTokens];
    for (int t = 0; t < kTokens; ++t) {
      sums[t] = start_of(x[t * stride].start8, 1);
      more[t] = _mm512_setzero_si512();  // a second chain of additions: each takes several cycles
    }
    for (int c = 0; c < 4; ++c) {
      _mm_prefetch(reinterpret_cast<const char*>(data + kPrefetch + 64 * c), _MM_HINT_T0);
      const __m512i both = _mm512_loadu_si512(data + 64 * c), lo = low(both), hi = high(both);
      for (int t = 0; t < kTokens; ++t) {
        const int8_t* q = x[t * stride].q + 8 * c;
        sums[t] = _mm512_dpbusd_epi32(sums[t], lo, four_inputs(q));
        more[t] = _mm512_dpbusd_epi32(more[t], hi, four_inputs(q + 4));
      }
    }
    const __m512 scales = Lanes::load_half(scale).v;
    for (int t = 0; t < kTokens; ++t)
      acc[t] = collect(_mm512_add_epi32(sums[t], more[t]), scales, x[t * stride], acc[t]);
  }
}

// A tile unpacked to one byte a weight, 512 bytes and 16 float scales a group: for many tokens.
struct Panel {
  uint8_t* weights;
  float* scales;
};

static void unpack(const uint8_t* data, const uint16_t* scale, int64_t groups, Panel panel) {
  for (int64_t i = 0; i < groups * 4; ++i) {
    const __m512i both = _mm512_loadu_si512(data + 64 * i);
    _mm512_store_si512(panel.weights + 128 * i, low(both));
    _mm512_store_si512(panel.weights + 128 * i + 64, high(both));
  }
  for (int64_t g = 0; g < groups; ++g) Lanes::load_half(scale + kTile * g).store(panel.scales + kTile * g);
}

template <int kTokens>
static void panel_tile(Panel panel, int64_t groups, const Activation* x, int64_t stride, __m512* acc) {
  const uint8_t* weights = panel.weights;
  for (int t = 0; t < kTokens; ++t) acc[t] = _mm512_setzero_ps();
  for (int64_t g = 0; g < groups; ++g, weights += 512, ++x) {
    __m512i sums[kTokens];
    for (int t = 0; t < kTokens; ++t) sums[t] = start_of(x[t * stride].start8, 1);
    for (int c = 0; c < 8; ++c) {
      const __m512i w = _mm512_load_si512(weights + 64 * c);
      for (int t = 0; t < kTokens; ++t) sums[t] = _mm512_dpbusd_epi32(sums[t], w, four_inputs(x[t * stride].q + 4 * c));
    }
    const __m512 scales = Lanes::load(panel.scales + kTile * g).v;
    for (int t = 0; t < kTokens; ++t) acc[t] = collect(sums[t], scales, x[t * stride], acc[t]);
  }
}

constexpr int64_t kFewTokens = 8;  // up to here a tile is read packed

void matmul_q4(const Packed& w, int64_t tile_begin, int64_t tile_end, const Activation* x, int64_t tokens, float* out,
               void* scratch) {
  const Panel panel = {static_cast<uint8_t*>(scratch),
                       reinterpret_cast<float*>(static_cast<uint8_t*>(scratch) + w.groups * 512)};
  for (int64_t tile = tile_begin; tile < tile_end; ++tile) {
    const uint8_t* data = w.data + tile * w.groups * 256;
    const uint16_t* scale = w.scale + tile * w.groups * kTile;
    const int64_t rows_left = w.n - tile * kTile, rows = rows_left < kTile ? rows_left : kTile;
    const bool few = tokens <= kFewTokens;
    if (!few) unpack(data, scale, w.groups, panel);
    __m512 acc[kPanelTokens];
    for (int64_t t = 0; t < tokens;) {
      const Activation* xt = x + t * w.groups;
      const int64_t left = tokens - t;
      int64_t n = 1;
      if (few) {
        if (left >= 4) packed_tile<4>(data, scale, w.groups, xt, w.groups, acc), n = 4;
        else if (left >= 2) packed_tile<2>(data, scale, w.groups, xt, w.groups, acc), n = 2;
        else packed_tile<1>(data, scale, w.groups, xt, w.groups, acc);
      } else {
        if (left >= kPanelTokens) panel_tile<kPanelTokens>(panel, w.groups, xt, w.groups, acc), n = kPanelTokens;
        else if (left >= 4) panel_tile<4>(panel, w.groups, xt, w.groups, acc), n = 4;
        else panel_tile<1>(panel, w.groups, xt, w.groups, acc);
      }
      for (int64_t i = 0; i < n; ++i) Lanes{acc[i]}.store(out + (t + i) * w.n + tile * kTile, rows);
      t += n;
    }
  }
}

}  // namespace slm::avx512
