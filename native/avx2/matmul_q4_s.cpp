// Contract: kernels.h. Layout: formats.h.
//
// A 256-bit register holds four inputs of eight rows. vpmaddubsw multiplies unsigned with signed bytes: for few tokens
// the weights as stored, 0..15, are the unsigned side, and sums start where the token says, which undoes the 8. For many
// tokens the inputs are (u = q + 128) and the weights are unpacked to -8..7, so that no sum has to be started: what the
// 128 adds, 128 sum_i scale_w w[i], is one number a row and superblock. Either way the eight products of a part's 16
// inputs in a 16-bit lane are below 2^15, and one vpmaddwd with the part's scale makes 32-bit sums of each row.
#include "pieces.h"

namespace slm::avx2 {
namespace {

constexpr int kParts = kSuper / kPart, kUnits = kSuper / kUnit;

// The four scales of eight rows in a unit, in both 16-bit halves of each row's lane.
inline __m256i scale_words(const uint8_t* unit, int h) {
  const __m256i rows = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(unit + 16 * h)));
  const __m256i twice = _mm256_setr_epi8(0, 1, 0, 1, 2, 3, 2, 3, 4, 5, 4, 5, 6, 7, 6, 7,  //
                                         8, 9, 8, 9, 10, 11, 10, 11, 12, 13, 12, 13, 14, 15, 14, 15);
  return _mm256_shuffle_epi8(rows, twice);
}

// Those of part j, as 16-bit numbers.
template <int j>
inline __m256i scales_of(__m256i words) {
  return _mm256_srai_epi16(j == 3 ? words : _mm256_slli_epi16(words, 12 - 4 * j), 12);
}

inline __m256i pieces_of(const uint8_t* unit, int c, int h) { return load(unit + 2 * kTile + 64 * c + 32 * h); }

// Part j of a unit for kTokens tokens, added to their totals, for kHalves times eight rows from 8 h on. Sums are trees:
// a chain of additions would leave the processor waiting.
template <int kTokens, int kHalves, int j>
inline void add_part(const uint8_t* unit, int h, const __m256i* words, const WideActivation* x, int64_t stride, int u,
                     __m256i (*totals)[kTokens]) {
  for (int i = 0; i < kHalves; ++i) {
    const __m256i a = pieces_of(unit, 2 * j, h + i), b = pieces_of(unit, 2 * j + 1, h + i);
    const __m256i w[4] = {low(a), high(a), low(b), high(b)}, scales = scales_of<j>(words[i]);
    for (int t = 0; t < kTokens; ++t) {
      const WideActivation& token = x[t * stride];
      __m256i products[4];
      for (int c = 0; c < 4; ++c)
        products[c] = _mm256_maddubs_epi16(w[c], four_inputs(token.q + kUnit * u + kPart * j + 4 * c));
      const __m256i first = _mm256_add_epi16(products[0], products[1]);
      const __m256i second = _mm256_add_epi16(_mm256_add_epi16(products[2], pair(token.start8[4 * u + j])), products[3]);
      const __m256i scaled = _mm256_madd_epi16(_mm256_add_epi16(first, second), scales);
      totals[i][t] = kTokens <= 2 ? _mm256_add_epi32(totals[i][t], scaled) : add_32(totals[i][t], scaled);
    }
  }
}

// acc = fma(float(total), d * scale_x, acc) for eight rows.
inline __m256 collect(__m256i total, __m256 d, float scale, __m256 acc) {
  return _mm256_fmadd_ps(_mm256_cvtepi32_ps(total), _mm256_mul_ps(d, _mm256_set1_ps(scale)), acc);
}

