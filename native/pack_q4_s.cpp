// The definition is src/slmkit/ops/q4_s.py, equal to the byte.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#include "half.h"
#include "pack.h"
#include "threads.h"

namespace slm {
namespace {

constexpr int kParts = kSuper / kPart;

float round_even(float x) {
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  return (x + kMagic) - kMagic;
}

// x / scale to the nearest integer -8..7, ties to even.
float rounded(float x, float inverse) { return round_even(std::min(std::max(x * inverse, -8.0f), 7.0f)); }

float inverse_of(float x) { return x != 0.0f ? 1.0f / x : 0.0f; }

// The weight of largest magnitude, the first one of equals.
float signed_largest(const float* w, int n) {
  float largest = w[0];
  for (int i = 1; i < n; ++i)
    if (std::fabs(w[i]) > std::fabs(largest)) largest = w[i];
  return largest;
}

struct Superblock {
  uint16_t d;
  int8_t scale[kParts], q[kSuper];
};

void quantize(const float* w, Superblock& out) {
  float largest[kParts];
  for (int p = 0; p < kParts; ++p) largest[p] = signed_largest(w + kPart * p, kPart);
  out.d = half_of_float(signed_largest(largest, kParts) / 64.0f);
  const float d = float_of_half(out.d), inverse = inverse_of(d);
  for (int p = 0; p < kParts; ++p) {
    const float scale = round_even(std::min(std::max(largest[p] * inverse / -8.0f, -8.0f), 7.0f));
    out.scale[p] = static_cast<int8_t>(scale == 0.0f ? 1.0f : scale);
    const float by = inverse_of(d * static_cast<float>(out.scale[p]));
    for (int i = 0; i < kPart; ++i) out.q[kPart * p + i] = static_cast<int8_t>(rounded(w[kPart * p + i], by));
  }
}

// Row r of a superblock of so many units.
void write(const Superblock& from, int64_t units, int r, uint8_t* to) {
  std::memcpy(to + 2 * r, &from.d, 2);
  uint8_t* unit = to + kSuperHeader;
  for (int64_t u = 0; u < units; ++u, unit += kUnitBytes) {
    const int8_t *scale = from.scale + 4 * u, *q = from.q + kUnit * u;
    const auto word = static_cast<uint16_t>((scale[0] & 15) | (scale[1] & 15) << 4 | (scale[2] & 15) << 8 | (scale[3] & 15) << 12);
    std::memcpy(unit + 2 * r, &word, 2);
    for (int c = 0; c < 8; ++c)
      for (int j = 0; j < 4; ++j)
        unit[2 * kTile + 64 * c + 4 * r + j] = static_cast<uint8_t>((q[8 * c + j] + 8) | (q[8 * c + 4 + j] + 8) << 4);
  }
}

}  // namespace

bool pack_q4_s(const Dense& w, uint8_t* data) {
  const int64_t tiles = (w.n + kTile - 1) / kTile, tile_bytes = q4s_tile_bytes(w.k);
  std::atomic<bool> all_finite{true};
  parallel(tiles, [&](int64_t tile) {
    float weights[kSuper];
    Superblock block;
    for (int r = 0; r < kTile; ++r) {
      uint8_t* to = data + tile * tile_bytes;
      for (int64_t first = 0; first < w.k; first += kSuper) {
        const int64_t row = tile * kTile + r, n = std::min<int64_t>(kSuper, w.k - first);
        read_weights(w, row, first, kSuper, weights);
        if (!all_finite_of(weights, kSuper)) {
          all_finite.store(false, std::memory_order_relaxed);
          std::memset(&block, 0, sizeof block);
        } else {
          quantize(weights, block);
        }
        if ((block.d & 0x7c00) == 0x7c00) all_finite.store(false, std::memory_order_relaxed);
        const int64_t units = (n + kUnit - 1) / kUnit;
        write(block, units, r, to);
        to += kSuperHeader + units * kUnitBytes;
      }
    }
  });
  return all_finite.load();
}

}  // namespace slm
