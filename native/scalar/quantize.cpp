// Contract: formats.h (Activation) and kernels.h.
#include <cmath>
#include <limits>

#include "scalar.h"

namespace slm::scalar {

// x[n] -> q[size], those after n zero.   Returns the scale.
static float round_to_integers(const float* x, int64_t n, int64_t size, int8_t* q) {
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
  for (int64_t i = 0; i < size; ++i)
    q[i] = i < n && finite ? static_cast<int8_t>(std::rint(x[i] * inverse)) : 0;
  return scale;
}

static void quantize_group(const float* x, int64_t n, Activation* out) {
  const float scale = round_to_integers(x, n, kGroup, out->q);
  int32_t sums[2][2] = {};
  for (int64_t i = 0; i < kGroup; ++i) sums[i / 16][i / 2 % 2] += out->q[i];
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

static void quantize_block(const float* x, int64_t n, WideActivation* out, UnsignedActivation* unsigned_out) {
  out->scale = unsigned_out->scale = round_to_integers(x, n, kSuper, out->q);
  int32_t sums[kSuper / kPart][2] = {};
  for (int i = 0; i < kSuper; ++i) {
    unsigned_out->u[i] = static_cast<uint8_t>(out->q[i] + 128);
    sums[i / kPart][i / 2 % 2] += out->q[i];
  }
  for (int part = 0; part < kSuper / kPart; ++part)
    for (int j = 0; j < 2; ++j) out->start8[part][j] = static_cast<int16_t>(-8 * sums[part][j]);
}

void quantize_wide(const float* x, int64_t k, WideActivation* out, UnsignedActivation* unsigned_out,
                   int64_t block_stride) {
  for (int64_t i = 0; i < k; i += kSuper, ++out, unsigned_out += block_stride)
    quantize_block(x + i, k - i < kSuper ? k - i : kSuper, out, unsigned_out);
}

}  // namespace slm::scalar
