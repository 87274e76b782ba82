// Contract: kernels.h. Layout: formats.h.
//
// A 512-bit register holds four inputs of all sixteen rows. For few tokens vpdpbusd takes the weights as stored, 0..15,
// for its unsigned side; a part's sum starts where the token says, which undoes the 8. It then fits 16 bits (at most
// 16 * 8 * 127), so one vpdpwssd, with the part's scale in the low half of each lane and 0 in the high one, multiplies
// it and adds it up. For many tokens the inputs are the unsigned side (u = q + 128), and the weights are unpacked to
// scale times integer, -56..64: parts need not be told apart, and totals start from what the 128 adds, negative.
#include <type_traits>
#include <utility>

#include "../q4_s.h"
#include "pieces.h"

namespace slm::avx512 {
namespace {

constexpr int kUnits = kSuper / kUnit;
// Of many tokens: tiles whose sums are kept together, and superblocks that they go through before the next ones; the
// inputs of these, for all tokens, stay in a level 2 cache with the sums (340 + 130 KB of kWideTokens tokens).
constexpr int64_t kSumTiles = 8, kInputBlocks = 4;
constexpr int64_t kCachedTokens = 64;  // results of more would not wait in a cache for who reads them

// f(0), f(1), ... up to count - 1, written out: sums in an array stay in registers only if each has a name of its own.
template <class F, int... i>
inline void each(std::integer_sequence<int, i...>, F f) {
  (f(i), ...);
}
template <int count, class F>
inline void each(F f) {
  each(std::make_integer_sequence<int, count>(), f);
}

// _mm512_dpbusd_epi32; compilers may copy the sum first, which costs what the instruction does.
inline __m512i dot_in_place(__m512i sum, __m512i u, __m512i s) {
#if defined(__GNUC__) && !defined(SLMKIT_EMULATE_AVX512)
  __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(u), "v"(s));
  return sum;
#else
  return _mm512_dpbusd_epi32(sum, u, s);
#endif
}

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
template <int kTiles, int kTokens, int j>
inline void add_part(const uint8_t* unit, int64_t tile_bytes, const __m512i* words, const WideActivation* x,
                     int64_t stride, int p, __m512i* totals) {
  __m512i w[kTiles * 4], scales[kTiles];
  each<kTiles>([&](int i) {
    const __m512i a = pieces_of(unit + i * tile_bytes, 2 * j), b = pieces_of(unit + i * tile_bytes, 2 * j + 1);
    w[4 * i] = low(a), w[4 * i + 1] = high(a), w[4 * i + 2] = low(b), w[4 * i + 3] = high(b);
    scales[i] = scales_of<j>(words[i]);
  });
  each<kTokens>([&](int t) {
    const WideActivation& token = x[t * stride];
    const __m512i start = four_bytes(token.whole_start8 + p);
    const int8_t* q = token.q + kPart * p;
    const __m512i inputs[4] = {four_inputs(q), four_inputs(q + 4), four_inputs(q + 8), four_inputs(q + 12)};
    each<kTiles>([&](int i) {
      __m512i sum = start;
      each<4>([&](int c) { sum = dot_in_place(sum, w[4 * i + c], inputs[c]); });
      totals[t * kTiles + i] = _mm512_dpwssd_epi32(totals[t * kTiles + i], sum, scales[i]);
    });
  });
}

// acc = fma(float(total), d * scale_x, acc).
inline __m512 collect(__m512i total, __m512 d, float scale, __m512 acc) {
  return _mm512_fmadd_ps(_mm512_cvtepi32_ps(total), _mm512_mul_ps(d, _mm512_set1_ps(scale)), acc);
}

inline __m512 half_floats(const uint8_t* p) { return Lanes::load_half(reinterpret_cast<const uint16_t*>(p)).v; }

inline void prefetch_unit(const uint8_t* unit) {
  const char* ahead = reinterpret_cast<const char*>(unit + kPrefetch);
  for (int i = 0; i < kUnitBytes; i += 64) _mm_prefetch(ahead + i, _MM_HINT_T1);
}

// Sums of kTiles tiles, [tokens][kTiles * kTile], to the rows of `out` where they belong; of many tokens past the caches,
// which they would only fill: each line is written whole, a row's length away from the one before.
template <int kTiles>
void put(const float* sums, const Packed& w, int64_t tile, int64_t tokens, bool past_caches, float* out) {
  for (int i = 0; i < kTiles; ++i) {
    const int64_t first = (tile + i) * kTile, count = w.n - first < kTile ? w.n - first : kTile;
    float* to = out + first;
    const bool whole = count == kTile && w.n % kTile == 0 && reinterpret_cast<uintptr_t>(to) % 64 == 0;
    for (int64_t t = 0; t < tokens; ++t) {
      const __m512 sum = _mm512_load_ps(sums + (t * kTiles + i) * kTile);
      if (whole && past_caches) {
        _mm512_stream_ps(to + t * w.n, sum);
      } else {
        Lanes{sum}.store(to + t * w.n, count);
      }
    }
  }
}

inline void clear(float* sums, int64_t count) {
  for (int64_t i = 0; i < count; i += 16) _mm512_store_ps(sums + i, _mm512_setzero_ps());
}

// A superblock of kTiles tiles for kTokens tokens straight from the packed bytes, added to sums, [kTokens][kTiles * kTile].
template <int kTiles, int kTokens>
void add_packed(const uint8_t* super, int64_t tile_bytes, int units, bool read_ahead, const WideActivation* x,
                int64_t stride, float* sums) {
  __m512i totals[kTokens * kTiles];
  each<kTokens * kTiles>([&](int i) { totals[i] = _mm512_setzero_si512(); });
  const uint8_t* unit = super + kSuperHeader;
  for (int u = 0; u < units; ++u, unit += kUnitBytes) {
    __m512i words[kTiles];
    each<kTiles>([&](int i) {
      if (read_ahead) prefetch_unit(unit + i * tile_bytes);
      words[i] = scale_words(unit + i * tile_bytes);
    });
    add_part<kTiles, kTokens, 0>(unit, tile_bytes, words, x, stride, 4 * u, totals);
    add_part<kTiles, kTokens, 1>(unit, tile_bytes, words, x, stride, 4 * u + 1, totals);
    add_part<kTiles, kTokens, 2>(unit, tile_bytes, words, x, stride, 4 * u + 2, totals);
    add_part<kTiles, kTokens, 3>(unit, tile_bytes, words, x, stride, 4 * u + 3, totals);
  }
  each<kTokens * kTiles>([&](int i) {
    float* sum = sums + i * kTile;
    const __m512 d = half_floats(super + i % kTiles * tile_bytes);
    _mm512_store_ps(sum, collect(totals[i], d, x[i / kTiles * stride].scale, _mm512_load_ps(sum)));
  });
}

// A superblock of some tiles unpacked for many tokens: products of scale and integer, d, and what the 128 of the inputs
// adds to each row's sum, negative.
template <int kTiles>
struct alignas(64) Panel {
  int8_t products[kSuper / 4][kTiles][4 * kTile];
  float d[kTiles][kTile];
  int32_t less[kTiles][kTile];
};

// scale * (w - 8) of each byte. In a 16-bit lane the product of the high byte needs no bits of the low one, and its own
// upper bits fall off.
inline __m512i times_scale(__m512i w, __m512i scales, __m512i eight_scales) {
  const __m512i low_bytes = _mm512_set1_epi16(0xff);
  const __m512i first = _mm512_and_si512(_mm512_mullo_epi16(_mm512_and_si512(w, low_bytes), scales), low_bytes);
  const __m512i second = _mm512_mullo_epi16(_mm512_andnot_si512(low_bytes, w), scales);
  return _mm512_sub_epi8(_mm512_or_si512(first, second), eight_scales);
}

// Returns `sums` and the sum of each row's products.   to: of each four inputs, kTiles tiles side by side.
template <int kTiles, int j>
inline __m512i unpack_part(const uint8_t* unit, __m512i words, int8_t (*to)[kTiles][4 * kTile], int tile,
                           __m512i sums) {
  const __m512i one = scales_of<j>(words), scales = _mm512_or_si512(one, _mm512_slli_epi32(one, 16));
  const __m512i eight_bytes = _mm512_and_si512(_mm512_slli_epi16(scales, 3), _mm512_set1_epi16(0xff));
  const __m512i eight_scales = _mm512_or_si512(eight_bytes, _mm512_slli_epi16(eight_bytes, 8));
  const __m512i a = pieces_of(unit, 2 * j), b = pieces_of(unit, 2 * j + 1);
  const __m512i w[4] = {low(a), high(a), low(b), high(b)};
  for (int c = 0; c < 4; ++c) {
    const __m512i products = times_scale(w[c], scales, eight_scales);
    _mm512_store_si512(to[4 * j + c][tile], products);
    sums = _mm512_dpbusd_epi32(sums, _mm512_set1_epi8(1), products);
  }
  return sums;
}

// One tile's part of a panel, from a superblock of so many units.
template <int kTiles>
void unpack(const uint8_t* data, int64_t units, Panel<kTiles>& panel, int tile) {
  _mm512_store_ps(panel.d[tile], half_floats(data));
  data += kSuperHeader;
  __m512i sums = _mm512_setzero_si512();
  for (int u = 0; u < units; ++u, data += kUnitBytes) {
    prefetch_unit(data);
    const __m512i words = scale_words(data);
    auto* to = panel.products + kUnit / 4 * u;
    sums = unpack_part<kTiles, 0>(data, words, to, tile, sums);
    sums = unpack_part<kTiles, 1>(data, words, to, tile, sums);
    sums = unpack_part<kTiles, 2>(data, words, to, tile, sums);
    sums = unpack_part<kTiles, 3>(data, words, to, tile, sums);
  }
  _mm512_store_si512(panel.less[tile], _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(sums, 7)));
}

