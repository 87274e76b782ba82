// Contract: kernels.h. Layout: formats.h and super.h.
//
// As matmul_q4: the weights as stored are the unsigned side of vpmaddubsw, and 16-bit additions collect the products.
// Those of 6 bits go over 16 bits on the way, which does no harm: additions wrap, and what a lane holds in the end, less
// what was added to the weights (its start), fits: 5 bits less 16, all inputs: 16 * 16 * 127 = 32512; 6 bits less 32, half
// the inputs, as these have a scale of their own: 32 * 8 * 127 = 32512. The 8-bit scales, doubled to pairs of 16 bits,
// are the other side of the vpmaddwd that makes the 32-bit sums.
#include "pieces.h"

namespace slm::avx2 {

constexpr int kSuperGroups = kSuper / kGroup;

// weights, with bits [from, from + width) of each byte of `bits` as their bits 4 and up.
template <int width, int from>
static inline __m256i with_bits(__m256i weights, __m256i bits) {
  if constexpr (from < 4) bits = _mm256_slli_epi16(bits, 4 - from);
  else bits = _mm256_srli_epi16(bits, from - 4);
  return _mm256_or_si256(weights, _mm256_and_si256(bits, _mm256_set1_epi8(width == 1 ? 0x10 : 0x30)));
}

struct TwoPieces {
  __m256i first, second;
};

// Pieces 2 c and 2 c + 1 of rows 8 h .. 8 h + 7 of a group.
template <int kBits, int c>
static inline TwoPieces two_pieces(const uint8_t* group, int h) {
  const uint8_t* bits = group + Super<kBits>::kScales;
  const __m256i both = load(bits + Super<kBits>::kHigh + 64 * c + 32 * h);
  TwoPieces w = {low(both), high(both)};
  if constexpr (kBits == 5) {
    const __m256i fifth = load(bits + 32 * h);
    w.first = with_bits<1, 2 * c>(w.first, fifth);
    w.second = with_bits<1, 2 * c + 1>(w.second, fifth);
  } else if constexpr (kBits == 6) {
    const __m256i top = load(bits + 64 * h + 32 * (c / 2));
    w.first = with_bits<2, 4 * (c % 2)>(w.first, top);
    w.second = with_bits<2, 4 * (c % 2) + 2>(w.second, top);
  }
  return w;
}

// What a superblock says of rows 8 h .. 8 h + 7.
template <int kBits>
struct Rows {
  __m256 d, minus_dmin, sixteen_d;

  Rows(const uint8_t* header, int h) : d(half_scales(header + 16 * h)) {
    if constexpr (kBits == 6) return;
    minus_dmin = _mm256_xor_ps(half_scales(header + 32 + 16 * h), _mm256_set1_ps(-0.0f));
    sixteen_d = _mm256_mul_ps(d, _mm256_set1_ps(16.0f));
  }
};

static inline __m256 bytes_to_floats(const uint8_t* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}

// What each unit of a token's sum adds. The fused product is exact, so this rounds once, as the definition does.
template <int kBits>
static inline __m256 least_of(const Rows<kBits>& rows, const uint8_t* group, int h) {
  const __m256 min = bytes_to_floats(group + 16 + 8 * h);
  if constexpr (kBits == 4) return _mm256_mul_ps(min, rows.minus_dmin);
  return _mm256_fmadd_ps(min, rows.minus_dmin, _mm256_mul_ps(bytes_to_floats(group + 8 * h), rows.sixteen_d));
}

// The scales of eight rows as pairs of equal 16-bit numbers; `half`: of which inputs, in q6_k.
template <int kBits>
static inline __m256i scale_pairs(const uint8_t* group, int half, int h) {
  const __m128i* p = reinterpret_cast<const __m128i*>(group + 16 * half + 8 * h);
  const __m256i wide = kBits == 6 ? _mm256_cvtepi8_epi32(_mm_loadl_epi64(p)) : _mm256_cvtepu8_epi32(_mm_loadl_epi64(p));
  return _mm256_blend_epi16(wide, _mm256_slli_epi32(wide, 16), 0xaa);
}

// What a token's 16-bit sums start from, for the inputs that share a scale.
template <int kBits>
static inline __m256i start_of(const Activation& x, int half) {
  if constexpr (kBits == 4) return _mm256_setzero_si256();
  if constexpr (kBits == 5) return _mm256_slli_epi16(pair(x.start8), 1);
  return pair(x.start32[half]);
}

static inline __m256 fma_float(__m256i sums, __m256 d, __m256 scale, __m256 acc) {
  return _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), _mm256_mul_ps(d, scale), acc);
}

