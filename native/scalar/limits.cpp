// Contract: kernels.h (Read, Multiply).
#include <cstring>

#include "scalar.h"

namespace slm::scalar {

uint64_t read(const void* data, int64_t bytes) {
  const char* p = static_cast<const char*>(data);
  uint64_t sums[4] = {};
  for (int64_t i = 0; i + 32 <= bytes; i += 32)
    for (int j = 0; j < 4; ++j) {
      uint64_t word;
      std::memcpy(&word, p + i + 8 * j, 8);
      sums[j] += word;
    }
  return sums[0] ^ sums[1] ^ sums[2] ^ sums[3];
}

int64_t multiply(int64_t rounds) {
  volatile int32_t x = 3;
  int32_t sums[8] = {};
  for (int64_t i = 0; i < rounds; ++i)
    for (int32_t& sum : sums) sum += x * 2;
  x = sums[0] ^ sums[1] ^ sums[2] ^ sums[3] ^ sums[4] ^ sums[5] ^ sums[6] ^ sums[7];
  return 8;
}

}  // namespace slm::scalar
