// RMS norm: 16 partial sums of x*x by fma, input i to sum i mod 16, then the halving tree. Contract: kernels.h.
#pragma once

#include <cmath>

#include "kernels.h"

namespace slm {

template <class L>
void rms_norm(const float* x, const float* weight, float eps, int64_t tokens, int64_t dim, float* out) {
  for (int64_t t = 0; t < tokens; ++t, x += dim, out += dim) {
    const int64_t whole = dim / 16 * 16, rest = dim - whole;
    L squares = L::zero();
    for (int64_t i = 0; i < whole; i += 16) {
      const L v = L::load(x + i);
      squares = fma(v, v, squares);
    }
    if (rest) {
      const L v = L::load(x + whole, rest);
      squares = fma(v, v, squares);
    }
    const L r = L::broadcast(1.0f / std::sqrt(sum(squares) / static_cast<float>(dim) + eps));
    for (int64_t i = 0; i < whole; i += 16) (L::load(x + i) * r * L::load(weight + i)).store(out + i);
    if (rest) (L::load(x + whole, rest) * r * L::load(weight + whole, rest)).store(out + whole, rest);
  }
}

}  // namespace slm