// A panel for kTokens tokens, added to their sums, [tokens][kTiles * kTile].
template <int kTiles, int kTokens>
inline void panel_tile(const Panel<kTiles>& panel, int pieces, const UnsignedActivation* x, float* sums) {
  constexpr int kNext = kTokens * static_cast<int>(sizeof *x) / (kSuper / 4);  // bytes of the next tokens asked for each time
  __m512i totals[kTokens * kTiles];
  each<kTokens * kTiles>([&](int i) { totals[i] = _mm512_load_si512(panel.less[i % kTiles]); });
  for (int c = 0; c < pieces; ++c) {
    __m512i w[kTiles];
    each<kTiles>([&](int i) { w[i] = _mm512_load_si512(panel.products[c][i]); });
    _mm_prefetch(reinterpret_cast<const char*>(x + kTokens) + c * kNext, _MM_HINT_T0);
    each<kTokens>([&](int t) {
      const __m512i inputs = four_bytes(x[t].u + 4 * c);
      each<kTiles>([&](int i) {
        totals[t * kTiles + i] = dot_in_place(totals[t * kTiles + i], inputs, w[i]);
      });
    });
  }
  each<kTokens * kTiles>([&](int i) {
    float* sum = sums + i * kTile;
    const __m512 d = _mm512_load_ps(panel.d[i % kTiles]);
    _mm512_store_ps(sum, collect(totals[i], d, x[i / kTiles].scale, _mm512_load_ps(sum)));
  });
}

