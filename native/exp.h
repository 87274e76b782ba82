// exp(x) of 16 lanes, within 1.3 * 2^-24 of the true value: 0 below -87.3365 (so exp(-inf) is exactly 0), infinity
// above 88.376, NaN of NaN.
//
// x = n ln 2 + r, n the nearest integer, |r| <= ln 2 / 2; exp(x) = 2^n p(r). p is the polynomial of degree 6 whose
// largest relative error on that interval is least among those that start 1 + r (3e-9); ln 2 is split so that
// n * (first part) is exact.
#pragma once

namespace slm {

template <class L>
inline L exp_lanes(L x) {
  const L low = L::broadcast(-87.3365f), high = L::broadcast(88.7f);
  const L magic = L::broadcast(12582912.0f);  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
  const L clamped = min(high, max(low, x));
  const L shifted = fma(clamped, L::broadcast(0x1.715476p+0f), magic);
  const L n = shifted - magic;
  L r = fma(n, L::broadcast(-0x1.62e400p-1f), clamped);
  r = fma(n, L::broadcast(-0x1.7f7d1cp-20f), r);
  L p = L::broadcast(0x1.6a2352p-10f);
  p = fma(p, r, L::broadcast(0x1.123a6cp-7f));
  p = fma(p, r, L::broadcast(0x1.5558f4p-5f));
  p = fma(p, r, L::broadcast(0x1.555490p-3f));
  p = fma(p, r, L::broadcast(0x1.fffffcp-2f));
  p = fma(p, r, L::broadcast(1.0f));
  p = fma(p, r, L::broadcast(1.0f));
  return zero_where_less(x, low, p * power_of_two(shifted));
}

}  // namespace slm
