// Causal attention over cached blocks of 32 keys, online softmax. Contract: kernels.h; orders of sums: docs/design.md.
//
// The blocks lie at absolute multiples of 32, whichever queries are computed together, so a query's result depends on
// its own position alone. Keys out of a query's sight get the score -inf, whose exp is exactly 0; their values are not
// touched, since a slot never written may hold NaN.
#pragma once

#include "attention_tile.h"

namespace slm {

static inline int in_block(int64_t key) { return static_cast<int>(key < 0 ? 0 : key > kBlock ? kBlock : key); }

// The queries of one call, those of one kv head after those of another, and the blocks that they see.
template <class L, class T>
struct Walk {
  const Attention& a;
  const Queries& s;
  const int64_t shared = a.heads / a.cache.kv_heads;
  const int each = static_cast<int>((s.row_end - s.row_begin) * s.heads);  // queries of a kv head
  int count = 0;
  Query<L> queries[kMostQueries];

  Walk(const Attention& attention, const Queries& share) : a(attention), s(share) {
    for (int64_t kv = s.kv_begin; kv < s.kv_end; ++kv) {
      const int64_t first = kv * shared + s.first, last = first + s.heads;
      if (a.sparse.local) {  // the rows of a head see a block together
        for (int64_t h = first; h < last; ++h)
          for (int64_t row = s.row_begin; row < s.row_end; ++row) add(row, h);
      } else {
        for (int64_t row = s.row_begin; row < s.row_end; ++row)
          for (int64_t h = first; h < last; ++h) add(row, h);
      }
    }
  }

  void add(int64_t row, int64_t head) {
    Query<L>& query = queries[count++];
    query.q = a.q + row * a.q_stride + head * a.cache.head_dim;
    query.out = a.out + (row * a.heads + head) * a.cache.head_dim;
    query.position = s.position + (row - s.row_begin) * s.advance;
    sight(query, head);
    query.largest = -std::numeric_limits<float>::infinity();
    query.total = 0.0f;
    for (int64_t d = 0; d < a.cache.head_dim; ++d) query.out[d] = 0.0f;
  }

  void sight(Query<L>& query, int64_t head) const {
    const Sparse& p = a.sparse;
    query.near = query.far = 0;
    if (!p.local) return;
    const int64_t first = query.position / kBlock / p.size - p.local + 1;
    query.near = first > 0 ? first * p.size : 0;
    query.far = (p.stride - p.shifts[head]) % p.stride;
  }
  int64_t phase(int64_t b) const {
    if (!a.sparse.local) return -1;
    return static_cast<uint32_t>(b) / static_cast<uint32_t>(a.sparse.size) % static_cast<uint32_t>(a.sparse.stride);
  }

  // Whether a query of this kv head has block b in its pattern; without one, all have.
  bool has(int64_t b, int64_t kv) {
    const int64_t p = phase(b);
    const Query<L>* queries = of(kv);
    for (int i = 0; i < each; ++i)
      if (b >= queries[i].near || p == queries[i].far) return true;
    return false;
  }
  int64_t after(int64_t b, int64_t kv) {
    const int64_t last = last_block();
    for (++b; b < last && !has(b, kv);) ++b;
    return b;
  }

  Query<L>* of(int64_t kv) { return queries + (kv - s.kv_begin) * each; }
  int64_t first_seen(int64_t position) const { return a.window && position >= a.window ? position - a.window + 1 : 0; }
  int64_t first_block() const { return first_seen(s.position) / kBlock; }
  int64_t last_block() const { return queries[count - 1].position / kBlock; }

  void look_at(Query<L>& query, int64_t b, int64_t phase) const {
    query.begin = in_block(first_seen(query.position) - b * kBlock);
    query.end = b >= query.near || phase == query.far ? in_block(query.position + 1 - b * kBlock) : 0;
  }