// One tile for kTokens tokens straight from the packed bytes: for few tokens, where reading the weights is what counts.
template <int kTokens>
void packed_tile(const uint8_t* data, int64_t units, const WideActivation* x, int64_t stride, float* out,
                 int64_t out_stride) {
  constexpr int kHalves = kTokens <= 2 ? 2 : 1;  // eight rows at a time leave registers for more tokens
  __m256 acc[kTokens][2];
  for (auto& rows : acc) rows[0] = rows[1] = _mm256_setzero_ps();
  for (; units > 0; units -= kUnits, ++x) {
    const int here = static_cast<int>(units < kUnits ? units : kUnits);
    for (int h = 0; h < 2; h += kHalves) {
      __m256i totals[kHalves][kTokens];
      for (auto& rows : totals)
        for (__m256i& total : rows) total = _mm256_setzero_si256();
      const uint8_t* unit = data + kSuperHeader;
      for (int u = 0; u < here; ++u, unit += kUnitBytes) {
        constexpr int kAhead = kUnitBytes * kHalves / 2;  // where there are two passes, half in each, to read evenly
        prefetch<kAhead>(unit + kAhead * h);
        __m256i words[kHalves];
        for (int i = 0; i < kHalves; ++i) words[i] = scale_words(unit, h + i);
        add_part<kTokens, kHalves, 0>(unit, h, words, x, stride, u, totals);
        add_part<kTokens, kHalves, 1>(unit, h, words, x, stride, u, totals);
        add_part<kTokens, kHalves, 2>(unit, h, words, x, stride, u, totals);
        add_part<kTokens, kHalves, 3>(unit, h, words, x, stride, u, totals);
      }
      for (int i = 0; i < kHalves; ++i) {
        const __m256 d = half_scales(data + 16 * (h + i));
        for (int t = 0; t < kTokens; ++t)
          acc[t][h + i] = collect(totals[i][t], d, x[t * stride].scale, acc[t][h + i]);
      }
    }
    data += kSuperHeader + here * kUnitBytes;
  }
  for (int t = 0; t < kTokens; ++t)
    for (int h = 0; h < 2; ++h) _mm256_storeu_ps(out + t * out_stride + 8 * h, acc[t][h]);
}

// A superblock unpacked for many tokens: the scales as 16-bit pairs, weights -8..7 one a byte, d, and what the 128 of the
// inputs adds to each row's sum, negative.
struct alignas(64) Panel {
  int16_t scales[kParts][2 * kTile];
  int8_t weights[kParts][kPart / 4][4 * kTile];
  float d[kTile];
  int32_t less[kTile];
};
static_assert(sizeof(Panel) * kPanelBlocks + 8 * kTile * 4 <= q4s_scratch, "the panels fit the scratch");

template <int j>
inline void unpack_part(const uint8_t* unit, const __m256i* words, Panel& panel, int part, __m256i* ones_sums) {
  const __m256i eight = _mm256_set1_epi8(8), ones = _mm256_set1_epi8(1);
  for (int h = 0; h < 2; ++h) {
    __m256i sums = _mm256_setzero_si256();
    for (int c = 0; c < 2; ++c) {
      const __m256i both = pieces_of(unit, 2 * j + c, h);
      const __m256i lo = _mm256_sub_epi8(low(both), eight), hi = _mm256_sub_epi8(high(both), eight);
      _mm256_store_si256(reinterpret_cast<__m256i*>(panel.weights[part][2 * c] + 32 * h), lo);
      _mm256_store_si256(reinterpret_cast<__m256i*>(panel.weights[part][2 * c + 1] + 32 * h), hi);
      sums = _mm256_add_epi16(sums, _mm256_maddubs_epi16(ones, _mm256_add_epi8(lo, hi)));
    }
    const __m256i scales = scales_of<j>(words[h]);
    _mm256_store_si256(reinterpret_cast<__m256i*>(panel.scales[part] + kTile * h), scales);
    ones_sums[h] = _mm256_sub_epi32(ones_sums[h], _mm256_madd_epi16(sums, scales));
  }
}

