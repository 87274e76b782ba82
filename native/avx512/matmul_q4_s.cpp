// Contract: kernels.h. Layout: formats.h.
//
// A 512-bit register holds four inputs of all sixteen rows. For few tokens vpdpbusd takes the weights as stored, 0..15,
// for its unsigned side; a part's sum starts where the token says, which undoes the 8. It then fits 16 bits (at most
// 16 * 8 * 127), so one vpdpwssd, with the part's scale in the low half of each lane and 0 in the high one, multiplies
// it and adds it up. For many tokens the inputs are the unsigned side (u = q + 128), and the weights are unpacked to
// scale times integer, -56..64: parts need not be told apart, and totals start from what the 128 adds, negative.
#include "pieces.h"

namespace slm::avx512 {
namespace {

constexpr int kUnits = kSuper / kUnit;

// The four scales of each row in a unit, in the low halves of the rows' lanes.
inline __m512i scale_words(const uint8_t* unit) {
  return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(unit)));
}

// Those of part j, as 16-bit numbers; what is not there stays 0.
template <int j>
inline __m512i scales_of(__m512i words) {
  return _mm512_srai_epi16(_mm512_slli_epi16(words, 12 - 4 * j), 12);
}

inline __m512i pieces_of(const uint8_t* unit, int c) { return _mm512_loadu_si512(unit + 2 * kTile + 64 * c); }

// Part j of a unit, which is part p of the superblock, for kTokens tokens, added to their totals.
template <int kTokens, int j>
inline void add_part(const uint8_t* unit, __m512i words, const WideActivation* x, int64_t stride, int p,
                     __m512i* totals) {
  const __m512i a = pieces_of(unit, 2 * j), b = pieces_of(unit, 2 * j + 1), scales = scales_of<j>(words);
  const __m512i w[4] = {low(a), high(a), low(b), high(b)};
  for (int t = 0; t < kTokens; ++t) {
    const WideActivation& token = x[t * stride];
    __m512i sum = start_of(token.start8[p], 1);
    for (int c = 0; c < 4; ++c) sum = _mm512_dpbusd_epi32(sum, w[c], four_inputs(token.q + kPart * p + 4 * c));
    totals[t] = _mm512_dpwssd_epi32(totals[t], sum, scales);
  }
}

// acc = fma(float(total), d * scale_x, acc).
inline __m512 collect(__m512i total, __m512 d, float scale, __m512 acc) {
  return _mm512_fmadd_ps(_mm512_cvtepi32_ps(total), _mm512_mul_ps(d, _mm512_set1_ps(scale)), acc);
}

inline __m512 half_floats(const uint8_t* p) { return Lanes::load_half(reinterpret_cast<const uint16_t*>(p)).v; }

inline void prefetch_unit(const uint8_t* unit) {
  const char* ahead = reinterpret_cast<const char*>(unit + kPrefetch);
  for (int i = 0; i < kUnitBytes; i += 64) _mm_prefetch(ahead + i, _MM_HINT_T0);
}

// Where a tile's results go: [tokens][n] from its first row on, of which there may be fewer than 16.
struct Rows {
  float* out;
  int64_t n, count;

  __m512 load(int64_t t) const { return Lanes::load(out + t * n, count).v; }
  void store(int64_t t, __m512 v) const { Lanes{v}.store(out + t * n, count); }
};

// One tile for kTokens tokens straight from the packed bytes: for few tokens, where reading the weights is what counts.
template <int kTokens>
void packed_tile(const uint8_t* data, int64_t units, const WideActivation* x, int64_t stride, int64_t t, Rows rows) {
  __m512 acc[kTokens];
  for (__m512& sum : acc) sum = _mm512_setzero_ps();
  x += t * stride;
  for (; units > 0; units -= kUnits, ++x) {
    const int here = static_cast<int>(units < kUnits ? units : kUnits);
    const __m512 d = half_floats(data);
    data += kSuperHeader;
    __m512i totals[kTokens];
    for (__m512i& total : totals) total = _mm512_setzero_si512();
    for (int u = 0; u < here; ++u, data += kUnitBytes) {
      prefetch_unit(data);
      const __m512i words = scale_words(data);
      add_part<kTokens, 0>(data, words, x, stride, 4 * u, totals);
      add_part<kTokens, 1>(data, words, x, stride, 4 * u + 1, totals);
      add_part<kTokens, 2>(data, words, x, stride, 4 * u + 2, totals);
      add_part<kTokens, 3>(data, words, x, stride, 4 * u + 3, totals);
    }
    for (int i = 0; i < kTokens; ++i) acc[i] = collect(totals[i], d, x[i * stride].scale, acc[i]);
  }
  for (int i = 0; i < kTokens; ++i) rows.store(t + i, acc[i]);
}

