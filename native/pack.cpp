// Each group of 32 weights of a row is rounded on its own, so rows and groups are independent of one another.
#include "pack.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#include "half.h"
#include "threads.h"

namespace slm {
namespace {

struct Group {
  float w[kGroup];
  float q[kGroup];  // small integers
  uint16_t scale;
};

// q = w / scale to the nearest integer, ties to even, within [low, high].
void round_group(Group& group, float low, float high) {
  const float scale = float_of_half(group.scale);
  const float inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  for (int i = 0; i < kGroup; ++i) {
    const float x = std::min(std::max(group.w[i] * inverse, low), high);
    group.q[i] = (x + kMagic) - kMagic;
  }
}

// The halving tree: i and i + 16, then i + 8, i + 4, i + 2, i + 1.
float tree(float* v) {
  for (int half = kGroup / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) v[i] += v[i + half];
  return v[0];
}

// The signed weight of largest magnitude, the first one of equals.
float signed_largest(const Group& group) {
  float largest = 0.0f;
  for (const float w : group.w) largest = std::max(largest, std::fabs(w));
  for (const float w : group.w)
    if (std::fabs(w) == largest) return w;
  return 0.0f;
}

void quantize_q8(Group& group) {
  group.scale = half_of_float(std::fabs(signed_largest(group)) / 127.0f);
  round_group(group, -127.0f, 127.0f);
}

void quantize_q4(Group& group) {
  group.scale = half_of_float(signed_largest(group) / -8.0f);
  for (int refit = 0; refit < 2; ++refit) {
    round_group(group, -8.0f, 7.0f);
    float products[kGroup], squares[kGroup];
    for (int i = 0; i < kGroup; ++i) {
      products[i] = group.w[i] * group.q[i];
      squares[i] = group.q[i] * group.q[i];
    }
    const float length = tree(squares);
    if (length > 0.0f) group.scale = half_of_float(tree(products) / length);
  }
  round_group(group, -8.0f, 7.0f);
}

void write_q8(const Group& group, int r, uint8_t* to) {
  for (int i = 0; i < kGroup; ++i)
    to[64 * (i / 4) + 4 * r + i % 4] = static_cast<uint8_t>(static_cast<int8_t>(group.q[i]));
}

void write_q4(const Group& group, int r, uint8_t* to) {
  for (int c = 0; c < 4; ++c)
    for (int j = 0; j < 4; ++j) {
      const int low = static_cast<int>(group.q[8 * c + j]) + 8, high = static_cast<int>(group.q[8 * c + 4 + j]) + 8;
      to[64 * c + 4 * r + j] = static_cast<uint8_t>(low | high << 4);
    }
}

}  // namespace

void read_weights(const Dense& m, int64_t row, int64_t first, int64_t count, float* to) {
  const int64_t n = row < m.n ? std::min(count, m.k - first) : 0, at = row * m.k + first;
  const uint16_t* numbers = static_cast<const uint16_t*>(m.data) + at;
  if (m.number == Number::f32) {
    if (n) std::memcpy(to, static_cast<const float*>(m.data) + at, static_cast<size_t>(n) * sizeof(float));
  } else if (m.number == Number::bf16) {
    for (int64_t i = 0; i < n; ++i) to[i] = float_of_bf16(numbers[i]);
  } else {
    for (int64_t i = 0; i < n; ++i) to[i] = float_of_half(numbers[i]);
  }
  for (int64_t i = n; i < count; ++i) to[i] = 0.0f;
}

bool all_finite_of(const float* weights, int64_t count) {
  uint32_t largest = 0;
  for (int64_t i = 0; i < count; ++i) largest = std::max(largest, bits_of_float(weights[i]) & 0x7fffffff);
  return largest < 0x7f800000;
}

bool pack(const Dense& w, Packing packing, uint8_t* data, uint16_t* scale) {
  const int64_t tiles = (w.n + kTile - 1) / kTile, groups = (w.k + kGroup - 1) / kGroup;
  std::atomic<bool> all_finite{true};
  parallel(tiles, [&](int64_t tile) {
    Group group;
    for (int r = 0; r < kTile; ++r)
      for (int64_t g = 0; g < groups; ++g) {
        read_weights(w, tile * kTile + r, g * kGroup, kGroup, group.w);
        if (!all_finite_of(group.w, kGroup)) {
          all_finite.store(false, std::memory_order_relaxed);
          continue;
        }
        const int64_t at = tile * groups + g;
        if (packing == Packing::q8) {
          quantize_q8(group);
          write_q8(group, r, data + at * 512);
        } else {
          quantize_q4(group);
          write_q4(group, r, data + at * 256);
        }
        scale[at * kTile + r] = group.scale;
        if ((group.scale & 0x7c00) == 0x7c00) all_finite.store(false, std::memory_order_relaxed);
      }
  });
  return all_finite.load();
}

}  // namespace slm