template <int kTiles>
void panel_tokens(const Panel<kTiles>& panel, int pieces, const UnsignedActivation* x, int64_t tokens, float* sums) {
  constexpr int64_t kSums = kTiles * kTile;
  int64_t t = 0;
  for (; t + 12 <= tokens; t += 12) panel_tile<kTiles, 12>(panel, pieces, x + t, sums + t * kSums);
  for (; t + 4 <= tokens; t += 4) panel_tile<kTiles, 4>(panel, pieces, x + t, sums + t * kSums);
  for (; t < tokens; ++t) panel_tile<kTiles, 1>(panel, pieces, x + t, sums + t * kSums);
}

constexpr int64_t kFewTokens = 8;  // up to here tiles are read packed

// kTiles tiles for few tokens, where reading the weights is what counts: each superblock is read once for all tokens, so
// that memory never rests.
template <int kTiles>
void packed_tokens(const Packed& w, int64_t tile, const WideInputs& x, int64_t tokens, float* sums) {
  const int64_t blocks = (w.k + kSuper - 1) / kSuper, bytes = q4s_tile_bytes(w.k);
  constexpr int64_t kSums = kTiles * kTile;
  const uint8_t* data = w.data + tile * bytes;
  for (int64_t b = 0; b < blocks; ++b) {
    const uint8_t* super = q4s_super(data, b);
    const int64_t left = q4s_units(w.k) - b * kUnits;
    const int units = static_cast<int>(left < kUnits ? left : kUnits);
    const WideActivation* inputs = x.by_token + b;
    int64_t t = 0;
    const auto take = [&](auto count) {
      constexpr int kTokens = decltype(count)::value;
      for (; t + kTokens <= tokens; t += kTokens)
        add_packed<kTiles, kTokens>(super, bytes, units, t == 0, inputs + t * blocks, blocks, sums + t * kSums);
    };
    take(std::integral_constant<int, 4>());
    take(std::integral_constant<int, 2>());
    take(std::integral_constant<int, 1>());
  }
}

