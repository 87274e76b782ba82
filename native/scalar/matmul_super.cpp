// Contract: kernels.h. Layout: formats.h and super.h.
#include "../super.h"

#include <cmath>

#include "scalar.h"

namespace slm::scalar {

// sum_i (w[i] - less) x[i] of row r, over inputs [begin, end) of a group.
template <int kBits>
static int32_t dot(const uint8_t* group, int r, const Activation& x, int begin, int end) {
  constexpr int kLess = kBits == 4 ? 0 : kBits == 5 ? 16 : 32;
  int32_t sum = 0;
  for (int i = begin; i < end; ++i) sum += (super_integer<kBits>(group, r, i) - kLess) * x.q[i];
  return sum;
}

// acc, and what one group of row r adds to it.
template <int kBits>
static float add_group(const uint8_t* header, const uint8_t* group, int r, const Activation& x, float acc) {
  const float d = super_scale(header, r);
  if constexpr (kBits == 6) {
    const auto* scales = reinterpret_cast<const int8_t*>(group);
    const int32_t sum = scales[r] * dot<6>(group, r, x, 0, 16) + scales[16 + r] * dot<6>(group, r, x, 16, 32);
    return std::fma(static_cast<float>(sum), d * x.scale, acc);
  } else {
    const float scale = group[r], low = super_scale(header + 32, r) * static_cast<float>(group[16 + r]);
    const float least = kBits == 5 ? 16.0f * (d * scale) - low : -low;
    const int32_t sum = group[r] * dot<kBits>(group, r, x, 0, kGroup);
    acc = std::fma(static_cast<float>(sum), d * x.scale, acc);
    return std::fma(least, x.sum, acc);
  }
}

template <int kBits>
void matmul_super(const Packed& w, int64_t tile_begin, int64_t tile_end, const Activation* x, int64_t tokens, float* out,
                  void*) {
  constexpr int kGroups = kSuper / kGroup;
  for (int64_t row = tile_begin * kTile; row < tile_end * kTile && row < w.n; ++row) {
    const uint8_t* data = w.data + row / kTile * (w.groups / kGroups) * Super<kBits>::kBytes;
    const int r = static_cast<int>(row % kTile);
    for (int64_t t = 0; t < tokens; ++t) {
      float acc = 0.0f;
      for (int64_t g = 0; g < w.groups; ++g) {
        const uint8_t* header = data + g / kGroups * Super<kBits>::kBytes;
        const uint8_t* group = header + Super<kBits>::kHeader + g % kGroups * Super<kBits>::kGroupBytes;
        acc = add_group<kBits>(header, group, r, x[t * w.groups + g], acc);
      }
      out[t * w.n + row] = acc;
    }
  }
}

template void matmul_super<4>(const Packed&, int64_t, int64_t, const Activation*, int64_t, float*, void*);
template void matmul_super<5>(const Packed&, int64_t, int64_t, const Activation*, int64_t, float*, void*);
template void matmul_super<6>(const Packed&, int64_t, int64_t, const Activation*, int64_t, float*, void*);

}  // namespace slm::scalar
