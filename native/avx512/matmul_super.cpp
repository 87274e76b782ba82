// Contract: kernels.h. Layout: formats.h and super.h.
//
// As matmul_q4; vpdpbusd's 32-bit sums start where the token says, which undoes the 16 of q5_k and the 32 of q6_k. A sum
// times its 8-bit scale, and two of these added, stay below 2^24 (the largest, q6_k: 2 * 128 * 16 * 32 * 127), so that
// float32 does both exactly, where a 32-bit integer product would take three times as long.
#include "pieces.h"

namespace slm::avx512 {

constexpr int kSuperGroups = kSuper / kGroup;

// weights, with bits [from, from + width) of each byte of `bits` as their bits 4 and up.
template <int width, int from>
static inline __m512i with_bits(__m512i weights, __m512i bits) {
  if constexpr (from < 4) bits = _mm512_slli_epi16(bits, 4 - from);
  else bits = _mm512_srli_epi16(bits, from - 4);
  return _mm512_or_si512(weights, _mm512_and_si512(bits, _mm512_set1_epi8(width == 1 ? 0x10 : 0x30)));
}

static inline __m512i load_halves(const uint8_t* first, const uint8_t* second) {
  const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(first));
  return _mm512_inserti64x4(_mm512_castsi256_si512(a), _mm256_loadu_si256(reinterpret_cast<const __m256i*>(second)), 1);
}

struct TwoPieces {
  __m512i first, second;
};

// Pieces 2 c and 2 c + 1 of a group.
template <int kBits, int c>
static inline TwoPieces two_pieces(const uint8_t* group) {
  const uint8_t* bits = group + Super<kBits>::kScales;
  const __m512i both = _mm512_loadu_si512(bits + Super<kBits>::kHigh + 64 * c);
  TwoPieces w = {low(both), high(both)};
  if constexpr (kBits == 5) {
    const __m512i fifth = _mm512_loadu_si512(bits);
    w.first = with_bits<1, 2 * c>(w.first, fifth);
    w.second = with_bits<1, 2 * c + 1>(w.second, fifth);
  } else if constexpr (kBits == 6) {
    const __m512i top = load_halves(bits + 32 * (c / 2), bits + 64 + 32 * (c / 2));
    w.first = with_bits<2, 4 * (c % 2)>(w.first, top);
    w.second = with_bits<2, 4 * (c % 2) + 2>(w.second, top);
  }
  return w;
}

static inline __m512 half_floats(const uint8_t* p) { return Lanes::load_half(reinterpret_cast<const uint16_t*>(p)).v; }
static inline __m512 unsigned_floats(const uint8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
static inline __m512 signed_floats(const uint8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}

// A group's two rows of 16 floats: scale and least (kernels.h), of q6_k the two scales.
template <int kBits>
struct Scales {
  __m512 scale, other;

  Scales() = default;
  Scales(const uint8_t* header, const uint8_t* group) {
    if constexpr (kBits == 6) {
      scale = signed_floats(group);
      other = signed_floats(group + 16);
    } else {
      const __m512 minus_dmin = _mm512_mul_ps(half_floats(header + 32), _mm512_set1_ps(-1.0f));
      scale = unsigned_floats(group);
      other = _mm512_mul_ps(unsigned_floats(group + 16), minus_dmin);
      if constexpr (kBits == 5) {  // the product is exact, so this rounds once, as the definition does
        const __m512 sixteen_d = _mm512_mul_ps(half_floats(header), _mm512_set1_ps(16.0f));
        other = _mm512_add_ps(_mm512_mul_ps(scale, sixteen_d), other);
      }
    }
  }
};

// A token's sums of a group, of q6_k in two halves; on their way in 32 bits.
template <int kBits>
struct Sums {
  __m512i halves[2];

  void start(const Activation& x) {
    halves[0] = halves[1] = _mm512_setzero_si512();
    if constexpr (kBits == 5) halves[0] = start_of(x.start8, 2);
    if constexpr (kBits == 6)
      for (int half = 0; half < 2; ++half) halves[half] = start_of(x.start32[half], 1);
  }

  __m512 finish(const Scales<kBits>& scales, __m512 d, const Activation& x, __m512 acc) const {
    const __m512 by = _mm512_mul_ps(d, _mm512_set1_ps(x.scale));
    if constexpr (kBits == 6) {
      const __m512 second = _mm512_mul_ps(_mm512_cvtepi32_ps(halves[1]), scales.other);
      return _mm512_fmadd_ps(_mm512_fmadd_ps(_mm512_cvtepi32_ps(halves[0]), scales.scale, second), by, acc);
    } else {
      const __m512i sum = _mm512_add_epi32(halves[0], halves[1]);
      acc = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sum), scales.scale), by, acc);
      return _mm512_fmadd_ps(scales.other, _mm512_set1_ps(x.sum), acc);
    }
  }
};

