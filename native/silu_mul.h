// gate / (1 + exp(-gate)) * up. Contract: kernels.h.
#pragma once

#include "exp.h"
#include "kernels.h"

namespace slm {

template <class L>
inline L silu_times(L gate, L up) {
  const L one = L::broadcast(1.0f);
  return gate / (one + exp_lanes(L::zero() - gate)) * up;
}

template <class L>
void silu_mul(const float* x, int64_t tokens, int64_t dim, float* out) {
  for (int64_t t = 0; t < tokens; ++t, x += 2 * dim, out += dim) {
    const int64_t whole = dim / 16 * 16, rest = dim - whole;
    for (int64_t i = 0; i < whole; i += 16) silu_times(L::load(x + i), L::load(x + dim + i)).store(out + i);
    if (rest) silu_times(L::load(x + whole, rest), L::load(x + dim + whole, rest)).store(out + whole, rest);
  }
}

}  // namespace slm
