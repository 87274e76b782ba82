// Causal attention over cached blocks of 32 keys, online softmax. Contract: kernels.h; orders of sums: docs/design.md.
//
// The blocks lie at absolute multiples of 32, whichever queries are computed together, so a query's result depends on
// its own position alone. Keys out of a query's sight get the score -inf, whose exp is exactly 0; their values are not
// touched, since a slot never written may hold NaN.
#pragma once

#include <cmath>
#include <limits>

#include "exp.h"
#include "kernels.h"

namespace slm {

constexpr int kMostQueries = 64;  // (row, head) pairs of one call

// What one query has seen so far: the largest score, the sum of exp(score - largest), and in out[] the same-weighted
// sum of values.
template <class L>
struct Query {
  const float* q;
  float* out;
  int64_t position;
  float largest, total, rescale;
  int begin, end;  // keys of the current block in its sight
  float p[kBlock];
};

template <class L>
inline L load_cell(const float* p, int64_t n) { return L::load(p, n); }
template <class L>
inline L load_cell(const uint16_t* p, int64_t n) { return L::load_half(p, n); }

template <class L, class T>
inline void widen(const T* from, int64_t count, float* to) {
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) load_cell<L>(from + i, 16).store(to + i);
  if (i < count) load_cell<L>(from + i, count - i).store(to + i, count - i);
}

// p[j] = exp(score - largest) of the block's keys, and the running largest and total.
template <class L>
inline void soften(Query<L>& query, L s0, L s1, float scale) {
  const L hidden = L::broadcast(-std::numeric_limits<float>::infinity());
  s0 = within(query.begin, query.end, s0 * L::broadcast(scale), hidden);
  s1 = within(query.begin - 16, query.end - 16, s1 * L::broadcast(scale), hidden);
  const float block_largest = largest(max(s0, s1));
  const float now = query.largest > block_largest ? query.largest : block_largest;
  query.rescale = 1.0f;
  if (now != query.largest) {
    float alpha[16];
    exp_lanes(L::broadcast(query.largest - now)).store(alpha);
    query.rescale = alpha[0];
  }
  const L p0 = exp_lanes(s0 - L::broadcast(now)), p1 = exp_lanes(s1 - L::broadcast(now));
  p0.store(query.p);
  p1.store(query.p + 16);
  query.total = std::fma(query.total, query.rescale, sum(p0 + p1));
  query.largest = now;
}

// Brings 32 cells into the level 2 cache. Blocks lie far apart in memory, so the next one is fetched while this one is
// computed: 14 GB/s on one core against 9 without, and 10 into level 1 (2,048 keys, Zen 4, 2026-11).
// Static, as in half.h: this one has no Lanes in its name that would tell the sets' copies apart.
template <class T>
static inline void prefetch([[maybe_unused]] const T* cells) {
#if defined(__GNUC__)
  for (size_t i = 0; i < kBlock; i += 64 / sizeof(T)) __builtin_prefetch(cells + i, 0, 2);
#endif
}

// A block's keys and values, and those of the block after it (of this one again, if it is the last).
template <class T>
struct Block {
  const T *keys, *values, *next_keys, *next_values;
};

// Scores of n queries against a block of keys, [head_dim][32], then `soften`.
template <class L, class T, int n>
inline void score(Query<L>* queries, const Block<T>& block, int64_t head_dim, float scale) {
  L s[n][2];
  for (int i = 0; i < n; ++i) s[i][0] = s[i][1] = L::zero();
  for (int64_t d = 0; d < head_dim; ++d) {
    const T* keys = block.keys + d * kBlock;
    const L k0 = load_cell<L>(keys, 16), k1 = load_cell<L>(keys + 16, 16);
    if constexpr (n == 1) {
      prefetch(block.next_keys + d * kBlock);
      prefetch(block.next_values + d * kBlock);
    }
    for (int i = 0; i < n; ++i) {
      const L q = L::broadcast(queries[i].q[d]);
      s[i][0] = fma(q, k0, s[i][0]);
      s[i][1] = fma(q, k1, s[i][1]);
    }
  }
  for (int i = 0; i < n; ++i) soften(queries[i], s[i][0], s[i][1], scale);
}

// Features [d, d + 16 * kWide) of out, or the last `left` ones, for n queries that see the same keys.
template <class L, class T, int n, int kWide, bool kWhole>
inline void mix_features(Query<L>* queries, const T* values, int64_t head_dim, int64_t d, int64_t left) {
  const int64_t width = kWhole ? 16 : left;
  L acc[n][kWide];
  for (int i = 0; i < n; ++i)
    for (int w = 0; w < kWide; ++w)
      acc[i][w] = L::load(queries[i].out + d + 16 * w, width) * L::broadcast(queries[i].rescale);
  for (int j = queries[0].begin; j < queries[0].end; ++j) {
    L v[kWide];
    for (int w = 0; w < kWide; ++w) v[w] = load_cell<L>(values + j * head_dim + d + 16 * w, width);
    for (int i = 0; i < n; ++i) {
      const L p = L::broadcast(queries[i].p[j]);
      for (int w = 0; w < kWide; ++w) acc[i][w] = fma(p, v[w], acc[i][w]);
    }
  }
  for (int i = 0; i < n; ++i)
    for (int w = 0; w < kWide; ++w) acc[i][w].store(queries[i].out + d + 16 * w, width);
}

