// What the kernels read, byte by byte. The packed layouts are explained in src/slmkit/ops/matrix.py.
#pragma once

#include <cstdint>

namespace slm {

constexpr int kTile = 16;    // rows of a packed tile: the 32-bit lanes of a 512-bit register
constexpr int kGroup = 32;   // inputs that share a scale
constexpr int kBlock = 32;   // tokens of a cache block
constexpr int kSuper = 256;  // inputs of a superblock of the K formats

// A packed weight matrix [n, k].
// data:  q8: [tiles][groups][512] int8;  q4: [tiles][groups][256], two weights a byte, 8 added;
//        K formats: [tiles][k / 256][Super<bits>::kBytes].
//        q4_s: [tiles][q4s_tile_bytes(k)].
// scale: [tiles][groups][16] float16; none of K formats and of q4_s.
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
struct Activation {
  int8_t q[kGroup];
  float scale;
  float sum;  // scale * sum(q), for the K formats' minima
  // What sums of unsigned weights start from, to undo what was added to the weights. Kernels sum pairs of inputs side by
  // side: [0] is of the inputs 4 i, 4 i + 1 and [1] of 4 i + 2, 4 i + 3.
  int16_t start8[2];      // -8 * sum(q), of all inputs (q4: 8 was added)
  int16_t start32[2][2];  // -32 * sum(q), of inputs 0..15 and of 16..31 (q6_k: 32 was added)
};
static_assert(sizeof(Activation) == 52, "kernels step through these by 52 bytes");

// A superblock of q4_k, q5_k or q6_k: kHeader bytes of float16 scales, then 8 groups of 32 inputs, each 32 bytes of 8-bit
// scales, kHigh bytes of high bits, and 256 bytes of nibbles.
template <int kBits>
struct Super {
  static constexpr int kHeader = kBits == 6 ? 32 : 64;
  static constexpr int kScales = 32, kHigh = 64 * (kBits - 4);
  static constexpr int kGroupBytes = kScales + kHigh + 256;
  static constexpr int kBytes = kHeader + kSuper / kGroup * kGroupBytes;
};
static_assert(Super<4>::kBytes == 2368 && Super<5>::kBytes == 2880 && Super<6>::kBytes == 3360, "as matrix.py says");

// q4_s: a tile is a stream of superblocks of 256 inputs, the last one cut to whole units. A superblock is 16 float16 d,
// then its units of 64 inputs, each 16 words of scales (bits 4 j of a row's word: the scale of inputs 16 j .. 16 j + 15,
// -8..7 as two's complement) and 512 bytes of nibbles laid out as q4.
//   weight[row, i] = d * (scale * integer): the product in brackets is -56..64, an 8-bit integer.
constexpr int kUnit = 64, kPart = 16;  // inputs of a unit, and those that share a scale
constexpr int kUnitBytes = 2 * kTile + kUnit * kTile / 2, kSuperHeader = 2 * kTile;
constexpr int64_t q4s_units(int64_t k) { return (k + kUnit - 1) / kUnit; }
constexpr int64_t q4s_tile_bytes(int64_t k) {
  return (k + kSuper - 1) / kSuper * kSuperHeader + q4s_units(k) * kUnitBytes;
}

// 256 inputs of one token, rounded to integers as in Activation:  x[i] = scale * q[i].  For q4_s.
struct alignas(64) WideActivation {
  int8_t q[kSuper];
  float scale;
  union {  // as in Activation, of each 16 inputs: each set fills the one that its kernels read
    int16_t start8[kSuper / kPart][2];
    int32_t whole_start8[kSuper / kPart];  // both together: avx512
  };
};
// The same for products whose weights are the signed side.
struct alignas(64) UnsignedActivation {
  uint8_t u[kSuper];  // q + 128
  float scale;
};
// Both, of some tokens. In the second one, tokens lie side by side, so that what a panel of weights meets is one stream.
struct WideInputs {
  const WideActivation* by_token;    // [tokens][blocks]
  const UnsignedActivation* by_block;  // [blocks][block_stride]
  int64_t block_stride;
};

enum class Number { f32, f16, bf16 };

// A row-major [n, k] matrix of plain numbers.
struct Dense {
  const void* data;
  Number number;
  int64_t n, k;
};

// One layer of the cache; `cells` is the start of cache[0, layer, 0, 0], strides count elements.
// Keys lie as [head_dim][32], values as [32][head_dim]. q8: int8, and after each of both 32 float scales, one a token.
enum class CacheType { f32, f16, q8 };
struct Cache {
  void* cells;
  CacheType type;
  int64_t block_stride, value_offset, head_stride;
  int64_t blocks, kv_heads, head_dim;
};

}  // namespace slm
