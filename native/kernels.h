// The table of kernels that each instruction set fills: scalar/, avx2/, avx512/, neon/.
//
// Every set gives the same bits (docs/design.md has the orders of summation), so which one runs, and how the work was
// cut into ranges, never shows in a result. Kernels trust their arguments: bind.cpp has checked them.
#pragma once

#include "formats.h"

namespace slm {

// x of one token -> its k / 32 groups, the last one padded with zeros.
using Quantize = void (*)(const float* x, int64_t k, Activation* out);

// out[t, r] = sum over groups g, in order, by fma from 0, of float(sum_i w[r, g, i] x[t, g, i]) * (scale_w * scale_x),
// for the rows r of tiles [tile_begin, tile_end).
// x: [tokens][groups].   out: [tokens, n], row-major.   scratch: matmul_scratch(groups) bytes, 64-byte aligned.
// K formats: out = fma(float(isum), d * scale_x, out) with isum = sum_i scale_w w[r, g, i] x[t, g, i], exact in integers
// (w is 5 bits less 16 for q5_k, 6 bits less 32 for q6_k); then for q4_k and q5_k out = fma(least, scale_x sum_i x, out)
// with least = -(dmin min), for q5_k 16 (d scale) - (dmin min).
using MatmulPacked = void (*)(const Packed& w, int64_t tile_begin, int64_t tile_end, const Activation* x,
                              int64_t tokens, float* out, void* scratch);

// x of one token -> its blocks of 256, the last one padded with zeros; as unsigned numbers they are block_stride apart.
using QuantizeWide = void (*)(const float* x, int64_t k, WideActivation* out, UnsignedActivation* unsigned_out,
                              int64_t block_stride);

// q4_s. out[t, r] = sum over blocks b, in order, by fma from 0, of float(isum) * (d[r, b] * scale_x[t, b]), with
// isum = sum_i scale_w w[r, i] q[t, i] over the block, exact in integers.
// out: [tokens, n], row-major.   tokens: at most kWideTokens.   scratch: q4s_scratch bytes, 64-byte aligned.
using MatmulWide = void (*)(const Packed& w, int64_t tile_begin, int64_t tile_end, const WideInputs& x, int64_t tokens,
                            float* out, void* scratch);

// out[t, r] = sum_i w[r, i] x[t, i] for the rows r in [row_begin, row_end).
// x: [tokens, k].   out: [tokens, n].
using MatmulDense = void (*)(const Dense& w, int64_t row_begin, int64_t row_end, const float* x, int64_t tokens,
                             float* out);

// out[t, i] = x[t, i] * (1 / sqrt(mean_i(x[t, i]^2) + eps)) * weight[i].   x, out: [tokens, dim].
using RmsNorm = void (*)(const float* x, const float* weight, float eps, int64_t tokens, int64_t dim, float* out);

// out[t, i] = (x[t, i] - mean) * (1 / sqrt(mean_i((x[t, i] - mean)^2) + eps)) * weight[i] + bias[i], mean = mean_i(x[t, i]).
// x, out: [tokens, dim].
using LayerNorm = void (*)(const float* x, const float* weight, const float* bias, float eps, int64_t tokens,
                           int64_t dim, float* out);

// out[t, i] = gate / (1 + exp(-gate)) * up, gate = x[t, i], up = x[t, dim + i].   x: [tokens, 2 dim].
using SiluMul = void (*)(const float* x, int64_t tokens, int64_t dim, float* out);

// out[t, i] = g / (1 + exp(-1.702 g)) * (l + 1), g = min(x[t, 2 i], limit), l = x[t, 2 i + 1] within -limit .. limit;
// NaN where one of them is not finite.   x: [tokens, 2 dim].
using Gegelu = void (*)(const float* x, float limit, int64_t tokens, int64_t dim, float* out);

// out[i] = gelu(x[i]), or quick_gelu(x[i]): gelu.h.
using Activate = void (*)(const float* x, int64_t count, float* out);

// q with its heads' pairs (i, i + pairs) turned by the token's angles, the rest of a head copied, into out; k turned
// likewise, and v as it is, into the cache. heads / kv_heads heads of q go with each kv head of the range.
// q: [tokens][heads][head_dim], k, v: [tokens][kv_heads][head_dim], tokens the strides apart.   cos, sin: [tokens, pairs].
// slots: [tokens], block * 32 + offset.   out: contiguous.
// q8: scale = max|x| / 127 of a head's numbers and q = rint(x * (1 / scale)), ties to even; a scale below the smallest
// normal float counts as 0, and where a number is not finite the scale is NaN and q = 0.
struct RotateAndCache {
  Cache cache;
  const float *q, *k, *v, *cos, *sin;
  float* out;
  const int64_t* slots;
  int64_t tokens, heads, pairs, q_stride, k_stride, v_stride;
};
// scratch: rotate_scratch(head_dim) bytes.
using RotateAndCacheHeads = void (*)(const RotateAndCache& r, int64_t head_begin, int64_t head_end, void* scratch);

// softmax(scale q k^T) v of queries of one sequence.
// q: [tokens][heads][head_dim], tokens q_stride floats apart.   out: [tokens][heads * head_dim].
// A query at absolute position i sees keys j <= i with i - j < window (0: all).
// sparse.local not 0: in blocks of sparse.size cache blocks, head h in block i sees block j where i - j < local or
// (j + shifts[h]) % stride == 0. Cache blocks that no query sees are not touched.
struct Sparse {
  int64_t size, local, stride;
  const int32_t* shifts;  // [heads], 0 .. stride - 1
};
struct Attention {
  Cache cache;
  const float* q;
  float* out;
  int64_t q_stride, heads;
  float scale;
  int64_t window;
  Sparse sparse;
};
constexpr int64_t kMostQueries = 128;  // (row, head) pairs of one call: what widening a block is shared among
struct Queries {
  const int32_t* blocks;       // the sequence's cache blocks in order
  int64_t position;            // absolute position of the first query
  int64_t row_begin, row_end;  // rows of q and out; the first one is the query at `position`
  int64_t kv_begin, kv_end;    // kv heads; more than one only with all of their heads
  int64_t first, heads;        // of each kv head's heads, the first and how many; rows * kv heads * heads <= kMostQueries
  int64_t advance = 1;         // positions from one row to the next; 0: all rows see what the first one sees
};
// scratch: attention_scratch(head_dim) bytes, 64-byte aligned.
using AttentionQueries = void (*)(const Attention& a, const Queries& q, void* scratch);

// For `slm bench`. read: some function of all bytes, at full speed. multiply: does the given number of rounds of
// independent int8 multiply-adds in registers and returns how many multiply-adds a round has. multiply_add: of floats.
using Read = uint64_t (*)(const void* data, int64_t bytes);
using Multiply = int64_t (*)(int64_t rounds);

struct Kernels {
  const char* name;
  Quantize quantize;
  QuantizeWide quantize_wide;
  MatmulWide matmul_q4_s;
  MatmulPacked matmul_q4, matmul_q8, matmul_q4_k, matmul_q5_k, matmul_q6_k;
  MatmulDense matmul_dense;
  RmsNorm rms_norm;
  LayerNorm layer_norm;
  SiluMul silu_mul;
  Gegelu gegelu;
  Activate gelu, quick_gelu;
  RotateAndCacheHeads rotate_and_cache;
  AttentionQueries attention;
  Read read;
  Multiply multiply, multiply_add;
};

// Room for one unpacked tile, 512 bytes and up to 3 * 16 scales of 4 bytes a group, and for its results of up to 16
// tokens.
constexpr int64_t matmul_scratch(int64_t groups) { return groups * (512 + 3 * 64) + 16 * kTile * 4; }
constexpr int64_t kWideTokens = 264;
// Room for some superblocks of a tile unpacked (kPanelBlocks: 1,024 inputs, so that the panel stays in a level 1 cache),
// each 4,096 weights and 1,280 bytes of scales at most, and for the sums of 8 tiles.
constexpr int kPanelBlocks = 4;
constexpr int64_t q4s_scratch = kPanelBlocks * (4096 + 1280) + 8 * kTile * 4 * kWideTokens;
// Room for one head in float32.
constexpr int64_t rotate_scratch(int64_t head_dim) { return head_dim * 4; }
// Room for one block of keys and one of values in float32.
constexpr int64_t attention_scratch(int64_t head_dim) { return 2 * kBlock * head_dim * 4; }

extern const Kernels kScalar;
#ifdef SLMKIT_X86
extern const Kernels kAvx2, kAvx512;  // kAvx512 only if SLMKIT_AVX512
#endif
#ifdef SLMKIT_NEON
extern const Kernels kNeon, kNeonI8mm;  // kNeonI8mm only if SLMKIT_NEON_I8MM
#endif

}  // namespace slm