template <int kBits, int kTokens, int c>
static inline void add_two_pieces(const uint8_t* group, const Activation* x, int64_t stride, Sums<kBits>* sums) {
  const TwoPieces w = two_pieces<kBits, c>(group);
  for (int t = 0; t < kTokens; ++t) {
    const int8_t* q = x[t * stride].q + 8 * c;
    // q4_k and q5_k have two chains of additions: each takes several cycles.
    __m512i &first = sums[t].halves[kBits == 6 ? c / 2 : 0], &second = sums[t].halves[kBits == 6 ? c / 2 : 1];
    first = _mm512_dpbusd_epi32(first, w.first, four_inputs(q));
    second = _mm512_dpbusd_epi32(second, w.second, four_inputs(q + 4));
  }
}

// One tile for kTokens tokens straight from the packed bytes: for few tokens, where reading the weights is what counts.
template <int kBits, int kTokens>
static void packed_tile(const uint8_t* data, int64_t supers, const Activation* x, int64_t stride, __m512* acc) {
  using S = Super<kBits>;
  for (int t = 0; t < kTokens; ++t) acc[t] = _mm512_setzero_ps();
  for (int64_t s = 0; s < supers; ++s) {
    const uint8_t* header = data;
    const __m512 d = half_floats(header);
    data += S::kHeader;
    for (int g = 0; g < kSuperGroups; ++g, data += S::kGroupBytes, ++x) {
      for (int ahead = 0; ahead < S::kGroupBytes; ahead += 64)
        _mm_prefetch(reinterpret_cast<const char*>(data + kPrefetch + ahead), _MM_HINT_T0);
      Sums<kBits> sums[kTokens];
      for (int t = 0; t < kTokens; ++t) sums[t].start(x[t * stride]);
      add_two_pieces<kBits, kTokens, 0>(data, x, stride, sums);
      add_two_pieces<kBits, kTokens, 1>(data, x, stride, sums);
      add_two_pieces<kBits, kTokens, 2>(data, x, stride, sums);
      add_two_pieces<kBits, kTokens, 3>(data, x, stride, sums);
      const Scales<kBits> scales(header, data);
      for (int t = 0; t < kTokens; ++t) acc[t] = sums[t].finish(scales, d, x[t * stride], acc[t]);
    }
  }
}

// A tile unpacked for many tokens. Of each group: 512 bytes of weights, one a byte, and its two rows of floats; after the
// groups of each superblock, d of each row.
constexpr int kPanelGroup = 512 + 2 * 64, kPanelSuper = kSuperGroups * kPanelGroup + 64;
static_assert(kPanelSuper <= matmul_scratch(kSuperGroups) - matmul_scratch(0), "the panel fits the scratch");

template <int kBits, int c>
static inline void unpack_pieces(const uint8_t* group, uint8_t* to) {
  const TwoPieces w = two_pieces<kBits, c>(group);
  _mm512_store_si512(to + 128 * c, w.first);
  _mm512_store_si512(to + 128 * c + 64, w.second);
}

template <int kBits>
static void unpack(const uint8_t* data, int64_t supers, uint8_t* to) {
  using S = Super<kBits>;
  for (int64_t s = 0; s < supers; ++s) {
    const uint8_t* header = data;
    data += S::kHeader;
    for (int g = 0; g < kSuperGroups; ++g, data += S::kGroupBytes, to += kPanelGroup) {
      unpack_pieces<kBits, 0>(data, to);
      unpack_pieces<kBits, 1>(data, to);
      unpack_pieces<kBits, 2>(data, to);
      unpack_pieces<kBits, 3>(data, to);
      const Scales<kBits> scales(header, data);
      Lanes{scales.scale}.store(reinterpret_cast<float*>(to + 512));
      Lanes{scales.other}.store(reinterpret_cast<float*>(to + 576));
    }
    Lanes{half_floats(header)}.store(reinterpret_cast<float*>(to));
    to += 64;
  }
}

