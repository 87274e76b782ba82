// The blocks' layouts are described in src/slmkit/weights/gguf/blocks.py, what is written in src/slmkit/ops/matrix.py.
#include "repack.h"

#include <atomic>
#include <cstring>
#include <vector>

#include "threads.h"

namespace slm {
namespace {

uint16_t half_at(const uint8_t* p) {
  uint16_t half;
  std::memcpy(&half, p, 2);
  return half;
}

bool finite(uint16_t half) { return (half & 0x7c00) != 0x7c00; }

// 32 integers 0..15 of row r as nibbles.
void write_nibbles(const uint8_t* q, int r, uint8_t* to) {
  for (int c = 0; c < 4; ++c) {
    uint32_t low, high;
    std::memcpy(&low, q + 8 * c, 4);
    std::memcpy(&high, q + 8 * c + 4, 4);
    const uint32_t both = low | high << 4;
    std::memcpy(to + 64 * c + 4 * r, &both, 4);
  }
}

void write_bytes(const int8_t* q, int r, uint8_t* to) {
  for (int c = 0; c < 8; ++c) std::memcpy(to + 64 * c + 4 * r, q + 4 * c, 4);
}

bool row_q4_0(const uint8_t* block, int64_t groups, int r, uint8_t* data, uint16_t* scale) {
  bool all_finite = true;
  for (int64_t g = 0; g < groups; ++g, block += 18) {
    uint8_t q[kGroup];
    for (int i = 0; i < 16; ++i) {
      q[i] = block[2 + i] & 15;
      q[16 + i] = block[2 + i] >> 4;
    }
    write_nibbles(q, r, data + g * 256);
    scale[g * kTile + r] = half_at(block);
    all_finite &= finite(half_at(block));
  }
  return all_finite;
}

bool row_q5_0(const uint8_t* block, int64_t groups, int r, uint8_t* data, uint16_t* scale) {
  bool all_finite = true;
  for (int64_t g = 0; g < groups; ++g, block += 22) {
    int8_t q[kGroup];
    for (int i = 0; i < kGroup; ++i) {
      const uint8_t both = block[6 + i % 16];
      const int fifth = block[2 + i / 8] >> i % 8 & 1;
      q[i] = static_cast<int8_t>(((i < 16 ? both & 15 : both >> 4) | fifth << 4) - 16);
    }
    write_bytes(q, r, data + g * 512);
    scale[g * kTile + r] = half_at(block);
    all_finite &= finite(half_at(block));
  }
  return all_finite;
}

bool row_q8_0(const uint8_t* block, int64_t groups, int r, uint8_t* data, uint16_t* scale) {
  bool all_finite = true;
  for (int64_t g = 0; g < groups; ++g, block += 34) {
    write_bytes(reinterpret_cast<const int8_t*>(block + 2), r, data + g * 512);
    scale[g * kTile + r] = half_at(block);
    all_finite &= finite(half_at(block));
  }
  return all_finite;
}

// Scale times integer is -124..128; where 128 occurs, -128 does not, and all signs are turned.
bool row_q3_k(const uint8_t* block, int64_t groups, int r, uint8_t* data, uint16_t* scale) {
  bool all_finite = true;
  for (int64_t g = 0; g < groups; ++g) {
    if (g && g % 8 == 0) block += 110;
    const int group = static_cast<int>(g % 8), half = group / 4, pair = group % 4;
    const uint8_t *high = block, *low = block + 32 + 32 * half, *s = block + 96;
    const uint16_t d = half_at(block + 108);
    int products[kGroup], most = 0;
    for (int part = 0; part < 2; ++part) {
      const int i = 2 * group + part;
      const int small = ((i < 8 ? s[i] & 15 : s[i - 8] >> 4) | (s[8 + i % 4] >> 2 * (i / 4) & 3) << 4) - 32;
      for (int l = 16 * part; l < 16 * part + 16; ++l) {
        products[l] = small * (((low[l] >> 2 * pair & 3) | (high[l] >> group & 1) << 2) - 4);
        most = products[l] > most ? products[l] : most;
      }
    }
    int8_t q[kGroup];
    for (int l = 0; l < kGroup; ++l) q[l] = static_cast<int8_t>(most > 127 ? -products[l] : products[l]);
    write_bytes(q, r, data + g * 512);
    scale[g * kTile + r] = most > 127 ? d ^ 0x8000 : d;
    all_finite &= finite(d);
  }
  return all_finite;
}

// The bits over the lowest four.
template <int kBits>
void write_high_bits(const uint8_t* q, int r, uint8_t* to) {
  constexpr int kWide = kBits - 4, kPieces = kBits == 4 ? 1 : 8 / kWide;
  for (int s = 0; s < 8 / kPieces; ++s)
    for (int j = 0; j < 4; ++j) {
      int bits = 0;
      for (int p = 0; p < kPieces; ++p) bits |= (q[4 * (kPieces * s + p) + j] >> 4) << kWide * p;
      to[32 * (8 / kPieces) * (r / 8) + 32 * s + 4 * (r % 8) + j] = static_cast<uint8_t>(bits);
    }
}

template <int kBits>
void write_group(uint8_t* q, int first_scale, int second_scale, int r, uint8_t* group) {
  group[r] = static_cast<uint8_t>(first_scale);
  group[kTile + r] = static_cast<uint8_t>(second_scale);
  if constexpr (kBits > 4) {
    write_high_bits<kBits>(q, r, group + Super<kBits>::kScales);
    for (int l = 0; l < kGroup; ++l) q[l] &= 15;
  }
  write_nibbles(q, r, group + Super<kBits>::kScales + Super<kBits>::kHigh);
}

// Q4_K and Q5_K.
template <int kBits>
bool row_with_minima(const uint8_t* block, int64_t groups, int r, uint8_t* data, uint16_t*) {
  using S = Super<kBits>;
  constexpr int kLow = kBits == 4 ? 16 : 48;  // where the low four bits begin
  bool all_finite = true;
  for (int64_t s = 0; s < groups / 8; ++s, block += kLow + 128, data += S::kBytes) {
    std::memcpy(data + 2 * r, block, 2);
    std::memcpy(data + 32 + 2 * r, block + 2, 2);
    all_finite &= finite(half_at(block)) && finite(half_at(block + 2));
    const uint8_t* six = block + 4;
    for (int j = 0; j < 8; ++j) {
      uint8_t q[kGroup];
      for (int l = 0; l < kGroup; ++l) {
        q[l] = block[kLow + 32 * (j / 2) + l] >> 4 * (j % 2) & 15;
        if constexpr (kBits == 5) q[l] |= (block[16 + l] >> j & 1) << 4;
      }
      const int scale = j < 4 ? six[j] & 63 : (six[j + 4] & 15) | six[j - 4] >> 6 << 4;
      const int min = j < 4 ? six[j + 4] & 63 : six[j + 4] >> 4 | six[j] >> 6 << 4;
      write_group<kBits>(q, scale, min, r, data + S::kHeader + j * S::kGroupBytes);
    }
  }
  return all_finite;
}

bool row_q6_k(const uint8_t* block, int64_t groups, int r, uint8_t* data, uint16_t*) {
  using S = Super<6>;
  bool all_finite = true;
  for (int64_t s = 0; s < groups / 8; ++s, block += 210, data += S::kBytes) {
    std::memcpy(data + 2 * r, block + 208, 2);
    all_finite &= finite(half_at(block + 208));
    for (int j = 0; j < 8; ++j) {
      const int half = j / 4, k = j % 4;
      const uint8_t *low = block + 64 * half + 32 * (k % 2), *high = block + 128 + 32 * half;
      uint8_t q[kGroup];
      for (int l = 0; l < kGroup; ++l)
        q[l] = static_cast<uint8_t>((low[l] >> 4 * (k / 2) & 15) | (high[l] >> 2 * k & 3) << 4);
      write_group<6>(q, block[192 + 2 * j], block[192 + 2 * j + 1], r, data + S::kHeader + j * S::kGroupBytes);
    }
  }
  return all_finite;
}

const GgufType kTypes[] = {
    {"Q4_0", Packing::q4, 32, 18, row_q4_0},
    {"Q5_0", Packing::q8, 32, 22, row_q5_0},
    {"Q8_0", Packing::q8, 32, 34, row_q8_0},
    {"Q3_K", Packing::q8, 256, 110, row_q3_k},
    {"Q4_K", Packing::q4_k, 256, 144, row_with_minima<4>},
    {"Q5_K", Packing::q5_k, 256, 176, row_with_minima<5>},
    {"Q6_K", Packing::q6_k, 256, 210, row_q6_k},
};

int64_t tile_bytes(Packing packing, int64_t groups) {
  switch (packing) {
    case Packing::q4: return groups * 256;
    case Packing::q8: return groups * 512;
    case Packing::q4_s: break;  // no type of GGUF has this layout
    case Packing::q4_k: return groups / 8 * Super<4>::kBytes;
    case Packing::q5_k: return groups / 8 * Super<5>::kBytes;
    case Packing::q6_k: break;
  }
  return groups / 8 * Super<6>::kBytes;
}

}  // namespace

const GgufType* gguf_type(const char* name) {
  for (const GgufType& type : kTypes)
    if (std::strcmp(type.name, name) == 0) return &type;
  return nullptr;
}

bool repack(const GgufType& type, const uint8_t* rows, int64_t n, int64_t k, uint8_t* data, uint16_t* scale) {
  const int64_t groups = k / kGroup, row_bytes = k / type.weights * type.bytes;
  const int64_t bytes = tile_bytes(type.packing, groups);
  const std::vector<uint8_t> zeros(static_cast<size_t>(row_bytes));
  std::atomic<bool> all_finite{true};
  parallel((n + kTile - 1) / kTile, [&](int64_t tile) {
    for (int r = 0; r < kTile; ++r) {
      const int64_t row = tile * kTile + r;
      const uint8_t* blocks = row < n ? rows + row * row_bytes : zeros.data();
      uint16_t* scales = scale ? scale + tile * groups * kTile : nullptr;
      if (!type.repack_row(blocks, groups, r, data + tile * bytes, scales))
        all_finite.store(false, std::memory_order_relaxed);
    }
  });
  return all_finite.load();
}

}  // namespace slm
