// Float multiply-adds in registers, for the machine's limit. Contract: kernels.h (MultiplyAdd).
#pragma once

#include "kernels.h"

namespace slm {

template <class L>
int64_t multiply_add(int64_t rounds) {
  constexpr int kSums = 6;  // two registers each where a register holds eight floats: enough to hide the latency
  L sums[kSums];
  for (int i = 0; i < kSums; ++i) sums[i] = L::broadcast(static_cast<float>(i));
  const L x = L::broadcast(0.999f), y = L::broadcast(0.5f);
  for (int64_t i = 0; i < rounds; ++i)
    for (L& sum : sums) sum = fma(sum, x, y);
  L all = sums[0];
  for (int i = 1; i < kSums; ++i) all = all + sums[i];
  volatile float sink = largest(all);
  (void)sink;
  return kSums * 16;
}

}  // namespace slm
