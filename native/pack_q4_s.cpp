// The definition is src/slmkit/ops/q4_s.py, equal to the byte.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>

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

// Halves of v, a power of two long, added until one is left.
template <int n>
float tree(float (&v)[n]) {
  for (int half = n / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) v[i] += v[i + half];
  return v[0];
}

// The weights of a superblock, part by part side by side, so that all parts are tried at once in vector registers.
struct Weights {
  float w[kPart][kParts];
  float largest[kParts];  // magnitude, of each part
  float top;              // the weight of largest magnitude, the first one of equals
};

struct Fit {
  uint16_t d;
  float error, scale[kParts];
};

// Compiled for wider registers too, and chosen when the program starts; the numbers are the same.
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_THREAD__) && \
    !defined(__SANITIZE_ADDRESS__)
#define SLM_WIDER __attribute__((target_clones("avx2", "default")))
#else
#define SLM_WIDER
#endif

// The squared error of each part if its weights are multiples of `by`.
SLM_WIDER void errors_of(const Weights& weights, const float* by, float* errors) {
  float inverse[kParts], sums[kPart / 2][kParts];
  for (int p = 0; p < kParts; ++p) {
    const float over = 1.0f / by[p];
    inverse[p] = by[p] != 0.0f ? over : 0.0f;
  }
  constexpr float kMagic = 12582912.0f;
  for (int i = 0; i < kPart / 2; ++i) {
    const float *a = weights.w[i], *b = weights.w[i + kPart / 2];
    for (int p = 0; p < kParts; ++p) {
      float x = a[p] * inverse[p], y = b[p] * inverse[p];
      x = x > -8.0f ? x : -8.0f, y = y > -8.0f ? y : -8.0f;
      x = x < 7.0f ? x : 7.0f, y = y < 7.0f ? y : 7.0f;
      x = a[p] - by[p] * ((x + kMagic) - kMagic), y = b[p] - by[p] * ((y + kMagic) - kMagic);
      sums[i][p] = x * x + y * y;
    }
  }
  for (int half = kPart / 4; half > 0; half /= 2)
    for (int i = 0; i < half; ++i)
      for (int p = 0; p < kParts; ++p) sums[i][p] += sums[i + half][p];
  for (int p = 0; p < kParts; ++p) errors[p] = sums[0][p];
}

// For a given d the best of the scales tried.
Fit fit(const Weights& weights, uint16_t half) {
  const float d = float_of_half(half), inverse = std::fabs(inverse_of(d));
  Fit out = {half, 0.0f, {}};
  float near[kParts], least[kParts], scale[kParts], by[kParts], errors[kParts];
  for (int p = 0; p < kParts; ++p) {
    near[p] = round_even(std::min(weights.largest[p] * inverse * 0.125f, 1000.0f));
    least[p] = std::numeric_limits<float>::infinity();
    out.scale[p] = 1.0f;
  }
  for (const float offset : {-1.0f, 0.0f, 1.0f})
    for (const float sign : {1.0f, -1.0f}) {
      for (int p = 0; p < kParts; ++p) {
        scale[p] = std::min(std::max(sign * std::max(near[p] + offset, 1.0f), -8.0f), 7.0f);
        by[p] = d * scale[p];
      }
      errors_of(weights, by, errors);
      for (int p = 0; p < kParts; ++p) {
        const bool better = errors[p] < least[p];
        least[p] = better ? errors[p] : least[p];
        out.scale[p] = better ? scale[p] : out.scale[p];
      }
    }
  out.error = tree(least);
  return out;
}

struct Superblock {
  uint16_t d;
  int8_t scale[kParts], q[kSuper];
};

void round_all(const Weights& weights, const Fit& from, Superblock& out) {
  const float d = float_of_half(from.d);
  out.d = from.d;
  for (int p = 0; p < kParts; ++p) {
    out.scale[p] = static_cast<int8_t>(from.scale[p]);
    const float inverse = inverse_of(d * from.scale[p]);
    for (int i = 0; i < kPart; ++i) out.q[kPart * p + i] = static_cast<int8_t>(rounded(weights.w[i][p], inverse));
  }
}

void quantize(const float* w, Superblock& out) {
  Weights weights = {{}, {}, w[0]};
  for (int i = 0; i < kSuper; ++i) {
    const float magnitude = std::fabs(w[i]);
    weights.w[i % kPart][i / kPart] = w[i];
    weights.largest[i / kPart] = std::max(weights.largest[i / kPart], magnitude);
    if (magnitude > std::fabs(weights.top)) weights.top = w[i];
  }
  Fit best = fit(weights, half_of_float(weights.top * static_cast<float>(0.8 / 64)));
  const auto consider = [&](uint16_t d) {
    const Fit other = fit(weights, d);
    if (other.error < best.error) best = other;
  };
  for (const double share : {0.9, 1.0, 1.1}) consider(half_of_float(weights.top * static_cast<float>(share / 64)));
  round_all(weights, best, out);
  float squares[kSuper], products[kSuper];
  for (int i = 0; i < kSuper; ++i) {
    const float product = static_cast<float>(out.scale[i / kPart] * out.q[i]);
    squares[i] = product * product;
    products[i] = w[i] * product;
  }
  const float length = tree(squares);
  if (length > 0.0f) consider(half_of_float(tree(products) / length));
  round_all(weights, best, out);
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
