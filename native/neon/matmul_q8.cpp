// Contract: kernels.h. Layout: formats.h. Dot products take signed bytes, so weights go as they are.
#include "pieces.h"

namespace slm::neon {

template <int kTokens>
static void tile_rows(const int8_t* data, const uint16_t* scale, int64_t groups, const Activation* x, int64_t t,
                      Rows rows) {
  float32x4_t acc[kTokens][kQuads];
  for (auto& quads : acc)
    for (float32x4_t& sum : quads) sum = vdupq_n_f32(0.0f);
  x += t * groups;
  for (int64_t g = 0; g < groups; ++g, data += 512, scale += kTile, ++x) {
    prefetch<512>(reinterpret_cast<const uint8_t*>(data));
    for (int quad = 0; quad < kQuads; ++quad) {
      const Part first = bytes_of(data, quad), second = bytes_of(data + 256, quad);
      const float32x4_t scales = half_floats(scale, quad);
      for (int i = 0; i < kTokens; ++i) {
        const Activation& token = x[i * groups];
        int32x4_t sum = dot(vdupq_n_s32(0), first, vld1q_s8(token.q));
        sum = dot(sum, second, vld1q_s8(token.q + 16));
        acc[i][quad] = collect(sum, scales, token.scale, acc[i][quad]);
      }
    }
  }
  for (int i = 0; i < kTokens; ++i) rows.store(t + i, acc[i]);
}

void matmul_q8(const Packed& w, int64_t tile_begin, int64_t tile_end, const Activation* x, int64_t tokens, float* out,
               void*) {
  for (int64_t tile = tile_begin; tile < tile_end; ++tile) {
    const auto* data = reinterpret_cast<const int8_t*>(w.data) + tile * w.groups * 512;
    const uint16_t* scale = w.scale + tile * w.groups * kTile;
    in_fours(tokens, [&](int64_t t, auto n) {
      tile_rows<decltype(n)::value>(data, scale, w.groups, x, t, Rows(w, tile, out));
    });
  }
}

}  // namespace slm::neon
