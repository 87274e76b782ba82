// Contract: kernels.h. Layout: formats.h.
#include <cmath>

#include "scalar.h"

namespace slm::scalar {

// sum_i w[i] x[i] of row r of a tile, over one group.
static int32_t dot(const uint8_t* group, int r, const Activation& x) {
  int32_t sum = x.start8[0] + x.start8[1];
  for (int c = 0; c < 4; ++c)
    for (int j = 0; j < 4; ++j) {
      const uint8_t both = group[64 * c + 4 * r + j];
      sum += (both & 15) * x.q[8 * c + j] + (both >> 4) * x.q[8 * c + 4 + j];
    }
  return sum;
}

void matmul_q4(const Packed& w, int64_t tile_begin, int64_t tile_end, const Activation* x, int64_t tokens, float* out,
               void*) {
  for (int64_t row = tile_begin * kTile; row < tile_end * kTile && row < w.n; ++row) {
    const int64_t tile = row / kTile;
    const int r = static_cast<int>(row % kTile);
    for (int64_t t = 0; t < tokens; ++t) {
      float acc = 0.0f;
      for (int64_t g = 0; g < w.groups; ++g) {
        const int64_t at = tile * w.groups + g;
        const Activation& group = x[t * w.groups + g];
        const float scale = float_of_half(w.scale[at * kTile + r]) * group.scale;
        acc = std::fma(static_cast<float>(dot(w.data + at * 256, r, group)), scale, acc);
      }
      out[t * w.n + row] = acc;
    }
  }
}

}  // namespace slm::scalar
