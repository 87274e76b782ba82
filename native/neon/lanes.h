// Sixteen floats in four 128-bit registers; see scalar/lanes.h for what each function means.
#pragma once

#include <arm_neon.h>

#include <cstring>

#include "../formats.h"
#include "../half.h"

namespace slm::neon {

struct Lanes {
  static constexpr int kRows = 2, kTokens = 2;   // 16 sums, 8 weights, 4 inputs of the 32 registers
  static constexpr int kQueries = 6, kWide = 1;  // 24 sums, 4 of the keys or values, broadcasts

  float32x4_t v[4];

  static Lanes broadcast(float x) { return {{vdupq_n_f32(x), vdupq_n_f32(x), vdupq_n_f32(x), vdupq_n_f32(x)}}; }
  static Lanes zero() { return broadcast(0.0f); }

  static Lanes load(const float* p) { return {{vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)}}; }
  static Lanes load(const float* p, int64_t n) {
    if (n == 16) return load(p);
    float padded[16] = {};
    std::memcpy(padded, p, static_cast<size_t>(n) * 4);
    return load(padded);
  }
  static Lanes load_half(const uint16_t* p) {
    const auto four = [p](int i) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i))); };
    return {{four(0), four(1), four(2), four(3)}};
  }
  static Lanes load_half(const uint16_t* p, int64_t n) {
    if (n == 16) return load_half(p);
    uint16_t padded[16] = {};
    std::memcpy(padded, p, static_cast<size_t>(n) * 2);
    return load_half(padded);
  }
  static Lanes load_int8(const int8_t* p) {
    const int8x16_t bytes = vld1q_s8(p);
    const int16x8_t lo = vmovl_s8(vget_low_s8(bytes)), hi = vmovl_s8(vget_high_s8(bytes));
    const auto four = [](int16x4_t i) { return vcvtq_f32_s32(vmovl_s16(i)); };
    return {{four(vget_low_s16(lo)), four(vget_high_s16(lo)), four(vget_low_s16(hi)), four(vget_high_s16(hi))}};
  }
  static Lanes load_int8(const int8_t* p, int64_t n) {
    if (n == 16) return load_int8(p);
    int8_t padded[16] = {};
    std::memcpy(padded, p, static_cast<size_t>(n));
    return load_int8(padded);
  }
  static Lanes load_bf16(const uint16_t* p) {
    const auto four = [p](int i) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p + 4 * i), 16)); };
    return {{four(0), four(1), four(2), four(3)}};
  }
  static Lanes load_bf16(const uint16_t* p, int64_t n) {
    if (n == 16) return load_bf16(p);
    uint16_t padded[16] = {};
    std::memcpy(padded, p, static_cast<size_t>(n) * 2);
    return load_bf16(padded);
  }

  void store(float* p) const {
    for (int i = 0; i < 4; ++i) vst1q_f32(p + 4 * i, v[i]);
  }
  void store(float* p, int64_t n) const {
    if (n == 16) return store(p);
    float all[16];
    store(all);
    std::memcpy(p, all, static_cast<size_t>(n) * 4);
  }
  void store_half(uint16_t* p) const {
    for (int i = 0; i < 4; ++i) vst1_u16(p + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(v[i])));
  }
  void store_half(uint16_t* p, int64_t n) const {
    if (n == 16) return store_half(p);
    uint16_t all[16];
    store_half(all);
    std::memcpy(p, all, static_cast<size_t>(n) * 2);
  }
  void store_int8(int8_t* p) const { vst1q_s8(p, bytes()); }
  void store_int8(int8_t* p, int64_t n) const {
    if (n == 16) return store_int8(p);
    int8_t all[16];
    store_int8(all);
    std::memcpy(p, all, static_cast<size_t>(n));
  }

  // Rounded to the nearest integers, ties to even.
  int8x16_t bytes() const {
    const auto eight = [this](int i) {
      return vcombine_s16(vmovn_s32(vcvtnq_s32_f32(v[i])), vmovn_s32(vcvtnq_s32_f32(v[i + 1])));
    };
    return vcombine_s8(vmovn_s16(eight(0)), vmovn_s16(eight(2)));
  }
};

template <class F>
inline Lanes each(F f) {
  return {{f(0), f(1), f(2), f(3)}};
}

inline Lanes operator+(Lanes a, Lanes b) { return each([&](int i) { return vaddq_f32(a.v[i], b.v[i]); }); }
inline Lanes operator-(Lanes a, Lanes b) { return each([&](int i) { return vsubq_f32(a.v[i], b.v[i]); }); }
inline Lanes operator*(Lanes a, Lanes b) { return each([&](int i) { return vmulq_f32(a.v[i], b.v[i]); }); }
inline Lanes operator/(Lanes a, Lanes b) { return each([&](int i) { return vdivq_f32(a.v[i], b.v[i]); }); }
inline Lanes fma(Lanes a, Lanes b, Lanes c) {
  return each([&](int i) { return vfmaq_f32(c.v[i], a.v[i], b.v[i]); });
}
// Not fmax and fmin, which give NaN where either is NaN.
inline float32x4_t max(float32x4_t a, float32x4_t b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
inline Lanes max(Lanes a, Lanes b) { return each([&](int i) { return max(a.v[i], b.v[i]); }); }
inline Lanes min(Lanes a, Lanes b) {
  return each([&](int i) { return vbslq_f32(vcltq_f32(a.v[i], b.v[i]), a.v[i], b.v[i]); });
}

inline Lanes zero_where_less(Lanes x, Lanes limit, Lanes value) {
  return each([&](int i) {
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(value.v[i]), vcltq_f32(x.v[i], limit.v[i])));
  });
}
inline Lanes power_of_two(Lanes shifted) {
  return each([&](int i) {
    const uint32x4_t biased = vaddq_u32(vreinterpretq_u32_f32(shifted.v[i]), vdupq_n_u32(127));
    return vreinterpretq_f32_u32(vshlq_n_u32(biased, 23));
  });
}
inline Lanes within(int64_t begin, int64_t end, Lanes a, Lanes b) {
  const int32_t first[4] = {0, 1, 2, 3};
  const int32x4_t least = vdupq_n_s32(static_cast<int32_t>(begin)), above = vdupq_n_s32(static_cast<int32_t>(end));
  return each([&](int i) {
    const int32x4_t lane = vaddq_s32(vld1q_s32(first), vdupq_n_s32(4 * i));
    return vbslq_f32(vandq_u32(vcgeq_s32(lane, least), vcltq_s32(lane, above)), a.v[i], b.v[i]);
  });
}

inline float sum(Lanes a) {
  const float32x4_t four = vaddq_f32(vaddq_f32(a.v[0], a.v[2]), vaddq_f32(a.v[1], a.v[3]));
  const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
  return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}
inline float largest(Lanes a) {
  const float32x4_t four = max(max(a.v[0], a.v[2]), max(a.v[1], a.v[3]));
  float v[4];
  vst1q_f32(v, four);
  const float even = v[0] > v[2] ? v[0] : v[2], odd = v[1] > v[3] ? v[1] : v[3];
  return even > odd ? even : odd;
}

}  // namespace slm::neon
