// Products with plain numbers: 16 partial sums for each output, input i to sum i mod 16 by fma in order (the last ones
// padded with zeros), then the halving tree. Contract: kernels.h.
#pragma once

#include "kernels.h"

namespace slm {

template <class L, Number kNumber>
inline L load_weights(const void* data, int64_t index, int64_t n) {
  if constexpr (kNumber == Number::f32) return L::load(static_cast<const float*>(data) + index, n);
  if constexpr (kNumber == Number::f16) return L::load_half(static_cast<const uint16_t*>(data) + index, n);
  if constexpr (kNumber == Number::bf16) return L::load_bf16(static_cast<const uint16_t*>(data) + index, n);
}

// kRows x kTokens outputs at once; each weight is loaded and widened once for all tokens.
template <class L, Number kNumber, int kRows, int kTokens>
inline void dense_tile(const Dense& w, int64_t row, const float* x, float* out) {
  L acc[kRows][kTokens];
  for (int r = 0; r < kRows; ++r)
    for (int t = 0; t < kTokens; ++t) acc[r][t] = L::zero();
  const auto step = [&](int64_t i, int64_t n) {
    L weights[kRows];
    for (int r = 0; r < kRows; ++r) weights[r] = load_weights<L, kNumber>(w.data, (row + r) * w.k + i, n);
    for (int t = 0; t < kTokens; ++t) {
      const L inputs = L::load(x + t * w.k + i, n);
      for (int r = 0; r < kRows; ++r) acc[r][t] = fma(weights[r], inputs, acc[r][t]);
    }
  };
  int64_t i = 0;
  for (; i + 16 <= w.k; i += 16) step(i, 16);
  if (i < w.k) step(i, w.k - i);
  for (int r = 0; r < kRows; ++r)
    for (int t = 0; t < kTokens; ++t) out[t * w.n + row + r] = sum(acc[r][t]);
}

template <class L, Number kNumber, int kRows>
void dense_rows(const Dense& w, int64_t row, const float* x, int64_t tokens, float* out) {
  int64_t t = 0;
  for (; t + L::kTokens <= tokens; t += L::kTokens)
    dense_tile<L, kNumber, kRows, L::kTokens>(w, row, x + t * w.k, out + t * w.n);
  for (; t < tokens; ++t) dense_tile<L, kNumber, kRows, 1>(w, row, x + t * w.k, out + t * w.n);
}

template <class L, Number kNumber>
void dense_range(const Dense& w, int64_t row_begin, int64_t row_end, const float* x, int64_t tokens, float* out) {
  int64_t row = row_begin;
  if (tokens == 1) {  // as many sums at once as for several tokens, all of different rows
    constexpr int kAlone = L::kRows * L::kTokens;
    for (; row + kAlone <= row_end; row += kAlone) dense_tile<L, kNumber, kAlone, 1>(w, row, x, out);
  }
  for (; row + L::kRows <= row_end; row += L::kRows) dense_rows<L, kNumber, L::kRows>(w, row, x, tokens, out);
  for (; row < row_end; ++row) dense_rows<L, kNumber, 1>(w, row, x, tokens, out);
}

template <class L>
void matmul_dense(const Dense& w, int64_t row_begin, int64_t row_end, const float* x, int64_t tokens, float* out) {
  switch (w.number) {
    case Number::f32: return dense_range<L, Number::f32>(w, row_begin, row_end, x, tokens, out);
    case Number::f16: return dense_range<L, Number::f16>(w, row_begin, row_end, x, tokens, out);
    case Number::bf16: return dense_range<L, Number::bf16>(w, row_begin, row_end, x, tokens, out);
  }
}

}  // namespace slm
