// Contract: kernels.h. Layout: formats.h.
//
// For few tokens the weights as stored, 0..15, are multiplied; a part's sum starts where the token says, which undoes
// the 8, and is then multiplied with the part's scale. For many tokens the weights are unpacked to scale times integer,
// -56..64, which are 8 bits, and a superblock is one sum. panel.h has what differs with the instructions there are.
#include "panel.h"

namespace slm::neon {
namespace {

constexpr int kUnits = kSuper / kUnit;

// Part j of a unit for kTokens tokens, added to their totals; it is part p of the superblock.
template <int kTokens, int j>
inline void add_part(const uint8_t* unit, const uint32x4_t* words, const WideActivation* x, int64_t stride, int p,
                     int32x4_t (*totals)[kQuads]) {
  int8x16_t q[kTokens];
  int32x4_t start[kTokens];
  for (int i = 0; i < kTokens; ++i) {
    q[i] = vld1q_s8(x[i * stride].q + kPart * p);
    start[i] = start_of(x[i * stride].start8[p], 1);
  }
  for (int quad = 0; quad < kQuads; ++quad) {
    const Part part = nibbles(unit + 2 * kTile + 128 * j, quad);
    const int32x4_t scales = scales_of<j>(words[quad]);
    for (int i = 0; i < kTokens; ++i)
      totals[i][quad] = vmlaq_s32(totals[i][quad], dot(start[i], part, q[i]), scales);
  }
}

// One tile for kTokens tokens straight from the packed bytes: for few tokens, where reading the weights is what counts.
template <int kTokens>
void packed_tile(const uint8_t* data, int64_t units, const WideActivation* x, int64_t stride, int64_t t, Rows rows) {
  float32x4_t acc[kTokens][kQuads];
  for (auto& quads : acc)
    for (float32x4_t& sum : quads) sum = vdupq_n_f32(0.0f);
  x += t * stride;
  for (; units > 0; units -= kUnits, ++x) {
    const int here = static_cast<int>(units < kUnits ? units : kUnits);
    const uint8_t* header = data;
    data += kSuperHeader;
    int32x4_t totals[kTokens][kQuads];
    for (auto& quads : totals)
      for (int32x4_t& total : quads) total = vdupq_n_s32(0);
    for (int u = 0; u < here; ++u, data += kUnitBytes) {
      prefetch<kUnitBytes>(data);
      uint32x4_t words[kQuads];
      for (int quad = 0; quad < kQuads; ++quad) words[quad] = scale_words(data, quad);
      add_part<kTokens, 0>(data, words, x, stride, 4 * u, totals);
      add_part<kTokens, 1>(data, words, x, stride, 4 * u + 1, totals);
      add_part<kTokens, 2>(data, words, x, stride, 4 * u + 2, totals);
      add_part<kTokens, 3>(data, words, x, stride, 4 * u + 3, totals);
    }
    for (int quad = 0; quad < kQuads; ++quad) {
      const float32x4_t d = half_floats(header, quad);
      for (int i = 0; i < kTokens; ++i)
        acc[i][quad] = collect(totals[i][quad], d, x[i * stride].scale, acc[i][quad]);
    }
  }
  for (int i = 0; i < kTokens; ++i) rows.store(t + i, acc[i]);
}

// The panels of so many units for kTokens tokens; x: the first panel's inputs. Added to what is there, if not `fresh`.
template <int kTokens>
void panel_tile(const Panel* panel, int64_t units, bool fresh, const UnsignedActivation* x, int64_t block_stride,
                int64_t t, Rows rows) {
  x += t;
  for (; units > 0; units -= kUnits, ++panel, x += block_stride, fresh = false) {
    const int parts = static_cast<int>(units < kUnits ? units : kUnits) * (kUnit / kPart);
    int32x4_t totals[kTokens][kQuads];
    sum_panel<kTokens>(*panel, parts, x, totals);
    for (int i = 0; i < kTokens; ++i) {
      float32x4_t acc[kQuads] = {};
      if (!fresh) rows.load(t + i, acc);
      for (int quad = 0; quad < kQuads; ++quad)
        acc[quad] = collect(totals[i][quad], vld1q_f32(panel->d + 4 * quad), x[i].scale, acc[quad]);
      rows.store(t + i, acc);
    }
  }
}

const uint8_t* unpack(const uint8_t* data, int64_t units, Panel& panel) {
  for (int quad = 0; quad < kQuads; ++quad) vst1q_f32(panel.d + 4 * quad, half_floats(data, quad));
  data += kSuperHeader;
  for (int u = 0; u < units; ++u, data += kUnitBytes) {
    prefetch<kUnitBytes>(data);
    for (int quad = 0; quad < kQuads; ++quad) {
      const uint32x4_t words = scale_words(data, quad);
      put_part(panel, 4 * u, quad, products_of<0>(data, words, quad));
      put_part(panel, 4 * u + 1, quad, products_of<1>(data, words, quad));
      put_part(panel, 4 * u + 2, quad, products_of<2>(data, words, quad));
      put_part(panel, 4 * u + 3, quad, products_of<3>(data, words, quad));
    }
  }
  return data;
}

constexpr int64_t kFewTokens = 8;  // up to here a tile is read packed

}  // namespace

void matmul_q4_s(const Packed& w, int64_t tile_begin, int64_t tile_end, const WideInputs& x, int64_t tokens, float* out,
                 void* scratch) {
  const int64_t blocks = (w.k + kSuper - 1) / kSuper, all_units = q4s_units(w.k), tile_bytes = q4s_tile_bytes(w.k);
  if (tokens <= kFewTokens) {
    for (int64_t tile = tile_begin; tile < tile_end; ++tile) {
      const uint8_t* data = w.data + tile * tile_bytes;
      in_fours(tokens, [&](int64_t t, auto n) {
        packed_tile<decltype(n)::value>(data, all_units, x.by_token, blocks, t, Rows(w, tile, out));
      });
    }
    return;
  }
  auto* panels = static_cast<Panel*>(scratch);
  // Panels of some superblocks for all tiles, then the next: their inputs, for all tokens, stay in a level 2 cache.
  for (int64_t first = 0; first < blocks; first += kPanelBlocks) {
    const int64_t left = all_units - first * kUnits;
    const int64_t units = left < kPanelBlocks * kUnits ? left : kPanelBlocks * kUnits;
    const UnsignedActivation* inputs = x.by_block + first * x.block_stride;
    for (int64_t tile = tile_begin; tile < tile_end; ++tile) {
      const uint8_t* data = w.data + tile * tile_bytes + first * (kSuperHeader + kUnits * kUnitBytes);
      for (int64_t b = 0; b * kUnits < units; ++b)
        data = unpack(data, units - b * kUnits < kUnits ? units - b * kUnits : kUnits, panels[b]);
      in_fours(tokens, [&](int64_t t, auto n) {
        panel_tile<decltype(n)::value>(panels, units, first == 0, inputs, x.block_stride, t, Rows(w, tile, out));
      });
    }
  }
}

}  // namespace slm::neon