// How many ranges of inputs of a group have scales of their own.
template <int kBits>
constexpr int kParts = kBits == 6 ? 2 : 1;

template <int kBits, int kTokens, int c>
static inline void add_two_pieces(const uint8_t* group, const Activation* x, int64_t stride,
                                  __m256i (*sums)[2]) {
  for (int h = 0; h < 2; ++h) {
    const TwoPieces w = two_pieces<kBits, c>(group, h);
    for (int t = 0; t < kTokens; ++t) {
      const int8_t* q = x[t * stride].q + 8 * c;
      const __m256i products = _mm256_add_epi16(_mm256_maddubs_epi16(w.first, four_inputs(q)),
                                                _mm256_maddubs_epi16(w.second, four_inputs(q + 4)));
      sums[t][h] = add_16(sums[t][h], products);
    }
  }
}

// One tile for kTokens tokens straight from the packed bytes: for few tokens, where reading the weights is what counts.
template <int kBits, int kTokens>
static void packed_tile(const uint8_t* data, int64_t supers, const Activation* x, int64_t stride, float (*out)[kTile]) {
  using S = Super<kBits>;
  __m256 acc[kTokens][2];
  for (auto& rows : acc) rows[0] = rows[1] = _mm256_setzero_ps();
  for (int64_t s = 0; s < supers; ++s) {
    const Rows<kBits> rows[2] = {{data, 0}, {data, 1}};
    data += S::kHeader;
    for (int g = 0; g < kSuperGroups; ++g, data += S::kGroupBytes, ++x) {
      prefetch<S::kGroupBytes>(data);
      __m256i sums[kTokens][2], total[kTokens][2];
      const auto start = [&](int half) {
        for (int t = 0; t < kTokens; ++t) sums[t][0] = sums[t][1] = start_of<kBits>(x[t * stride], half);
      };
      const auto finish = [&](int half) {
        for (int h = 0; h < 2; ++h) {
          const __m256i scale = scale_pairs<kBits>(data, half, h);
          for (int t = 0; t < kTokens; ++t) {
            const __m256i scaled = _mm256_madd_epi16(sums[t][h], scale);
            total[t][h] = half == 0 ? scaled : add_32(total[t][h], scaled);
          }
        }
      };
      start(0);
      add_two_pieces<kBits, kTokens, 0>(data, x, stride, sums);
      add_two_pieces<kBits, kTokens, 1>(data, x, stride, sums);
      if constexpr (kParts<kBits> == 2) finish(0), start(1);
      add_two_pieces<kBits, kTokens, 2>(data, x, stride, sums);
      add_two_pieces<kBits, kTokens, 3>(data, x, stride, sums);
      finish(kParts<kBits> - 1);
      for (int h = 0; h < 2; ++h) {
        for (int t = 0; t < kTokens; ++t) acc[t][h] = fma_float(total[t][h], rows[h].d, _mm256_set1_ps(x[t * stride].scale), acc[t][h]);
        if constexpr (kBits != 6) {
          const __m256 least = least_of(rows[h], data, h);
          for (int t = 0; t < kTokens; ++t)
            acc[t][h] = _mm256_fmadd_ps(least, _mm256_set1_ps(x[t * stride].sum), acc[t][h]);
        }
      }
    }
  }
  for (int t = 0; t < kTokens; ++t)
    for (int h = 0; h < 2; ++h) _mm256_storeu_ps(out[t] + 8 * h, acc[t][h]);
}

// A tile unpacked for many tokens. Of each group: 512 bytes of weights, one a byte, then of each row the pairs of scales
// (of q6_k two), then `least` (of q4_k and q5_k); after the groups of each superblock, d of each row.
constexpr int kPanelGroup = 512 + 2 * 64, kPanelSuper = kSuperGroups * kPanelGroup + 64;
static_assert(kPanelSuper <= matmul_scratch(kSuperGroups) - matmul_scratch(0), "the panel fits the scratch");

