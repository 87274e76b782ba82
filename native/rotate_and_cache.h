// Rotary embedding of queries and keys; keys and values into the cache. Contract: kernels.h.
#pragma once

#include <cfloat>
#include <limits>

#include "kernels.h"

namespace slm {

template <class L>
inline void rotate_lanes(const float* x, const float* cos, const float* sin, int64_t pairs, int64_t n, float* out) {
  const L a = L::load(x, n), b = L::load(x + pairs, n), c = L::load(cos, n), s = L::load(sin, n);
  (a * c - b * s).store(out, n);  // products are rounded before they are added, as NumPy does
  (b * c + a * s).store(out + pairs, n);
}

template <class L>
inline void rotate_head(const RotateAndCache& r, int64_t token, const float* x, float* out) {
  const float *cos = r.cos + token * r.pairs, *sin = r.sin + token * r.pairs;
  int64_t i = 0;
  for (; i + 16 <= r.pairs; i += 16) rotate_lanes<L>(x + i, cos + i, sin + i, r.pairs, 16, out + i);
  if (i < r.pairs) rotate_lanes<L>(x + i, cos + i, sin + i, r.pairs, r.pairs - i, out + i);
  for (int64_t j = 2 * r.pairs; j < r.cache.head_dim; ++j) out[j] = x[j];
}

// Numbers as a cache of one type holds them; `inverse` is 1 / scale for the integers, and not looked at elsewhere.
template <class L>
inline void store_cells(const float* x, int64_t n, float, float* to) { L::load(x, n).store(to, n); }
template <class L>
inline void store_cells(const float* x, int64_t n, float, uint16_t* to) { L::load(x, n).store_half(to, n); }
template <class L>
inline void store_cells(const float* x, int64_t n, float inverse, int8_t* to) {
  if (inverse == 0.0f) {  // a NaN or an infinity among them
    for (int64_t i = 0; i < n; ++i) to[i] = 0;
  } else {
    (L::load(x, n) * L::broadcast(inverse)).store_int8(to, n);
  }
}

// max|x| / 127, 0 if that is below the smallest normal float; NaN if a number is not finite.
template <class L>
inline float scale_of(const float* x, int64_t count) {
  L most = L::zero(), spoiled = L::zero();
  for (int64_t i = 0; i < count; i += 16) {
    const L v = L::load(x + i, count - i < 16 ? count - i : 16);
    most = max(most, max(v, L::zero() - v));
    spoiled = fma(v, L::zero(), spoiled);
  }
  if (sum(spoiled) != 0.0f) return std::numeric_limits<float>::quiet_NaN();  // 0 * x is 0 or NaN
  const float scale = largest(most) / 127.0f;
  return scale < FLT_MIN ? 0.0f : scale;
}

// One token's numbers of one head, `step` cells apart from `first` on. scales: of the block's tokens, behind its cells.
template <class L, class T>
inline void write_head(const Cache& c, const float* x, T* cells, int64_t first, int64_t step, int64_t offset) {
  float inverse = 0.0f;
  if constexpr (sizeof(T) == 1) {
    float* scales = reinterpret_cast<float*>(cells + kBlock * c.head_dim);
    scales[offset] = scale_of<L>(x, c.head_dim);
    if (scales[offset] > 0.0f) inverse = 1.0f / scales[offset];
  }
  for (int64_t i = 0; i < c.head_dim; i += 16) {
    const int64_t n = c.head_dim - i < 16 ? c.head_dim - i : 16;
    T sixteen[16];
    store_cells<L>(x + i, n, inverse, sixteen);
    for (int64_t j = 0; j < n; ++j) cells[first + (i + j) * step] = sixteen[j];
  }
}

// A new key is a column: each of its numbers lies in a cache line of its own, which has to come from memory before it
// can be written. Asked for one head ahead, they come side by side.
// Static, as in half.h: this one has no Lanes in its name that would tell the sets' copies apart.
template <class T>
static inline void prefetch_column([[maybe_unused]] const T* cells, [[maybe_unused]] int64_t count) {
#if defined(__GNUC__)
  constexpr int64_t kStep = sizeof(T) == 1 ? 2 * kBlock : kBlock;  // a line holds two rows of bytes
  for (int64_t i = 0; i < count * kBlock; i += kStep) __builtin_prefetch(cells + i, 1, 3);
#endif
}

template <class L, class T>
void rotate_and_write(const RotateAndCache& r, int64_t head_begin, int64_t head_end, float* turned) {
  const Cache& c = r.cache;
  const int64_t shared = r.heads / c.kv_heads;
  for (int64_t t = 0; t < r.tokens; ++t) {
    const int64_t offset = r.slots[t] % kBlock;
    T* layer = static_cast<T*>(c.cells) + r.slots[t] / kBlock * c.block_stride;
    for (int64_t h = head_begin; h < head_end; ++h) {
      for (int64_t i = h * shared; i < (h + 1) * shared; ++i)
        rotate_head<L>(r, t, r.q + t * r.q_stride + i * c.head_dim, r.out + (t * r.heads + i) * c.head_dim);
      rotate_head<L>(r, t, r.k + t * r.k_stride + h * c.head_dim, turned);
      T* keys = layer + h * c.head_stride;
      if (h + 1 < head_end) prefetch_column(keys + c.head_stride + offset, c.head_dim);
      write_head<L>(c, turned, keys, offset, kBlock, offset);
      write_head<L>(c, r.v + t * r.v_stride + h * c.head_dim, keys + c.value_offset, offset * c.head_dim, 1, offset);
    }
  }
}

template <class L>
void rotate_and_cache(const RotateAndCache& r, int64_t head_begin, int64_t head_end, void* scratch) {
  float* turned = static_cast<float*>(scratch);
  switch (r.cache.type) {
    case CacheType::f32: return rotate_and_write<L, float>(r, head_begin, head_end, turned);
    case CacheType::f16: return rotate_and_write<L, uint16_t>(r, head_begin, head_end, turned);
    case CacheType::q8: return rotate_and_write<L, int8_t>(r, head_begin, head_end, turned);
  }
}

}  // namespace slm
