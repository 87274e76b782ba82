// g / (1 + exp(-1.702 g)) * (l + 1), g and l limited. Contract: kernels.h.
#pragma once

#include "exp.h"
#include "kernels.h"

namespace slm {

template <class L>
inline L gegelu_lanes(const L& gate, const L& linear, float limit) {
  const L one = L::broadcast(1.0f), most = L::broadcast(limit), least = L::broadcast(-limit);
  const L g = min(most, gate) + (gate - gate);  // x - x is 0 or NaN
  const L l = max(least, min(most, linear)) + (linear - linear);
  return g / (one + exp_lanes(L::broadcast(-1.702f) * g)) * (l + one);
}

template <class L>
void gegelu(const float* x, float limit, int64_t tokens, int64_t dim, float* out) {
  for (int64_t t = 0; t < tokens; ++t, x += 2 * dim, out += dim)
    for (int64_t i = 0; i < dim; i += 16) {
      const int64_t n = dim - i < 16 ? dim - i : 16;
      float gate[16] = {}, linear[16] = {};
      const float* pairs = x + 2 * i;
      if (n == 16) {  // a loop whose length the compiler knows becomes shuffles
        for (int j = 0; j < 16; ++j) gate[j] = pairs[2 * j], linear[j] = pairs[2 * j + 1];
      } else {
        for (int j = 0; j < n; ++j) gate[j] = pairs[2 * j], linear[j] = pairs[2 * j + 1];
      }
      gegelu_lanes(L::load(gate), L::load(linear), limit).store(out + i, n);
    }
}

}  // namespace slm