template <int kBits, int kTokens>
static void panel_tile(const uint8_t* panel, int64_t supers, const Activation* x, int64_t stride, __m512* acc) {
  for (int t = 0; t < kTokens; ++t) acc[t] = _mm512_setzero_ps();
  for (int64_t s = 0; s < supers; ++s, panel += 64) {
    const __m512 d = Lanes::load(reinterpret_cast<const float*>(panel + kSuperGroups * kPanelGroup)).v;
    for (int g = 0; g < kSuperGroups; ++g, panel += kPanelGroup, ++x) {
      Sums<kBits> sums[kTokens];
      for (int t = 0; t < kTokens; ++t) sums[t].start(x[t * stride]);
      for (int c = 0; c < 8; ++c) {
        const __m512i w = _mm512_load_si512(panel + 64 * c);
        for (int t = 0; t < kTokens; ++t) {
          __m512i& sum = sums[t].halves[kBits == 6 ? c / 4 : 0];
          sum = _mm512_dpbusd_epi32(sum, w, four_inputs(x[t * stride].q + 4 * c));
        }
      }
      Scales<kBits> scales;
      scales.scale = Lanes::load(reinterpret_cast<const float*>(panel + 512)).v;
      scales.other = Lanes::load(reinterpret_cast<const float*>(panel + 576)).v;
      for (int t = 0; t < kTokens; ++t) acc[t] = sums[t].finish(scales, d, x[t * stride], acc[t]);
    }
  }
}

// 8 totals and up to 16 sums, and what is left of 32 registers for weights, inputs and scales.
constexpr int kPanelTokens = 8;
constexpr int64_t kFewTokens = 8;  // up to here a tile is read packed

template <int kBits>
void matmul_super(const Packed& w, int64_t tile_begin, int64_t tile_end, const Activation* x, int64_t tokens, float* out,
                  void* scratch) {
  const int64_t supers = w.groups / kSuperGroups;
  auto* panel = static_cast<uint8_t*>(scratch);
  for (int64_t tile = tile_begin; tile < tile_end; ++tile) {
    const uint8_t* data = w.data + tile * supers * Super<kBits>::kBytes;
    const int64_t rows_left = w.n - tile * kTile, rows = rows_left < kTile ? rows_left : kTile;
    const bool few = tokens <= kFewTokens;
    if (!few) unpack<kBits>(data, supers, panel);
    __m512 acc[kPanelTokens];
    for (int64_t t = 0; t < tokens;) {
      const Activation* xt = x + t * w.groups;
      const int64_t left = tokens - t;
      int64_t n = 1;
      if (few) {
        if (left >= 4) packed_tile<kBits, 4>(data, supers, xt, w.groups, acc), n = 4;
        else if (left >= 2) packed_tile<kBits, 2>(data, supers, xt, w.groups, acc), n = 2;
        else packed_tile<kBits, 1>(data, supers, xt, w.groups, acc);
      } else {
        if (left >= kPanelTokens) panel_tile<kBits, kPanelTokens>(panel, supers, xt, w.groups, acc), n = kPanelTokens;
        else if (left >= 4) panel_tile<kBits, 4>(panel, supers, xt, w.groups, acc), n = 4;
        else panel_tile<kBits, 1>(panel, supers, xt, w.groups, acc);
      }
      for (int64_t i = 0; i < n; ++i) Lanes{acc[i]}.store(out + (t + i) * w.n + tile * kTile, rows);
      t += n;
    }
  }
}

template void matmul_super<4>(const Packed&, int64_t, int64_t, const Activation*, int64_t, float*, void*);
template void matmul_super<5>(const Packed&, int64_t, int64_t, const Activation*, int64_t, float*, void*);
template void matmul_super<6>(const Packed&, int64_t, int64_t, const Activation*, int64_t, float*, void*);

}  // namespace slm::avx512
