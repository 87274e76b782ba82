// Layer norm: 16 partial sums, input i to sum i mod 16, then the halving tree; first of x, then by fma of the squares of
// x - mean. Contract: kernels.h.
#pragma once

#include <cmath>

#include "kernels.h"

namespace slm {

template <class L>
void layer_norm(const float* x, const float* weight, const float* bias, float eps, int64_t tokens, int64_t dim,
                float* out) {
  const int64_t whole = dim / 16 * 16, rest = dim - whole;
  for (int64_t t = 0; t < tokens; ++t, x += dim, out += dim) {
    L total = L::zero(), squares = L::zero();
    for (int64_t i = 0; i < whole; i += 16) total = total + L::load(x + i);
    if (rest) total = total + L::load(x + whole, rest);
    const float mean = sum(total) / static_cast<float>(dim);
    const L middle = L::broadcast(mean);
    for (int64_t i = 0; i < whole; i += 16) {
      const L v = L::load(x + i) - middle;
      squares = fma(v, v, squares);
    }
    if (rest) {
      const L v = within(0, rest, L::load(x + whole, rest) - middle, L::zero());
      squares = fma(v, v, squares);
    }
    const L r = L::broadcast(1.0f / std::sqrt(sum(squares) / static_cast<float>(dim) + eps));
    for (int64_t i = 0; i < dim; i += 16) {
      const int64_t n = dim - i < 16 ? rest : 16;
      ((L::load(x + i, n) - middle) * r * L::load(weight + i, n) + L::load(bias + i, n)).store(out + i, n);
    }
  }
}

}  // namespace slm
