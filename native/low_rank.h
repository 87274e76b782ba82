// What an adapter adds to a product: out[t, i] += sum_j b[i, j] low[t, j], the sum by fma from 0 in order of j. A lane is
// an output: ranks are small, and sums across lanes would take longer than their products. Contract: kernels.h.
#pragma once

#include "matmul_dense.h"

namespace slm {

// A tile of rank 16 is 512 bytes of 16-bit numbers: over before the processor has seen that it is a stream.
static inline void prefetch_ahead([[maybe_unused]] const void* data, [[maybe_unused]] int64_t bytes) {
#if defined(__GNUC__)
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(static_cast<const char*>(data) + 4 * 1024 + i);
#endif
}

template <class L, Number kNumber, int kTiles, int kTokens>
inline void low_rank_tile(const LowRank& w, int64_t tile, const float* low, float* out) {
  constexpr int64_t kBytes = kNumber == Number::f32 ? 4 : 2;
  const int64_t tile_bytes = w.rank * kTile * kBytes;
  prefetch_ahead(static_cast<const char*>(w.b) + tile * tile_bytes, kTiles * tile_bytes);
  L acc[kTiles][kTokens];
  for (int i = 0; i < kTiles; ++i)
    for (int t = 0; t < kTokens; ++t) acc[i][t] = L::zero();
  for (int64_t j = 0; j < w.rank; ++j) {
    L weights[kTiles];
    for (int i = 0; i < kTiles; ++i) weights[i] = load_weights<L, kNumber>(w.b, ((tile + i) * w.rank + j) * kTile, kTile);
    for (int t = 0; t < kTokens; ++t) {
      const L by = L::broadcast(low[t * w.rank + j]);
      for (int i = 0; i < kTiles; ++i) acc[i][t] = fma(weights[i], by, acc[i][t]);
    }
  }
  for (int i = 0; i < kTiles; ++i) {
    const int64_t row = (tile + i) * kTile, n = w.n - row < kTile ? w.n - row : kTile;
    for (int t = 0; t < kTokens; ++t) {
      float* to = out + t * w.n + row;
      (L::load(to, n) + acc[i][t]).store(to, n);
    }
  }
}

template <class L, Number kNumber>
void low_rank_range(const LowRank& w, int64_t tile_begin, int64_t tile_end, const float* low, int64_t tokens, float* out) {
  int64_t tile = tile_begin;
  if (tokens == 1) {  // as many sums at once as for several tokens
    constexpr int kAlone = L::kTokens;
    for (; tile + kAlone <= tile_end; tile += kAlone) low_rank_tile<L, kNumber, kAlone, 1>(w, tile, low, out);
  }
  for (; tile < tile_end; ++tile) {
    int64_t t = 0;
    for (; t + L::kTokens <= tokens; t += L::kTokens)
      low_rank_tile<L, kNumber, 1, L::kTokens>(w, tile, low + t * w.rank, out + t * w.n);
    for (; t < tokens; ++t) low_rank_tile<L, kNumber, 1, 1>(w, tile, low + t * w.rank, out + t * w.n);
  }
}

template <class L>
void add_low_rank(const LowRank& w, int64_t tile_begin, int64_t tile_end, const float* low, int64_t tokens, float* out) {
  switch (w.number) {
    case Number::f32: return low_rank_range<L, Number::f32>(w, tile_begin, tile_end, low, tokens, out);
    case Number::f16: return low_rank_range<L, Number::f16>(w, tile_begin, tile_end, low, tokens, out);
    case Number::bf16: return low_rank_range<L, Number::bf16>(w, tile_begin, tile_end, low, tokens, out);
  }
}

}  // namespace slm
