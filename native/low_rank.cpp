// The product with an adapter's matrices: see ops.h.
#include <algorithm>

#include "ops.h"
#include "threads.h"

namespace slm {

void add_low_rank(const Kernels& kernels, const Dense& a, const LowRank& b, float scale, const float* x, int64_t tokens,
                  float* out) {
  auto* low = static_cast<float*>(scratch(Scratch::activations, tokens * b.rank * static_cast<int64_t>(sizeof(float))));
  matmul_dense(kernels, a, x, tokens, low);
  for (int64_t i = 0; i < tokens * b.rank; ++i) low[i] *= scale;

  const int64_t tiles = (b.n + kTile - 1) / kTile;
  constexpr int64_t kAtOnce = 32;  // tiles: 16 to 32 KB of rank 16, which are read faster by all threads
  parallel((tiles + kAtOnce - 1) / kAtOnce, [&](int64_t i) {
    kernels.add_low_rank(b, i * kAtOnce, std::min(tiles, (i + 1) * kAtOnce), low, tokens, out);
  });
}

}  // namespace slm