// Returns where the packed bytes go on.
const uint8_t* unpack(const uint8_t* data, int64_t units, Panel& panel) {
  for (int h = 0; h < 2; ++h) _mm256_store_ps(panel.d + 8 * h, half_scales(data + 16 * h));
  data += kSuperHeader;
  __m256i less[2] = {};
  for (int u = 0; u < units; ++u, data += kUnitBytes) {
    prefetch<kUnitBytes>(data);
    const __m256i words[2] = {scale_words(data, 0), scale_words(data, 1)};
    unpack_part<0>(data, words, panel, 4 * u, less);
    unpack_part<1>(data, words, panel, 4 * u + 1, less);
    unpack_part<2>(data, words, panel, 4 * u + 2, less);
    unpack_part<3>(data, words, panel, 4 * u + 3, less);
  }
  for (int h = 0; h < 2; ++h)
    _mm256_store_si256(reinterpret_cast<__m256i*>(panel.less + 8 * h), _mm256_slli_epi32(less[h], 7));
  return data;
}

inline __m256i load_aligned(const void* p) { return _mm256_load_si256(static_cast<const __m256i*>(p)); }

// A panel of so many parts for kTokens tokens, added to out where it is not the first.
template <int kTokens>
inline void panel_tile(const Panel& panel, int parts, bool first, const UnsignedActivation* x, float* out,
                       int64_t out_stride) {
  alignas(32) int32_t totals[kTokens][kTile];
  for (int t = 0; t < kTokens; ++t)
    for (int h = 0; h < 2; ++h)
      _mm256_store_si256(reinterpret_cast<__m256i*>(totals[t] + 8 * h), load_aligned(panel.less + 8 * h));
  for (int p = 0; p < parts; ++p) {
    __m256i sums[kTokens][2];
    for (int c = 0; c < kPart / 4; ++c) {
      const __m256i w0 = load_aligned(panel.weights[p][c]), w1 = load_aligned(panel.weights[p][c] + 32);
      for (int t = 0; t < kTokens; ++t) {
        const __m256i u = four_bytes(x[t].u + kPart * p + 4 * c);
        const __m256i p0 = _mm256_maddubs_epi16(u, w0), p1 = _mm256_maddubs_epi16(u, w1);
        sums[t][0] = c ? add_16(sums[t][0], p0) : p0;
        sums[t][1] = c ? add_16(sums[t][1], p1) : p1;
      }
    }
    const __m256i s0 = load_aligned(panel.scales[p]), s1 = load_aligned(panel.scales[p] + kTile);
    for (int t = 0; t < kTokens; ++t) {
      auto* to = reinterpret_cast<__m256i*>(totals[t]);
      _mm256_store_si256(to, _mm256_add_epi32(load_aligned(to), _mm256_madd_epi16(sums[t][0], s0)));
      _mm256_store_si256(to + 1, _mm256_add_epi32(load_aligned(to + 1), _mm256_madd_epi16(sums[t][1], s1)));
    }
  }
  for (int h = 0; h < 2; ++h) {
    const __m256 d = _mm256_load_ps(panel.d + 8 * h);
    for (int t = 0; t < kTokens; ++t) {
      float* to = out + t * out_stride + 8 * h;
      const __m256 acc = first ? _mm256_setzero_ps() : _mm256_loadu_ps(to);
      _mm256_storeu_ps(to, collect(load_aligned(totals[t] + 8 * h), d, x[t].scale, acc));
    }
  }
}

constexpr int kPanelTokens = 4;      // 8 sums, 2 weights, 1 input, 1 product, and more tokens are no faster
constexpr int64_t kFewTokens = 8;    // up to here a tile is read packed; unpacking costs what three tokens cost

// Where a kernel writes results of up to kMost tokens, and from where they are copied to the rows that there are: the
// last tile of a matrix may have fewer than 16.
class Rows {
 public:
  Rows(const Packed& w, int64_t tile, float* out, float* room)
      : n_(w.n), left_(w.n - tile * kTile), out_(out + tile * kTile), room_(room) {}