// The superblocks [first, last) of kTiles tiles, added to sums.
template <int kTiles>
void add_superblocks(const Packed& w, int64_t tile, int64_t first, int64_t last, const WideInputs& x, int64_t tokens,
                     float* sums, void* scratch) {
  auto& panel = *static_cast<Panel<kTiles>*>(scratch);
  for (int64_t b = first; b < last; ++b) {
    const int64_t left = q4s_units(w.k) - b * kUnits, units = left < kUnits ? left : kUnits;
    for (int i = 0; i < kTiles; ++i)
      unpack(q4s_super(w.data + (tile + i) * q4s_tile_bytes(w.k), b), units, panel, i);
    panel_tokens(panel, static_cast<int>(units) * (kUnit / 4), x.by_block + b * x.block_stride, tokens, sums);
  }
}

// f(2, tile) for pairs of the tiles [begin, end), f(1, tile) for the rest; the numbers as types.
template <class F>
void pairs(int64_t begin, int64_t end, bool by_two, F f) {
  int64_t tile = begin;
  if (by_two)
    for (; tile + 2 <= end; tile += 2) f(std::integral_constant<int, 2>(), tile);
  for (; tile < end; ++tile) f(std::integral_constant<int, 1>(), tile);
}

}  // namespace

void matmul_q4_s(const Packed& w, int64_t tile_begin, int64_t tile_end, const WideInputs& x, int64_t tokens, float* out,
                 void* scratch) {
  const int64_t blocks = (w.k + kSuper - 1) / kSuper;
  auto* sums = static_cast<float*>(scratch);
  const auto at = [&](int64_t tiles) { return sums + tiles * kTile * tokens; };
  if (tokens <= kFewTokens) {
    pairs(tile_begin, tile_end, tokens >= 4, [&](auto tiles, int64_t tile) {
      constexpr int kTiles = decltype(tiles)::value;
      clear(sums, tokens * kTiles * kTile);
      packed_tokens<kTiles>(w, tile, x, tokens, sums);
      put<kTiles>(sums, w, tile, tokens, false, out);
    });
    return;
  }
  for (int64_t from = tile_begin; from < tile_end; from += kSumTiles) {
    const int64_t to = from + kSumTiles < tile_end ? from + kSumTiles : tile_end;
    clear(sums, (to - from) * kTile * tokens);
    for (int64_t first = 0; first < blocks; first += kInputBlocks) {
      const int64_t last = first + kInputBlocks < blocks ? first + kInputBlocks : blocks;
      pairs(from, to, true, [&](auto tiles, int64_t tile) {
        add_superblocks<decltype(tiles)::value>(w, tile, first, last, x, tokens, at(tile - from), at(kSumTiles));
      });
    }
    pairs(from, to, true, [&](auto tiles, int64_t tile) {
      put<decltype(tiles)::value>(at(tile - from), w, tile, tokens, tokens > kCachedTokens, out);
    });
  }
  _mm_sfence();  // what went past the caches is seen before whatever tells of it
}

}  // namespace slm::avx512
