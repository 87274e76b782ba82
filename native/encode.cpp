// Attention of an encoder, on the kernels of the cached one: each run's keys and values are put into blocks as a cache
// holds them, in memory of one thread, and every query stands where the last one does, so that it sees all of them.
#include <algorithm>
#include <cstring>
#include <vector>

#include "ops.h"
#include "threads.h"

namespace slm {
namespace {

// One head's keys as [blocks][head_dim][32] and values as [blocks][32][head_dim], in turns.
void fill(const Encode& e, int64_t row, int64_t head, float* cells) {
  const int64_t dim = e.head_dim;
  for (int64_t i = 0; i < e.length; ++i) {
    float* keys = cells + i / kBlock * 2 * kBlock * dim;
    const float* k = e.k + (row + i) * e.k_stride + head * dim;
    for (int64_t d = 0; d < dim; ++d) keys[d * kBlock + i % kBlock] = k[d];
    std::memcpy(keys + (kBlock + i % kBlock) * dim, e.v + (row + i) * e.v_stride + head * dim,
                static_cast<size_t>(dim) * sizeof(float));
  }
}

}  // namespace

void encode(const Kernels& kernels, const Encode& e) {
  const int64_t dim = e.head_dim, blocks = (e.length + kBlock - 1) / kBlock, cells = blocks * 2 * kBlock * dim;
  std::vector<int32_t> table(static_cast<size_t>(blocks));
  for (int64_t b = 0; b < blocks; ++b) table[static_cast<size_t>(b)] = static_cast<int32_t>(b);
  parallel(e.tokens / e.length * e.heads, [&](int64_t i) {
    const int64_t row = i / e.heads * e.length, head = i % e.heads;
    auto* held = static_cast<float*>(scratch(Scratch::activations, cells * static_cast<int64_t>(sizeof(float))));
    fill(e, row, head, held);
    Attention a = {};
    a.cache.cells = held;
    a.cache.type = CacheType::f32;
    a.cache.blocks = blocks;
    a.cache.kv_heads = 1;
    a.cache.head_dim = dim;
    a.cache.head_stride = a.cache.value_offset = kBlock * dim;
    a.cache.block_stride = 2 * kBlock * dim;
    a.q = e.q;
    a.out = e.out;
    a.q_stride = e.q_stride;
    a.heads = e.heads;
    a.scale = e.scale;
    Queries q = {};
    q.blocks = table.data();
    q.position = e.length - 1;
    q.advance = 0;
    q.kv_end = 1;
    q.first = head;
    q.heads = 1;
    for (int64_t first = 0; first < e.length; first += kMostQueries) {
      q.row_begin = row + first;
      q.row_end = row + std::min(e.length, first + kMostQueries);
      kernels.attention(a, q, scratch(Scratch::kernel, attention_scratch(dim)));
    }
  });
}

}  // namespace slm
