// What attention does with one block of 32 keys: scores, their softmax, the weighted sum of values. See attention.h.
//
// Tiles hold several queries, so that a key or value that was loaded serves all of them. Which queries share a tile
// never shows: each one's sums run over features, or over the keys in its sight, in order.
#pragma once

#include <cmath>
#include <limits>
#include <type_traits>

#include "exp.h"
#include "kernels.h"

namespace slm {

// What one query has seen so far: the largest score, the sum of exp(score - largest), and in out[] the same-weighted
// sum of values.
template <class L>
struct Query {
  const float* q;
  float* out;
  int64_t position;
  int64_t near, far;    // it sees the cache blocks from `near` on, and before that only those of phase `far`
  float largest, total;
  int begin, end;       // keys of the current block in its sight
  float p[2 * kBlock];  // scores, then weights, of a block's keys; of two blocks where one query goes alone
};

// One block of a head. A key counts as key_scale times its numbers, a value likewise; null: 1.
template <class T>
struct Block {
  const T *keys, *values;  // [head_dim][32], [32][head_dim]
  const float *key_scale, *value_scale;
  const T *next_keys, *next_values;  // of a block that comes later
};

template <class L>
inline L load_cell(const float* p, int64_t n) { return L::load(p, n); }
template <class L>
inline L load_cell(const uint16_t* p, int64_t n) { return L::load_half(p, n); }
template <class L>
inline L load_cell(const int8_t* p, int64_t n) { return L::load_int8(p, n); }

// Brings the cells [i, i + count) into the level 2 cache; less than a line only where they start one.
// Static, as in half.h: this one has no Lanes in its name that would tell the sets' copies apart.
template <class T>
static inline void prefetch([[maybe_unused]] const T* cells, [[maybe_unused]] int64_t i, int64_t count) {
  constexpr int64_t kLine = 64 / sizeof(T);
  if (count < kLine && i % kLine) return;
#if defined(__GNUC__)
  for (int64_t j = 0; j < count; j += kLine) __builtin_prefetch(cells + i + j, 0, 2);
#endif
}

// Sums of q k over head_dim for n queries and the keys [first, first + 16 * wide) of each of the blocks.
template <class L, class T, int n, int blocks, int wide>
inline void score(Query<L>* queries, const Block<T>* block, int64_t first, int64_t head_dim) {
  L s[n][blocks * wide];
  for (int i = 0; i < n; ++i)
    for (L& sum : s[i]) sum = L::zero();
  for (int64_t d = 0; d < head_dim; ++d) {
    const auto key = [&](int j) {
      return load_cell<L>(block[j / wide].keys + d * kBlock + first + j % wide * 16, 16);
    };
    for (int b = 0; b < blocks; ++b)
      if (first == 0 && block[b].next_keys) prefetch(block[b].next_keys, d * kBlock, kBlock);
    if constexpr (n == 1) {  // no two keys in registers at once: all of those are wanted for the sums
      const L q = L::broadcast(queries[0].q[d]);
      for (int j = 0; j < blocks * wide; ++j) s[0][j] = fma(q, key(j), s[0][j]);
    } else {
      L k[blocks * wide];
      for (int j = 0; j < blocks * wide; ++j) k[j] = key(j);
      for (int i = 0; i < n; ++i) {
        const L q = L::broadcast(queries[i].q[d]);
        for (int j = 0; j < blocks * wide; ++j) s[i][j] = fma(q, k[j], s[i][j]);
      }
    }
  }
  for (int i = 0; i < n; ++i)
    for (int j = 0; j < blocks * wide; ++j) s[i][j].store(queries[i].p + j / wide * kBlock + first + j % wide * 16);
}

// Scores in p become weights exp(score - largest); the running largest and total, and what was summed so far, follow.
template <class L, class T>
inline void soften(Query<L>& query, float* p, const Block<T>& block, float scale, int64_t head_dim) {
  L by[2] = {L::broadcast(scale), L::broadcast(scale)}, s[2];
  for (int w = 0; w < 2; ++w) {
    if (block.key_scale) by[w] = L::load(block.key_scale + 16 * w) * by[w];
    s[w] = L::load(p + 16 * w) * by[w];
    if (query.begin > 0 || query.end < kBlock)
      s[w] = within(query.begin - 16 * w, query.end - 16 * w, s[w],
                    L::broadcast(-std::numeric_limits<float>::infinity()));
  }
  const float block_largest = largest(max(s[0], s[1]));
  if (block_largest > query.largest) {
    float rescale[16];
    exp_lanes(L::broadcast(query.largest - block_largest)).store(rescale);
    query.largest = block_largest;
    query.total *= rescale[0];
    for (int64_t d = 0; d < head_dim; ++d) query.out[d] *= rescale[0];
  }
  const L now = L::broadcast(query.largest);
  L weights[2] = {exp_lanes(s[0] - now), exp_lanes(s[1] - now)};
  query.total += sum(weights[0] + weights[1]);
  for (int w = 0; w < 2; ++w) {
    if (block.value_scale) weights[w] = weights[w] * L::load(block.value_scale + 16 * w);
    weights[w].store(p + 16 * w);
  }
}

// Features [d, d + 16 * wide) of out, or the last `left` ones, over the keys [begin, end).
template <class L, class T, int n, int wide, bool whole>
inline void mix_features(Query<L>* queries, int64_t at, const Block<T>& block, int64_t head_dim, int64_t d,
                         int64_t left, int begin, int end) {
  const int64_t width = whole ? 16 : left;
  L acc[n][wide];
  for (int i = 0; i < n; ++i)
    for (int w = 0; w < wide; ++w) acc[i][w] = L::load(queries[i].out + d + 16 * w, width);
  for (int j = begin; j < end; ++j) {
    const auto value = [&](int w) { return load_cell<L>(block.values + j * head_dim + d + 16 * w, width); };
    if (n == 1 && block.next_values) prefetch(block.next_values, j * head_dim + d, 16 * wide);
    if constexpr (n == 1) {
      const L p = L::broadcast(queries[0].p[at + j]);
      for (int w = 0; w < wide; ++w) acc[0][w] = fma(p, value(w), acc[0][w]);
    } else {
      L v[wide];
      for (int w = 0; w < wide; ++w) v[w] = value(w);
      for (int i = 0; i < n; ++i) {
        const L p = L::broadcast(queries[i].p[at + j]);
        for (int w = 0; w < wide; ++w) acc[i][w] = fma(p, v[w], acc[i][w]);
      }
    }
  }
  for (int i = 0; i < n; ++i)
    for (int w = 0; w < wide; ++w) acc[i][w].store(queries[i].out + d + 16 * w, width);
}

// out += p v over the keys [begin, end), whose weights lie from p[at] on.
template <class L, class T, int n>
inline void mix(Query<L>* queries, int64_t at, const Block<T>& block, int64_t head_dim, int begin, int end) {
  if (begin >= end) return;
  int64_t d = 0;
  const auto slices = [&](auto width) {  // as many features as there are sums to hide an addition's latency
    constexpr int wide = decltype(width)::value;
    for (; d + 16 * wide <= head_dim; d += 16 * wide)
      mix_features<L, T, n, wide, true>(queries, at, block, head_dim, d, 16, begin, end);
  };
  if constexpr (n == 1) {
    if (head_dim % 96 == 0) slices(std::integral_constant<int, 6>());
    slices(std::integral_constant<int, 4>());
    slices(std::integral_constant<int, 2>());
  }
  slices(std::integral_constant<int, n == 1 ? 1 : L::kWide>());
  if constexpr (n > 1 && L::kWide > 1) slices(std::integral_constant<int, 1>());
  if (d < head_dim) mix_features<L, T, n, 1, false>(queries, at, block, head_dim, d, head_dim - d, begin, end);
}

// n queries against one block of which each sees something: the keys that all of them see together, before and after
// that those that only some see.
template <class L, class T, int n>
inline void attend_tile(Query<L>* queries, const Block<T>& block, int64_t head_dim, float scale) {
  constexpr int wide = n == 1 ? 2 : L::kWide;
  for (int first = 0; first < kBlock; first += 16 * wide)
    score<L, T, n, 1, wide>(queries, &block, first, head_dim);
  int begin = 0, end = kBlock;
  for (int i = 0; i < n; ++i) {
    soften(queries[i], queries[i].p, block, scale, head_dim);
    begin = queries[i].begin > begin ? queries[i].begin : begin;
    end = queries[i].end < end ? queries[i].end : end;
  }
  if constexpr (n > 1) {
    if (begin >= end) begin = end = kBlock;
    const auto alone = [&](int i, int from, int to) {
      mix<L, T, 1>(queries + i, 0, block, head_dim, from, to < queries[i].end ? to : queries[i].end);
    };
    for (int i = 0; i < n; ++i) alone(i, queries[i].begin, begin);
    mix<L, T, n>(queries, 0, block, head_dim, begin, end);
    for (int i = 0; i < n; ++i) alone(i, end, kBlock);
  } else {
    mix<L, T, 1>(queries, 0, block, head_dim, begin, end);
  }
}

// As many of `count` queries as a tile of at most n holds.
template <class L, class T, int n>
inline void attend_some(Query<L>* queries, int count, const Block<T>& block, int64_t head_dim, float scale) {
  if constexpr (n > 1)
    if (count < n) return attend_some<L, T, n - 1>(queries, count, block, head_dim, scale);
  attend_tile<L, T, n>(queries, block, head_dim, scale);
}

}  // namespace slm