template <int kBits, int c>
static inline void unpack_pieces(const uint8_t* group, uint8_t* to) {
  for (int h = 0; h < 2; ++h) {
    const TwoPieces w = two_pieces<kBits, c>(group, h);
    _mm256_store_si256(reinterpret_cast<__m256i*>(to + 128 * c + 32 * h), w.first);
    _mm256_store_si256(reinterpret_cast<__m256i*>(to + 128 * c + 64 + 32 * h), w.second);
  }
}

template <int kBits>
static void unpack(const uint8_t* data, int64_t supers, uint8_t* to) {
  using S = Super<kBits>;
  for (int64_t s = 0; s < supers; ++s) {
    const Rows<kBits> rows[2] = {{data, 0}, {data, 1}};
    data += S::kHeader;
    for (int g = 0; g < kSuperGroups; ++g, data += S::kGroupBytes, to += kPanelGroup) {
      prefetch<S::kGroupBytes>(data);
      unpack_pieces<kBits, 0>(data, to);
      unpack_pieces<kBits, 1>(data, to);
      unpack_pieces<kBits, 2>(data, to);
      unpack_pieces<kBits, 3>(data, to);
      for (int h = 0; h < 2; ++h) {
        for (int half = 0; half < kParts<kBits>; ++half)
          _mm256_store_si256(reinterpret_cast<__m256i*>(to + 512 + 64 * half + 32 * h),
                             scale_pairs<kBits>(data, half, h));
        if constexpr (kBits != 6)
          _mm256_store_ps(reinterpret_cast<float*>(to + 576 + 32 * h), least_of(rows[h], data, h));
      }
    }
    for (int h = 0; h < 2; ++h) _mm256_store_ps(reinterpret_cast<float*>(to) + 8 * h, rows[h].d);
    to += 64;
  }
}

static inline __m256i load_aligned(const void* p) { return _mm256_load_si256(static_cast<const __m256i*>(p)); }

template <int kTokens, int piece, bool kFirst>
static inline void add_panel_piece(const uint8_t* panel, const Activation* x, int64_t stride, __m256i (*sums)[2]) {
  const __m256i w0 = load_aligned(panel + 64 * piece), w1 = load_aligned(panel + 64 * piece + 32);
  for (int t = 0; t < kTokens; ++t) {
    const __m256i q = four_inputs(x[t * stride].q + 4 * piece);
    const __m256i p0 = _mm256_maddubs_epi16(w0, q), p1 = _mm256_maddubs_epi16(w1, q);
    sums[t][0] = kFirst ? p0 : add_16(sums[t][0], p0);
    sums[t][1] = kFirst ? p1 : add_16(sums[t][1], p1);
  }
}

// The 16-bit sums of four pieces, `half` or both halves of a group.
template <int kBits, int kTokens, int half>
static inline void add_panel_half(const uint8_t* panel, const Activation* x, int64_t stride, __m256i (*sums)[2]) {
  add_panel_piece<kTokens, 4 * half, kBits == 4 && half == 0>(panel, x, stride, sums);
  add_panel_piece<kTokens, 4 * half + 1, false>(panel, x, stride, sums);
  add_panel_piece<kTokens, 4 * half + 2, false>(panel, x, stride, sums);
  add_panel_piece<kTokens, 4 * half + 3, false>(panel, x, stride, sums);
}

template <int kBits, int kTokens>
static inline void start_sums(const Activation* x, int64_t stride, int half, __m256i (*sums)[2]) {
  for (int t = 0; t < kTokens; ++t) sums[t][0] = sums[t][1] = start_of<kBits>(x[t * stride], half);
}

