// Contract: formats.h (Activation) and kernels.h.
#include <cmath>
#include <limits>

#include "scalar.h"

namespace slm::scalar {

static void quantize_group(const float* x, int64_t n, Activation* out) {
  uint32_t largest = 0;  // as bits, in whose order NaN stands above infinity, and infinity above all numbers
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t magnitude = bits_of_float(x[i]) & 0x7fffffff;
    largest = magnitude > largest ? magnitude : largest;
  }
  const bool finite = largest < 0x7f800000;
  float scale = float_of_bits(largest) / 127.0f;
  if (!finite) scale = std::numeric_limits<float>::quiet_NaN();
  if (scale < std::numeric_limits<float>::min()) scale = 0.0f;
  const float inverse = scale > 0.0f ? 1.0f / scale : 0.0f;
  int32_t sums[2][2] = {};
  for (int64_t i = 0; i < kGroup; ++i) {
    out->q[i] = i < n && finite ? static_cast<int8_t>(std::rint(x[i] * inverse)) : 0;
    sums[i / 16][i / 2 % 2] += out->q[i];
  }
  out->scale = scale;
  out->sum = scale * static_cast<float>(sums[0][0] + sums[0][1] + sums[1][0] + sums[1][1]);
  for (int j = 0; j < 2; ++j) {
    out->start8[j] = static_cast<int16_t>(-8 * (sums[0][j] + sums[1][j]));
    for (int half = 0; half < 2; ++half) out->start32[half][j] = static_cast<int16_t>(-32 * sums[half][j]);
  }
}

void quantize(const float* x, int64_t k, Activation* out) {
  for (int64_t i = 0; i < k; i += kGroup, ++out) quantize_group(x + i, k - i < kGroup ? k - i : kGroup, out);
}

}  // namespace slm::scalar
