// Contract: kernels.h. Layout: formats.h and q4_s.h.
#include "../q4_s.h"

#include <cmath>

#include "scalar.h"

namespace slm::scalar {

void matmul_q4_s(const Packed& w, int64_t tile_begin, int64_t tile_end, const WideInputs& x, int64_t tokens, float* out,
                 void*) {
  const int64_t blocks = (w.k + kSuper - 1) / kSuper, inputs = q4s_units(w.k) * kUnit;
  for (int64_t row = tile_begin * kTile; row < tile_end * kTile && row < w.n; ++row) {
    const uint8_t* tile = w.data + row / kTile * q4s_tile_bytes(w.k);
    const int r = static_cast<int>(row % kTile);
    for (int64_t t = 0; t < tokens; ++t) {
      float acc = 0.0f;
      for (int64_t b = 0; b < blocks; ++b) {
        const uint8_t* super = q4s_super(tile, b);
        const WideActivation& block = x.by_token[t * blocks + b];
        const int64_t left = inputs - b * kSuper;
        int32_t sum = 0;
        for (int i = 0; i < kSuper && i < left; ++i) sum += q4s_product(super, r, i) * block.q[i];
        acc = std::fma(static_cast<float>(sum), q4s_d(super, r) * block.scale, acc);
      }
      out[t * w.n + row] = acc;
    }
  }
}

}  // namespace slm::scalar