// totals: room for the first half's sums of q6_k.
template <int kBits, int kTokens>
static void panel_tile(const uint8_t* panel, int64_t supers, const Activation* x, int64_t stride, float (*out)[kTile],
                       int32_t (*totals)[kTile]) {
  for (int t = 0; t < kTokens; ++t)
    for (int h = 0; h < 2; ++h) _mm256_store_ps(out[t] + 8 * h, _mm256_setzero_ps());
  for (int64_t s = 0; s < supers; ++s, panel += 64) {
    const float* d = reinterpret_cast<const float*>(panel + kSuperGroups * kPanelGroup);
    for (int g = 0; g < kSuperGroups; ++g, panel += kPanelGroup, ++x) {
      const uint8_t* scales = panel + 512;
      __m256i sums[kTokens][2];
      start_sums<kBits, kTokens>(x, stride, 0, sums);
      add_panel_half<kBits, kTokens, 0>(panel, x, stride, sums);
      if constexpr (kBits == 6) {
        for (int t = 0; t < kTokens; ++t)
          for (int h = 0; h < 2; ++h)
            _mm256_store_si256(reinterpret_cast<__m256i*>(totals[t] + 8 * h),
                               _mm256_madd_epi16(sums[t][h], load_aligned(scales + 32 * h)));
        scales += 64;
        start_sums<kBits, kTokens>(x, stride, 1, sums);
      }
      add_panel_half<kBits, kTokens, 1>(panel, x, stride, sums);
      for (int t = 0; t < kTokens; ++t) {
        const __m256 scale = _mm256_set1_ps(x[t * stride].scale), sum = _mm256_set1_ps(x[t * stride].sum);
        for (int h = 0; h < 2; ++h) {
          __m256i exact = _mm256_madd_epi16(sums[t][h], load_aligned(scales + 32 * h));
          if constexpr (kBits == 6) exact = _mm256_add_epi32(exact, load_aligned(totals[t] + 8 * h));
          __m256 acc = fma_float(exact, _mm256_load_ps(d + 8 * h), scale, _mm256_load_ps(out[t] + 8 * h));
          if constexpr (kBits != 6)
            acc = _mm256_fmadd_ps(_mm256_load_ps(reinterpret_cast<const float*>(scales + 64 + 32 * h)), sum, acc);
          _mm256_store_ps(out[t] + 8 * h, acc);
        }
      }
    }
  }
}

constexpr int kPanelTokens = 6;    // as in matmul_q4
// Up to here a tile is read packed; fewer where more bits have to be put together for each four tokens anew.
template <int kBits>
constexpr int64_t kFewTokens = kBits == 4 ? 16 : 8;

template <int kBits>
void matmul_super(const Packed& w, int64_t tile_begin, int64_t tile_end, const Activation* x, int64_t tokens, float* out,
                  void* scratch) {
  const int64_t supers = w.groups / kSuperGroups;
  auto* panel = static_cast<uint8_t*>(scratch);
  auto* rows = reinterpret_cast<float(*)[kTile]>(panel + supers * kPanelSuper);
  auto* totals = reinterpret_cast<int32_t(*)[kTile]>(rows + 8);
  for (int64_t tile = tile_begin; tile < tile_end; ++tile) {
    const uint8_t* data = w.data + tile * supers * Super<kBits>::kBytes;
    const bool few = tokens <= kFewTokens<kBits>;
    if (!few) unpack<kBits>(data, supers, panel);
    for (int64_t t = 0; t < tokens;) {
      const Activation* xt = x + t * w.groups;
      const auto done = [&](int64_t n) {
        write_rows(rows, n, w, tile, out + t * w.n);
        t += n;
      };
      const int64_t left = tokens - t;
      if (few) {
        if (left >= 4) packed_tile<kBits, 4>(data, supers, xt, w.groups, rows), done(4);
        else if (left >= 2) packed_tile<kBits, 2>(data, supers, xt, w.groups, rows), done(2);
        else packed_tile<kBits, 1>(data, supers, xt, w.groups, rows), done(1);
      } else {
        if (left >= kPanelTokens)
          panel_tile<kBits, kPanelTokens>(panel, supers, xt, w.groups, rows, totals), done(kPanelTokens);
        else if (left >= 2) panel_tile<kBits, 2>(panel, supers, xt, w.groups, rows, totals), done(2);
        else panel_tile<kBits, 1>(panel, supers, xt, w.groups, rows, totals), done(1);
      }
    }
  }
}

template void matmul_super<4>(const Packed&, int64_t, int64_t, const Activation*, int64_t, float*, void*);
template void matmul_super<5>(const Packed&, int64_t, int64_t, const Activation*, int64_t, float*, void*);
template void matmul_super<6>(const Packed&, int64_t, int64_t, const Activation*, int64_t, float*, void*);

}  // namespace slm::avx2
