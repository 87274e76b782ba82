// What the kernels read, byte by byte. The packed layouts are explained in src/slmkit/ops/matrix.py.
#pragma once

#include <cstdint>

namespace slm {

constexpr int kTile = 16;    // rows of a packed tile: the 32-bit lanes of a 512-bit register
constexpr int kGroup = 32;   // inputs that share a scale
constexpr int kBlock = 32;   // tokens of a cache block

// A packed weight matrix [n, k].
// data:  q8: [tiles][groups][512] int8;  q4: [tiles][groups][256], two weights a byte, 8 added.
// scale: [tiles][groups][16] float16.
struct Packed {
  const uint8_t* data;
  const uint16_t* scale;
  int64_t n, k, tiles, groups;
};

// A group of 32 inputs of one token, rounded to integers:  x[i] = scale * q[i].
// One token's groups lie one after the other, so that a product reads one stream for each token.
//
// scale = max|x| / 127 and q = rint(x * (1 / scale)), ties to even. A group whose scale would be below the smallest
// normal float is all zero; one that holds a NaN or an infinity has scale NaN and q = 0, so the result shows it.
// offset = -8 * sum(q): what a sum with q4's stored weights must start from to undo the 8 that was added to them.
struct Activation {
  int8_t q[kGroup];
  float scale;
  int32_t offset;
};
static_assert(sizeof(Activation) == 40, "kernels step through these by 40 bytes");

enum class Number { f32, f16, bf16 };

// A row-major [n, k] matrix of plain numbers.
struct Dense {
  const void* data;
  Number number;
  int64_t n, k;
};

// One layer of the cache; `cells` is the start of cache[0, layer, 0, 0], strides count elements.
// Keys lie as [head_dim][32], values as [32][head_dim].
struct Cache {
  void* cells;
  Number number;  // f32 or f16
  int64_t block_stride, value_offset, head_stride;
  int64_t blocks, kv_heads, head_dim;
};

}  // namespace slm
