// gelu(x) = x Phi(x), Phi the normal distribution, and quick_gelu(x) = x / (1 + exp(-1.702 x)). Contract: kernels.h.
//
// gelu(x) = max(x, 0) - t Phi(-t), t = |x|: no difference of nearly equal numbers. Phi(-t) = u exp(p(u) - t^2 / 2) with
// u = 1 / (1 + 0.32 t); p is the polynomial of degree 9 whose largest error of log(Phi(-t) / u) + t^2 / 2 on 0 <= t <=
// 13.5 is least (9e-9). Within 1e-6 of the true value, relative, where |x| < 5.
#pragma once

#include "exp.h"
#include "kernels.h"

namespace slm {

template <class L>
inline L gelu_lanes(L x) {
  const L zero = L::zero(), one = L::broadcast(1.0f);
  const L t = min(max(x, zero - x), L::broadcast(20.0f));  // beyond 14 all is 0, and infinity would be NaN
  const L u = one / fma(L::broadcast(0.32f), t, one);
  L p = L::broadcast(0x1.7dad1cp-3f);
  p = fma(p, u, L::broadcast(-0x1.0cfa0ap+0f));
  p = fma(p, u, L::broadcast(0x1.2f33a2p+1f));
  p = fma(p, u, L::broadcast(-0x1.508f08p+1f));
  p = fma(p, u, L::broadcast(0x1.80acf0p+0f));
  p = fma(p, u, L::broadcast(-0x1.5ec2eep-1f));
  p = fma(p, u, L::broadcast(0x1.3414d8p-2f));
  p = fma(p, u, L::broadcast(0x1.7a09cep-2f));
  p = fma(p, u, L::broadcast(0x1.00ae8ep+0f));
  p = fma(p, u, L::broadcast(-0x1.077c4cp+1f));
  p = fma(L::broadcast(-0.5f) * t, t, p);
  return max(zero, x) - t * (u * exp_lanes(p));
}

template <class L>
inline L quick_gelu_lanes(L x) {
  return x / (L::broadcast(1.0f) + exp_lanes(L::broadcast(-1.702f) * x));
}

template <class L>
void gelu(const float* x, int64_t count, float* out) {
  for (int64_t i = 0; i < count; i += 16) {
    const int64_t n = count - i < 16 ? count - i : 16;
    gelu_lanes(L::load(x + i, n)).store(out + i, n);
  }
}

template <class L>
void quick_gelu(const float* x, int64_t count, float* out) {
  for (int64_t i = 0; i < count; i += 16) {
    const int64_t n = count - i < 16 ? count - i : 16;
    quick_gelu_lanes(L::load(x + i, n)).store(out + i, n);
  }
}

}  // namespace slm