// A superblock unpacked for many tokens: products of scale and integer, d, and what the 128 of the inputs adds to each
// row's sum, negative.
struct alignas(64) Panel {
  int8_t products[kSuper / 4][4 * kTile];
  float d[kTile];
  int32_t less[kTile];
};
static_assert(sizeof(Panel) * kPanelBlocks <= q4s_scratch, "the panels fit the scratch");

// scale * (w - 8) of each byte. In a 16-bit lane the product of the high byte needs no bits of the low one, and its own
// upper bits fall off.
inline __m512i times_scale(__m512i w, __m512i scales, __m512i eight_scales) {
  const __m512i low_bytes = _mm512_set1_epi16(0xff);
  const __m512i first = _mm512_and_si512(_mm512_mullo_epi16(_mm512_and_si512(w, low_bytes), scales), low_bytes);
  const __m512i second = _mm512_mullo_epi16(_mm512_andnot_si512(low_bytes, w), scales);
  return _mm512_sub_epi8(_mm512_or_si512(first, second), eight_scales);
}

// Returns `sums` and the sum of each row's products.
template <int j>
inline __m512i unpack_part(const uint8_t* unit, __m512i words, int8_t (*to)[4 * kTile], __m512i sums) {
  const __m512i one = scales_of<j>(words), scales = _mm512_or_si512(one, _mm512_slli_epi32(one, 16));
  const __m512i eight_bytes = _mm512_and_si512(_mm512_slli_epi16(scales, 3), _mm512_set1_epi16(0xff));
  const __m512i eight_scales = _mm512_or_si512(eight_bytes, _mm512_slli_epi16(eight_bytes, 8));
  const __m512i a = pieces_of(unit, 2 * j), b = pieces_of(unit, 2 * j + 1);
  const __m512i w[4] = {low(a), high(a), low(b), high(b)};
  for (int c = 0; c < 4; ++c) {
    const __m512i products = times_scale(w[c], scales, eight_scales);
    _mm512_store_si512(to[4 * j + c], products);
    sums = _mm512_dpbusd_epi32(sums, _mm512_set1_epi8(1), products);
  }
  return sums;
}

// Returns where the packed bytes go on.
const uint8_t* unpack(const uint8_t* data, int64_t units, Panel& panel) {
  _mm512_store_ps(panel.d, half_floats(data));
  data += kSuperHeader;
  __m512i sums = _mm512_setzero_si512();
  for (int u = 0; u < units; ++u, data += kUnitBytes) {
    prefetch_unit(data);
    const __m512i words = scale_words(data);
    int8_t(*to)[4 * kTile] = panel.products + kUnit / 4 * u;
    sums = unpack_part<0>(data, words, to, sums);
    sums = unpack_part<1>(data, words, to, sums);
    sums = unpack_part<2>(data, words, to, sums);
    sums = unpack_part<3>(data, words, to, sums);
  }
  _mm512_store_si512(panel.less, _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(sums, 7)));
  return data;
}

