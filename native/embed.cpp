// Rows of a matrix in any format, as float32.
#include <cstring>

#include "half.h"
#include "ops.h"
#include "q4_s.h"
#include "super.h"

namespace slm {

void embed_dense(const Dense& w, const int32_t* ids, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i, out += w.k) {
    const int64_t row = static_cast<int64_t>(ids[i]) * w.k;
    if (w.number == Number::f32) {
      std::memcpy(out, static_cast<const float*>(w.data) + row, static_cast<size_t>(w.k) * sizeof(float));
      continue;
    }
    const uint16_t* numbers = static_cast<const uint16_t*>(w.data) + row;
    for (int64_t j = 0; j < w.k; ++j)
      out[j] = w.number == Number::f16 ? float_of_half(numbers[j]) : float_of_bf16(numbers[j]);
  }
}

// Input i (0..31) of row r of a group of the packed layouts.
static int integer(const uint8_t* data, Packing packing, int64_t group, int r, int i) {
  if (packing == Packing::q8) return static_cast<int8_t>(data[group * 512 + 64 * (i / 4) + 4 * r + i % 4]);
  const uint8_t both = data[group * 256 + 64 * (i / 8) + 4 * r + i % 4];
  return (i % 8 < 4 ? both & 15 : both >> 4) - 8;
}

// The definition of src/slmkit/ops/superblocks.py, rounded after the same operations.
template <int kBits>
void embed_super(const Packed& w, const int32_t* ids, int64_t count, float* out) {
  using S = Super<kBits>;
  for (int64_t n = 0; n < count; ++n) {
    const int r = ids[n] % kTile;
    const uint8_t* header = w.data + ids[n] / kTile * (w.k / kSuper) * S::kBytes;
    for (int64_t s = 0; s < w.k / kSuper; ++s, header += S::kBytes) {
      const float d = super_scale(header, r);
      for (int i = 0; i < kSuper; ++i) {
        const uint8_t* group = header + S::kHeader + i / kGroup * S::kGroupBytes;
        const float q = static_cast<float>(super_integer<kBits>(group, r, i % kGroup));
        if constexpr (kBits == 6) {
          const float scale = static_cast<int8_t>(group[r + i % kGroup / 16 * kTile]);
          *out++ = d * scale * (q - 32.0f);
        } else {
          *out++ = d * static_cast<float>(group[r]) * q - super_scale(header + 32, r) * static_cast<float>(group[16 + r]);
        }
      }
    }
  }
}

static void embed_q4_s(const Packed& w, const int32_t* ids, int64_t count, float* out) {
  for (int64_t n = 0; n < count; ++n) {
    const int r = ids[n] % kTile;
    const uint8_t* tile = w.data + ids[n] / kTile * q4s_tile_bytes(w.k);
    for (int64_t i = 0; i < w.k; ++i) {
      const uint8_t* super = q4s_super(tile, i / kSuper);
      *out++ = q4s_d(super, r) * static_cast<float>(q4s_product(super, r, static_cast<int>(i % kSuper)));
    }
  }
}

void embed_packed(const Packed& w, Packing packing, const int32_t* ids, int64_t count, float* out) {
  if (packing == Packing::q4_s) return embed_q4_s(w, ids, count, out);
  if (packing == Packing::q4_k) return embed_super<4>(w, ids, count, out);
  if (packing == Packing::q5_k) return embed_super<5>(w, ids, count, out);
  if (packing == Packing::q6_k) return embed_super<6>(w, ids, count, out);
  for (int64_t n = 0; n < count; ++n, out += w.k) {
    const int64_t tile = ids[n] / kTile;
    const int r = ids[n] % kTile;
    for (int64_t i = 0; i < w.k; ++i) {
      const int64_t group = tile * w.groups + i / kGroup;
      const int q = integer(w.data, packing, group, r, static_cast<int>(i % kGroup));
      out[i] = static_cast<float>(q) * float_of_half(w.scale[group * kTile + r]);
    }
  }
}

}  // namespace slm
