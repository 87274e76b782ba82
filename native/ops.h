// The ops as bind.cpp calls them: each cut into ranges that the threads share. Contracts: kernels.h.
#pragma once

#include "kernels.h"

namespace slm {

struct Segments {
  const int32_t *starts, *positions, *blocks;
  int64_t sequences, most_blocks;
};

enum class Packing { q4, q8, q4_s, q4_k, q5_k, q6_k };

void matmul_packed(const Kernels& kernels, const Packed& w, Packing packing, const float* x, int64_t tokens,
                   float* out);
void matmul_dense(const Kernels& kernels, const Dense& w, const float* x, int64_t tokens, float* out);
void rms_norm(const Kernels& kernels, const float* x, const float* weight, float eps, int64_t tokens, int64_t dim,
              float* out);
void layer_norm(const Kernels& kernels, const float* x, const float* weight, const float* bias, float eps, int64_t tokens,
                int64_t dim, float* out);
void silu_mul(const Kernels& kernels, const float* x, int64_t tokens, int64_t dim, float* out);
// Sparsemixer: of each token's scores [tokens, experts] the two largest, and a weight for each (ops/reference.py: route).
void route(const float* scores, int64_t tokens, int64_t experts, float eps, int32_t* chosen, float* weights);
// One token drawn from a row of logits, by the number u of [0, 1) (ops/reference.py: draw); -1 if all are -inf.
int32_t draw(const float* logits, int64_t vocab, double temperature, int64_t top_k, double top_p, double min_p, double u);
void gelu(const Kernels& kernels, const float* x, int64_t count, float* out);
void quick_gelu(const Kernels& kernels, const float* x, int64_t count, float* out);
// x += y.
void add(float* x, const float* y, int64_t count);
// x[t, i] += bias[i].
void add_bias(float* x, const float* bias, int64_t tokens, int64_t dim);

// Heads of x at their places among those of out: out[t][places[h]] = x[t][h].
// x: [tokens][heads][head_dim], tokens the stride apart.   out: [tokens][out_heads][head_dim].
struct PlaceHeads {
  const float* x;
  const int32_t* places;
  float* out;
  int64_t tokens, heads, head_dim, stride, out_heads;
};
void place_heads(const PlaceHeads& p);
void gegelu(const Kernels& kernels, const float* x, float limit, int64_t tokens, int64_t dim, float* out);
void rotate_and_cache(const Kernels& kernels, const RotateAndCache& r);

// softmax(scale q k^T) v within each run of `length` rows, of which each sees all.
// q, k, v: [tokens][heads][head_dim], tokens the strides apart.   out: [tokens][heads * head_dim].
struct Encode {
  const float *q, *k, *v;
  float* out;
  int64_t tokens, length, heads, head_dim, q_stride, k_stride, v_stride;
  float scale;
};
void encode(const Kernels& kernels, const Encode& e);
void attention(const Kernels& kernels, const Attention& a, const Segments& segments);

// out[i] = row ids[i] of the matrix in float32: [count, k].
void embed_dense(const Dense& w, const int32_t* ids, int64_t count, float* out);
void embed_packed(const Packed& w, Packing packing, const int32_t* ids, int64_t count, float* out);

}  // namespace slm