// The panels of so many units for kTokens tokens; x: the first panel's inputs. Added to what is there, if not `fresh`.
template <int kTokens>
void panel_tile(const Panel* panel, int64_t units, bool fresh, const UnsignedActivation* x, int64_t block_stride,
                int64_t t, Rows rows) {
  __m512 acc[kTokens];
  for (int i = 0; i < kTokens; ++i) acc[i] = fresh ? _mm512_setzero_ps() : rows.load(t + i);
  x += t;
  for (; units > 0; units -= kUnits, ++panel, x += block_stride) {
    const int pieces = static_cast<int>(units < kUnits ? units : kUnits) * (kUnit / 4);
    __m512i totals[kTokens];
    for (__m512i& total : totals) total = _mm512_load_si512(panel->less);
    for (int c = 0; c < pieces; ++c) {
      const __m512i w = _mm512_load_si512(panel->products[c]);
      for (int i = 0; i < kTokens; ++i) totals[i] = _mm512_dpbusd_epi32(totals[i], four_bytes(x[i].u + 4 * c), w);
    }
    const __m512 d = _mm512_load_ps(panel->d);
    for (int i = 0; i < kTokens; ++i) acc[i] = collect(totals[i], d, x[i].scale, acc[i]);
  }
  for (int i = 0; i < kTokens; ++i) rows.store(t + i, acc[i]);
}

constexpr int kPanelTokens = 12;   // 12 totals, 12 results, and what is left of 32 registers for weights and inputs
constexpr int64_t kFewTokens = 8;  // up to here a tile is read packed

void packed_tokens(const Packed& w, const uint8_t* data, const WideInputs& x, int64_t tokens, Rows rows) {
  const int64_t units = q4s_units(w.k), blocks = (w.k + kSuper - 1) / kSuper;
  int64_t t = 0;
  for (; t + 4 <= tokens; t += 4) packed_tile<4>(data, units, x.by_token, blocks, t, rows);
  for (; t + 2 <= tokens; t += 2) packed_tile<2>(data, units, x.by_token, blocks, t, rows);
  if (t < tokens) packed_tile<1>(data, units, x.by_token, blocks, t, rows);
}

void panel_tokens(const Panel* panels, int64_t units, int64_t first, const WideInputs& x, int64_t tokens, Rows rows) {
  const UnsignedActivation* from = x.by_block + first * x.block_stride;
  int64_t t = 0;
  for (; t + kPanelTokens <= tokens; t += kPanelTokens)
    panel_tile<kPanelTokens>(panels, units, first == 0, from, x.block_stride, t, rows);
  for (; t + 4 <= tokens; t += 4) panel_tile<4>(panels, units, first == 0, from, x.block_stride, t, rows);
  for (; t < tokens; ++t) panel_tile<1>(panels, units, first == 0, from, x.block_stride, t, rows);
}

}  // namespace

void matmul_q4_s(const Packed& w, int64_t tile_begin, int64_t tile_end, const WideInputs& x, int64_t tokens, float* out,
                 void* scratch) {
  const int64_t blocks = (w.k + kSuper - 1) / kSuper, tile_bytes = q4s_tile_bytes(w.k);
  const auto rows_of = [&](int64_t tile) {
    const int64_t left = w.n - tile * kTile;
    return Rows{out + tile * kTile, w.n, left < kTile ? left : kTile};
  };
  if (tokens <= kFewTokens) {
    for (int64_t tile = tile_begin; tile < tile_end; ++tile)
      packed_tokens(w, w.data + tile * tile_bytes, x, tokens, rows_of(tile));
    return;
  }
  auto* panels = static_cast<Panel*>(scratch);
  // Panels of some superblocks for all tiles, then the next: their inputs, for all tokens, stay in a level 2 cache.
  for (int64_t first = 0; first < blocks; first += kPanelBlocks) {
    const int64_t left = q4s_units(w.k) - first * kUnits;
    const int64_t units = left < kPanelBlocks * kUnits ? left : kPanelBlocks * kUnits;
    for (int64_t tile = tile_begin; tile < tile_end; ++tile) {
      const uint8_t* data = w.data + tile * tile_bytes + first * (kSuperHeader + kUnits * kUnitBytes);
      for (int64_t b = 0; b * kUnits < units; ++b)
        data = unpack(data, units - b * kUnits < kUnits ? units - b * kUnits : kUnits, panels[b]);
      panel_tokens(panels, units, first, x, tokens, rows_of(tile));
    }
  }
}

}  // namespace slm::avx512
