// Contract: kernels.h. Layout: formats.h.
//
// A 256-bit register holds four inputs of eight rows. The weights as stored, 0..15, are the unsigned side of
// vpmaddubsw: the sixteen products of a group in a 16-bit lane add up to at most 16 * 15 * 127 = 30480, and less once the
// lane's start has undone the 8, so 16-bit additions collect them exactly, and one vpmaddwd a group makes the 32-bit sum
// of each row.
#include "pieces.h"

namespace slm::avx2 {

constexpr int kPanelTokens = 6;      // 12 sums, 2 weights, 1 input, 1 product: all 16 registers

// acc = fma(float(sum), scale_w * scale_x, acc) for eight rows; sums: pairs of 16-bit lanes of each row.
static inline __m256 collect(__m256i sums, __m256 scale, const Activation& x, __m256 acc) {
  const __m256i pairs = _mm256_madd_epi16(sums, _mm256_set1_epi16(1));
  return _mm256_fmadd_ps(_mm256_cvtepi32_ps(pairs), _mm256_mul_ps(scale, _mm256_set1_ps(x.scale)), acc);
}

// One tile for kTokens tokens straight from the packed bytes: for few tokens, where reading the weights is what counts.
template <int kTokens>
static void packed_tile(const uint8_t* data, const uint16_t* scale, int64_t groups, const Activation* x, int64_t stride,
                        float (*out)[kTile]) {
  __m256 acc[kTokens][2];
  for (auto& rows : acc) rows[0] = rows[1] = _mm256_setzero_ps();
  for (int64_t g = 0; g < groups; ++g, data += 256, scale += kTile, ++x) {
    prefetch<256>(data);
    __m256i sums[kTokens][2];
    for (int t = 0; t < kTokens; ++t) sums[t][0] = sums[t][1] = pair(x[t * stride].start8);
    for (int c = 0; c < 4; ++c) {
      for (int h = 0; h < 2; ++h) {
        const __m256i both = load(data + 64 * c + 32 * h), lo = low(both), hi = high(both);
        for (int t = 0; t < kTokens; ++t) {
          const int8_t* q = x[t * stride].q + 8 * c;
          const __m256i products = _mm256_add_epi16(_mm256_maddubs_epi16(lo, four_inputs(q)),
                                                    _mm256_maddubs_epi16(hi, four_inputs(q + 4)));
          sums[t][h] = add_16(sums[t][h], products);
        }
      }
    }
    for (int h = 0; h < 2; ++h) {
      const __m256 scales = half_scales(scale + 8 * h);
      for (int t = 0; t < kTokens; ++t) acc[t][h] = collect(sums[t][h], scales, x[t * stride], acc[t][h]);
    }
  }
  for (int t = 0; t < kTokens; ++t)
    for (int h = 0; h < 2; ++h) _mm256_storeu_ps(out[t] + 8 * h, acc[t][h]);
}

// A tile unpacked to one byte a weight, 512 bytes and 16 float scales a group: for many tokens.
struct Panel {
  uint8_t* weights;
  float* scales;
};

static void unpack(const uint8_t* data, const uint16_t* scale, int64_t groups, Panel panel) {
  for (int64_t i = 0; i < groups * 4; ++i) {
    prefetch<64>(data + 64 * i);
    for (int h = 0; h < 2; ++h) {
      const __m256i both = load(data + 64 * i + 32 * h);
      uint8_t* to = panel.weights + 128 * i + 32 * h;
      _mm256_store_si256(reinterpret_cast<__m256i*>(to), low(both));
      _mm256_store_si256(reinterpret_cast<__m256i*>(to + 64), high(both));
    }
  }
  for (int64_t i = 0; i < groups * kTile; i += 8) _mm256_store_ps(panel.scales + i, half_scales(scale + i));
}

template <int kTokens>
static void panel_tile(Panel panel, int64_t groups, const Activation* x, int64_t stride, float (*out)[kTile]) {
  const uint8_t* weights = panel.weights;
  const float* scales = panel.scales;
  for (int t = 0; t < kTokens; ++t)
    for (int h = 0; h < 2; ++h) _mm256_store_ps(out[t] + 8 * h, _mm256_setzero_ps());
  for (int64_t g = 0; g < groups; ++g, weights += 512, scales += kTile, ++x) {
    __m256i sums[kTokens][2];
    for (int t = 0; t < kTokens; ++t) sums[t][0] = sums[t][1] = pair(x[t * stride].start8);
    for (int c = 0; c < 8; ++c) {
      const __m256i w0 = load(weights + 64 * c), w1 = load(weights + 64 * c + 32);
      for (int t = 0; t < kTokens; ++t) {
        const __m256i q = four_inputs(x[t * stride].q + 4 * c);
        const __m256i p0 = _mm256_maddubs_epi16(w0, q), p1 = _mm256_maddubs_epi16(w1, q);
        sums[t][0] = add_16(sums[t][0], p0);
        sums[t][1] = add_16(sums[t][1], p1);
      }
    }
    const __m256 s0 = _mm256_load_ps(scales), s1 = _mm256_load_ps(scales + 8);
    for (int t = 0; t < kTokens; ++t) {
      _mm256_store_ps(out[t], collect(sums[t][0], s0, x[t * stride], _mm256_load_ps(out[t])));
      _mm256_store_ps(out[t] + 8, collect(sums[t][1], s1, x[t * stride], _mm256_load_ps(out[t] + 8)));
    }
  }
}

// Up to here a tile is read packed. Unpacking costs what four tokens cost, and then each is an eighth cheaper.
constexpr int64_t kFewTokens = 16;

void matmul_q4(const Packed& w, int64_t tile_begin, int64_t tile_end, const Activation* x, int64_t tokens, float* out,
               void* scratch) {
  const Panel panel = {static_cast<uint8_t*>(scratch),
                       reinterpret_cast<float*>(static_cast<uint8_t*>(scratch) + w.groups * 512)};
  // Not a local array: GCC would copy it to and fro in each group, to keep it in registers that it does not have.
  auto* rows = reinterpret_cast<float(*)[kTile]>(panel.scales + w.groups * kTile);
  for (int64_t tile = tile_begin; tile < tile_end; ++tile) {
    const uint8_t* data = w.data + tile * w.groups * 256;
    const uint16_t* scale = w.scale + tile * w.groups * kTile;
    const bool few = tokens <= kFewTokens;
    if (!few) unpack(data, scale, w.groups, panel);
    for (int64_t t = 0; t < tokens;) {
      const Activation* xt = x + t * w.groups;
      const auto done = [&](int64_t n) {
        write_rows(rows, n, w, tile, out + t * w.n);
        t += n;
      };
      const int64_t left = tokens - t;
      if (few) {
        if (left >= 4) packed_tile<4>(data, scale, w.groups, xt, w.groups, rows), done(4);
        else if (left >= 2) packed_tile<2>(data, scale, w.groups, xt, w.groups, rows), done(2);
        else packed_tile<1>(data, scale, w.groups, xt, w.groups, rows), done(1);
      } else {
        if (left >= kPanelTokens) panel_tile<kPanelTokens>(panel, w.groups, xt, w.groups, rows), done(kPanelTokens);
        else if (left >= 2) panel_tile<2>(panel, w.groups, xt, w.groups, rows), done(2);
        else panel_tile<1>(panel, w.groups, xt, w.groups, rows), done(1);
      }
    }
  }
}

}  // namespace slm::avx2
