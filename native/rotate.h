// Rotary embedding: products are rounded before they are added, as NumPy does. Contract: kernels.h.
#pragma once

#include "kernels.h"

namespace slm {

template <class L>
inline void rotate_lanes(const float* x, const float* cos, const float* sin, int64_t pairs, int64_t n, float* out) {
  const L a = L::load(x, n), b = L::load(x + pairs, n), c = L::load(cos, n), s = L::load(sin, n);
  (a * c - b * s).store(out, n);
  (b * c + a * s).store(out + pairs, n);
}

template <class L>
void rotate(const Rotate& r, int64_t token_begin, int64_t token_end) {
  for (int64_t t = token_begin; t < token_end; ++t) {
    const float *cos = r.cos + t * r.pairs, *sin = r.sin + t * r.pairs;
    for (int64_t h = 0; h < r.heads; ++h) {
      const float* x = r.x + t * r.x_stride + h * r.head_dim;
      float* out = r.out + (t * r.heads + h) * r.head_dim;
      int64_t i = 0;
      for (; i + 16 <= r.pairs; i += 16) rotate_lanes<L>(x + i, cos + i, sin + i, r.pairs, 16, out + i);
      if (i < r.pairs) rotate_lanes<L>(x + i, cos + i, sin + i, r.pairs, r.pairs - i, out + i);
      for (int64_t j = 2 * r.pairs; j < r.head_dim; ++j) out[j] = x[j];
    }
  }
}

}  // namespace slm
