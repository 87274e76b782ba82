// Contract: kernels.h. Layout: formats.h.
#include <cmath>

#include "scalar.h"

namespace slm::scalar {

// sum_i w[i] x[i] of row r of a tile, over one group.
static int32_t dot(const int8_t* group, int r, const Activation& x) {
  int32_t sum = 0;
  for (int c = 0; c < 8; ++c)
    for (int j = 0; j < 4; ++j) sum += group[64 * c + 4 * r + j] * x.q[4 * c + j];
  return sum;
}

void matmul_q8(const Packed& w, int64_t tile_begin, int64_t tile_end, const Activation* x, int64_t tokens, float* out,
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
        const int32_t sum = dot(reinterpret_cast<const int8_t*>(w.data) + at * 512, r, group);
        acc = std::fma(static_cast<float>(sum), scale, acc);
      }
      out[t * w.n + row] = acc;
    }
  }
}

}  // namespace slm::scalar
