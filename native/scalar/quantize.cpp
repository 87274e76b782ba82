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
  int32_t sum = 0;
  for (int64_t i = 0; i < kGroup; ++i) {
    out->q[i] = i < n && finite ? static_cast<int8_t>(std::rint(x[i] * inverse)) : 0;
    sum += out->q[i];
  }
  out->scale = scale;
  out->offset = -8 * sum;
}

void quantize(const float* x, int64_t k, Activation* out) {
  for (int64_t i = 0; i < k; i += kGroup, ++out) quantize_group(x + i, k - i < kGroup ? k - i : kGroup, out);
}

}  // namespace slm::scalar