  // Block b, and the one that is read after it (the last one again, where there is none).
  Block<T> block(int64_t b, int64_t after, int64_t kv) const {
    const Cache& c = a.cache;
    const auto cells = [&](int64_t i) {
      return static_cast<const T*>(c.cells) + s.blocks[i] * c.block_stride + kv * c.head_stride;
    };
    const int64_t last = last_block();
    const T *keys = cells(b), *next = cells(after < last ? after : last), *values = keys + c.value_offset;
    Block<T> found = {keys, values, nullptr, nullptr, next, next + c.value_offset};
    if (c.type == CacheType::q8) {
      found.key_scale = reinterpret_cast<const float*>(keys + kBlock * c.head_dim);
      found.value_scale = reinterpret_cast<const float*>(values + kBlock * c.head_dim);
    }
    return found;
  }
};

template <class L, class T>
inline void widen(const T* from, const T* next, int64_t count, float* to) {
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    load_cell<L>(from + i, 16).store(to + i);
    prefetch(next, i, 16);
  }
  if (i < count) load_cell<L>(from + i, count - i).store(to + i, count - i);
}

// Those that see something of it, in tiles of such as lie side by side.
template <class L, class T, class U>
inline void attend_tiles(Walk<L, T>& walk, int64_t b, int64_t kv, const Block<U>& block) {
  Query<L>* queries = walk.of(kv);
  const auto blind = [&](int i) { return queries[i].begin >= queries[i].end; };
  const int64_t phase = walk.phase(b);
  for (int i = 0; i < walk.each; ++i) walk.look_at(queries[i], b, phase);
  for (int first = 0, last; first < walk.each; first = last + 1) {
    for (last = first; last < walk.each && !blind(last);) ++last;
    for (int i = first; i < last; i += L::kQueries)
      attend_some<L, U, L::kQueries>(queries + i, last - i, block, walk.a.cache.head_dim, walk.a.scale);
  }
}

template <class L, class T>
inline void attend_one(Walk<L, T>& walk, int64_t b, int64_t kv, float* scratch) {
  const int64_t cells = kBlock * walk.a.cache.head_dim;
  const Block<T> block = walk.block(b, walk.after(b, kv), kv);
  if (sizeof(T) == sizeof(float) || walk.each <= L::kQueries) return attend_tiles(walk, b, kv, block);
  // More than one tile: each number is widened once.
  widen<L>(block.keys, block.next_keys, cells, scratch);
  widen<L>(block.values, block.next_values, cells, scratch + cells);
  const Block<float> wide = {scratch, scratch + cells, block.key_scale, block.value_scale, nullptr, nullptr};
  attend_tiles(walk, b, kv, wide);
}

// One query against two blocks: a sum waits for its own last addition, so the scores of both are summed side by side.
template <class L, class T>
inline void attend_two(Walk<L, T>& walk, int64_t b, int64_t kv) {
  const int64_t after = walk.after(b + 1, kv);
  const Block<T> two[2] = {walk.block(b, after, kv), walk.block(b + 1, after + 1, kv)};
  const int64_t head_dim = walk.a.cache.head_dim;
  Query<L>& query = *walk.of(kv);
  score<L, T, 1, 2, 2>(&query, two, 0, head_dim);
  for (int i = 0; i < 2; ++i) {
    walk.look_at(query, b + i, walk.phase(b + i));
    soften(query, query.p + i * kBlock, two[i], walk.a.scale, head_dim);
    mix<L, T, 1>(&query, i * kBlock, two[i], head_dim, query.begin, query.end);
  }
}

template <class L, class T>
void attend(const Attention& a, const Queries& s, float* scratch) {
  Walk<L, T> walk(a, s);
  const int64_t end = walk.last_block() + 1;
  const bool pairs = walk.each == 1 && a.sparse.size % 2 == 0;  // both of a pair are seen, or neither
  for (int64_t b = walk.first_block(), step; b < end; b += step) {
    step = pairs && b + 2 <= end ? 2 : 1;
    for (int64_t kv = s.kv_begin; kv < s.kv_end; ++kv)
      if (walk.has(b, kv)) step == 2 ? attend_two(walk, b, kv) : attend_one(walk, b, kv, scratch);
  }
  for (int i = 0; i < walk.count; ++i)
    for (int64_t d = 0; d < a.cache.head_dim; ++d) walk.queries[i].out[d] /= walk.queries[i].total;
}

template <class L>
void attention(const Attention& a, const Queries& s, void* scratch) {
  switch (a.cache.type) {
    case CacheType::f32: return attend<L, float>(a, s, static_cast<float*>(scratch));
    case CacheType::f16: return attend<L, uint16_t>(a, s, static_cast<float*>(scratch));
    case CacheType::q8: return attend<L, int8_t>(a, s, static_cast<float*>(scratch));
  }
}

}  // namespace slm
