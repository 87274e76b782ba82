// Sixteen floats side by side, in plain C++: the meaning of the Lanes of every instruction set.
//
// The ops that are not matrix products of packed weights are written once, for any Lanes, so a set differs from the
// others in nothing but how sixteen numbers are added. Loads of n < 16 numbers fill up with zeros.
#pragma once

#include <cmath>

#include "../formats.h"
#include "../half.h"

namespace slm::scalar {

struct Lanes {
  // Rows and tokens whose sums a dense product holds in registers at once.
  static constexpr int kRows = 1, kTokens = 1;
  // Queries, and Lanes of keys or features, whose scores or sums attention holds in registers at once.
  static constexpr int kQueries = 1, kWide = 1;

  float v[16];

  static Lanes broadcast(float x) {
    Lanes r;
    for (float& lane : r.v) lane = x;
    return r;
  }
  static Lanes zero() { return broadcast(0.0f); }

  static Lanes load(const float* p) { return load(p, 16); }
  static Lanes load(const float* p, int64_t n) {
    Lanes r = zero();
    for (int64_t i = 0; i < n; ++i) r.v[i] = p[i];
    return r;
  }
  static Lanes load_half(const uint16_t* p, int64_t n = 16) {
    Lanes r = zero();
    for (int64_t i = 0; i < n; ++i) r.v[i] = float_of_half(p[i]);
    return r;
  }
  static Lanes load_int8(const int8_t* p, int64_t n = 16) {
    Lanes r = zero();
    for (int64_t i = 0; i < n; ++i) r.v[i] = static_cast<float>(p[i]);
    return r;
  }
  static Lanes load_bf16(const uint16_t* p, int64_t n = 16) {
    Lanes r = zero();
    for (int64_t i = 0; i < n; ++i) r.v[i] = float_of_bf16(p[i]);
    return r;
  }

  void store(float* p, int64_t n = 16) const {
    for (int64_t i = 0; i < n; ++i) p[i] = v[i];
  }
  void store_half(uint16_t* p, int64_t n = 16) const {
    for (int64_t i = 0; i < n; ++i) p[i] = half_of_float(v[i]);
  }
  // Rounded to the nearest integer, ties to even; the numbers are within -127.5 .. 127.5.
  void store_int8(int8_t* p, int64_t n = 16) const {
    for (int64_t i = 0; i < n; ++i) p[i] = static_cast<int8_t>(bits_of_float(v[i] + 12582912.0f));  // 1.5 * 2^23
  }
};

template <class F>
inline Lanes each(F f) {
  Lanes r;
  for (int i = 0; i < 16; ++i) r.v[i] = f(i);
  return r;
}

inline Lanes operator+(const Lanes& a, const Lanes& b) { return each([&](int i) { return a.v[i] + b.v[i]; }); }
inline Lanes operator-(const Lanes& a, const Lanes& b) { return each([&](int i) { return a.v[i] - b.v[i]; }); }
inline Lanes operator*(const Lanes& a, const Lanes& b) { return each([&](int i) { return a.v[i] * b.v[i]; }); }
inline Lanes operator/(const Lanes& a, const Lanes& b) { return each([&](int i) { return a.v[i] / b.v[i]; }); }
inline Lanes fma(const Lanes& a, const Lanes& b, const Lanes& c) {
  return each([&](int i) { return std::fma(a.v[i], b.v[i], c.v[i]); });
}
// As the instructions do: the second one where either is NaN.
inline Lanes max(const Lanes& a, const Lanes& b) { return each([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; }); }
inline Lanes min(const Lanes& a, const Lanes& b) { return each([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; }); }

// value, but 0 in lanes where x < limit.
inline Lanes zero_where_less(const Lanes& x, const Lanes& limit, const Lanes& value) {
  return each([&](int i) { return x.v[i] < limit.v[i] ? 0.0f : value.v[i]; });
}
// 2^n of lanes that hold 1.5 * 2^23 + n, n = -126..128 (128: infinity).
inline Lanes power_of_two(const Lanes& shifted) {
  return each([&](int i) { return float_of_bits((bits_of_float(shifted.v[i]) + 127u) << 23); });
}
// a in lanes [begin, end), b elsewhere.
inline Lanes within(int64_t begin, int64_t end, const Lanes& a, const Lanes& b) {
  return each([&](int i) { return i >= begin && i < end ? a.v[i] : b.v[i]; });
}

// The halving tree: lanes i and i + 8, then i + 4, i + 2, i + 1.
inline float sum(const Lanes& a) {
  float v[8];
  for (int i = 0; i < 8; ++i) v[i] = a.v[i] + a.v[i + 8];
  for (int i = 0; i < 4; ++i) v[i] += v[i + 4];
  for (int i = 0; i < 2; ++i) v[i] += v[i + 2];
  return v[0] + v[1];
}
inline float largest(const Lanes& a) {
  float v[8];
  for (int i = 0; i < 8; ++i) v[i] = a.v[i] > a.v[i + 8] ? a.v[i] : a.v[i + 8];
  for (int i = 0; i < 4; ++i) v[i] = v[i] > v[i + 4] ? v[i] : v[i + 4];
  for (int i = 0; i < 2; ++i) v[i] = v[i] > v[i + 2] ? v[i] : v[i + 2];
  return v[0] > v[1] ? v[0] : v[1];
}

}  // namespace slm::scalar