template <class L, class T, int n>
inline void mix(Query<L>* queries, const T* values, int64_t head_dim) {
  int64_t d = 0;
  if constexpr (n == 1)
    for (; d + 48 <= head_dim; d += 48) mix_features<L, T, n, 3, true>(queries, values, head_dim, d, 16);
  for (; d + 32 <= head_dim; d += 32) mix_features<L, T, n, 2, true>(queries, values, head_dim, d, 16);
  for (; d + 16 <= head_dim; d += 16) mix_features<L, T, n, 1, true>(queries, values, head_dim, d, 16);
  if (d < head_dim) mix_features<L, T, n, 1, false>(queries, values, head_dim, d, head_dim - d);
}

template <class L, class T, int n>
inline void attend_block(Query<L>* queries, const Block<T>& block, int64_t head_dim, float scale) {
  score<L, T, n>(queries, block, head_dim, scale);
  mix<L, T, n>(queries, block.values, head_dim);
}

// All queries against one block: as many at once as the registers hold where they see all of it, else one by one.
template <class L, class T>
inline void attend_all(Query<L>* queries, int count, const Block<T>& block, int64_t head_dim, float scale) {
  const auto sees_all = [&](int i) { return i < count && queries[i].begin == 0 && queries[i].end == kBlock; };
  for (int i = 0; i < count;) {
    // Positions never fall, so where the first and the last of a run see all of a block, those between do too.
    if (L::kQueries > 1 && sees_all(i) && sees_all(i + L::kQueries - 1)) {
      attend_block<L, T, L::kQueries>(queries + i, block, head_dim, scale);
      i += L::kQueries;
    } else {
      if (queries[i].begin < queries[i].end) attend_block<L, T, 1>(queries + i, block, head_dim, scale);
      ++i;
    }
  }
}

template <class L, class T>
void attend(const Attention& a, const Queries& s, float* scratch) {
  const int64_t head_dim = a.cache.head_dim;
  Query<L> queries[kMostQueries];
  int count = 0;
  for (int64_t row = s.row_begin; row < s.row_end; ++row)
    for (int64_t h = s.head_begin; h < s.head_end; ++h) {
      Query<L>& query = queries[count++];
      query.q = a.q + row * a.q_stride + h * head_dim;
      query.out = a.out + (row * a.heads + h) * head_dim;
      query.position = s.position + row - s.row_begin;
      query.largest = -std::numeric_limits<float>::infinity();
      query.total = 0.0f;
      for (int64_t d = 0; d < head_dim; ++d) query.out[d] = 0.0f;
    }
  const auto first_seen = [&](int64_t i) { return a.window && i >= a.window ? i - a.window + 1 : 0; };
  const auto in_block = [](int64_t j) { return static_cast<int>(j < 0 ? 0 : j > kBlock ? kBlock : j); };
  const auto keys_of = [&](int64_t b) {
    return static_cast<const T*>(a.cache.cells) + s.blocks[b] * a.cache.block_stride + s.kv_head * a.cache.head_stride;
  };
  const int64_t last = queries[count - 1].position / kBlock;
  for (int64_t b = first_seen(s.position) / kBlock; b <= last; ++b) {
    for (int i = 0; i < count; ++i) {
      queries[i].begin = in_block(first_seen(queries[i].position) - b * kBlock);
      queries[i].end = in_block(queries[i].position + 1 - b * kBlock);
    }
    const T *keys = keys_of(b), *next_keys = keys_of(b < last ? b + 1 : b);
    const Block<T> block = {keys, keys + a.cache.value_offset, next_keys, next_keys + a.cache.value_offset};
    if (sizeof(T) < 4 && count > 2 * L::kQueries) {  // enough queries to pay for widening the block once for all
      float *wide_keys = scratch, *wide_values = scratch + kBlock * head_dim;
      widen<L>(block.keys, kBlock * head_dim, wide_keys);
      widen<L>(block.values, kBlock * head_dim, wide_values);
      attend_all<L, float>(queries, count, {wide_keys, wide_values, wide_keys, wide_values}, head_dim, a.scale);
    } else {
      attend_all<L, T>(queries, count, block, head_dim, a.scale);
    }
  }
  for (int i = 0; i < count; ++i)
    for (int64_t d = 0; d < head_dim; ++d) queries[i].out[d] /= queries[i].total;
}

template <class L>
void attention(const Attention& a, const Queries& s, void* scratch) {
  if (a.cache.number == Number::f32) return attend<L, float>(a, s, static_cast<float*>(scratch));
  attend<L, uint16_t>(a, s, static_cast<float*>(scratch));
}

}  // namespace slm
