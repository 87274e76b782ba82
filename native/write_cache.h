// Keys into columns, values into rows of the cache's blocks. Contract: kernels.h.
#pragma once

#include "kernels.h"

namespace slm {

template <class L>
inline void store_as(const L& v, float* p, int64_t n) { v.store(p, n); }
template <class L>
inline void store_as(const L& v, uint16_t* p, int64_t n) { v.store_half(p, n); }

template <class L, class T>
void write_heads(const WriteCache& w, int64_t head_begin, int64_t head_end) {
  const Cache& c = w.cache;
  for (int64_t h = head_begin; h < head_end; ++h) {
    for (int64_t t = 0; t < w.tokens; ++t) {
      T* keys = static_cast<T*>(c.cells) + w.slots[t] / kBlock * c.block_stride + h * c.head_stride;
      T* values = keys + c.value_offset;
      const int64_t offset = w.slots[t] % kBlock;
      const float *k = w.k + t * w.k_stride + h * c.head_dim, *v = w.v + t * w.v_stride + h * c.head_dim;
      for (int64_t i = 0; i < c.head_dim; i += 16) {
        const int64_t n = c.head_dim - i < 16 ? c.head_dim - i : 16;
        T column[16];
        store_as(L::load(k + i, n), column, n);
        for (int64_t j = 0; j < n; ++j) keys[(i + j) * kBlock + offset] = column[j];
        store_as(L::load(v + i, n), values + offset * c.head_dim + i, n);
      }
    }
  }
}

template <class L>
void write_cache(const WriteCache& w, int64_t head_begin, int64_t head_end) {
  if (w.cache.number == Number::f32) return write_heads<L, float>(w, head_begin, head_end);
  write_heads<L, uint16_t>(w, head_begin, head_end);
}

}  // namespace slm