  template <class F>
  void at(int64_t t, int64_t tokens, F compute) {
    if (left_ >= kTile) return compute(out_ + t * n_, n_);
    const size_t bytes = static_cast<size_t>(left_) * sizeof(float);
    for (int64_t i = 0; i < tokens; ++i) std::memcpy(room_ + i * kTile, out_ + (t + i) * n_, bytes);
    compute(room_, kTile);
    for (int64_t i = 0; i < tokens; ++i) std::memcpy(out_ + (t + i) * n_, room_ + i * kTile, bytes);
  }

 private:
  int64_t n_, left_;
  float *out_, *room_;
};

template <int kTokens>
void packed_tokens(const uint8_t* data, const Packed& w, const WideActivation* x, int64_t stride, int64_t t, Rows& rows) {
  rows.at(t, kTokens, [&](float* to, int64_t out_stride) {
    packed_tile<kTokens>(data, q4s_units(w.k), x + t * stride, stride, to, out_stride);
  });
}

template <int kTokens>
void panel_tokens(const Panel* panels, int64_t units, int64_t first, const WideInputs& x, int64_t t, Rows& rows) {
  rows.at(t, kTokens, [&](float* to, int64_t out_stride) {
    for (int i = 0; i < kTokens; ++i) __builtin_prefetch(to + (kTokens + i) * out_stride, 1);
    const UnsignedActivation* xt = x.by_block + first * x.block_stride + t;
    for (int64_t b = 0; units > 0; ++b, units -= kUnits, xt += x.block_stride) {
      const int parts = static_cast<int>(units < kUnits ? units : kUnits) * (kUnit / kPart);
      panel_tile<kTokens>(panels[b], parts, first + b == 0, xt, to, out_stride);
    }
  });
}

}  // namespace

void matmul_q4_s(const Packed& w, int64_t tile_begin, int64_t tile_end, const WideInputs& x, int64_t tokens, float* out,
                 void* scratch) {
  const int64_t blocks = (w.k + kSuper - 1) / kSuper, tile_bytes = q4s_tile_bytes(w.k);
  auto* panels = static_cast<Panel*>(scratch);
  auto* room = reinterpret_cast<float*>(panels + kPanelBlocks);
  if (tokens <= kFewTokens) {
    for (int64_t tile = tile_begin; tile < tile_end; ++tile) {
      const uint8_t* data = w.data + tile * tile_bytes;
      Rows rows(w, tile, out, room);
      int64_t t = 0;
      for (; t + 8 <= tokens; t += 8) packed_tokens<8>(data, w, x.by_token, blocks, t, rows);
      for (; t + 4 <= tokens; t += 4) packed_tokens<4>(data, w, x.by_token, blocks, t, rows);
      for (; t + 2 <= tokens; t += 2) packed_tokens<2>(data, w, x.by_token, blocks, t, rows);
      if (t < tokens) packed_tokens<1>(data, w, x.by_token, blocks, t, rows);
    }
    return;
  }
  // Panels of some superblocks for all tiles, then the next ones: their inputs, for all tokens, stay in a level 2 cache.
  for (int64_t first = 0; first < blocks; first += kPanelBlocks) {
    const int64_t left = q4s_units(w.k) - first * kUnits;
    const int64_t units = left < kPanelBlocks * kUnits ? left : kPanelBlocks * kUnits;
    for (int64_t tile = tile_begin; tile < tile_end; ++tile) {
      const uint8_t* data = w.data + tile * tile_bytes + first * (kSuperHeader + kUnits * kUnitBytes);
      for (int64_t b = 0; b * kUnits < units; ++b)
        data = unpack(data, units - b * kUnits < kUnits ? units - b * kUnits : kUnits, panels[b]);
      Rows rows(w, tile, out, room);
      int64_t t = 0;
      for (; t + kPanelTokens <= tokens; t += kPanelTokens)
        panel_tokens<kPanelTokens>(panels, units, first, x, t, rows);
      for (; t < tokens; ++t) panel_tokens<1>(panels, units, first, x, t, rows);
    }
  }
}

}  // namespace slm::avx2
