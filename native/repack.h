// GGUF blocks in the order of the kernels. The definition is src/slmkit/weights/gguf/repack.py, equal to the byte.
#pragma once

#include "ops.h"

namespace slm {

// The GGUF types whose numbers a packed format holds exactly.
struct GgufType {
  const char* name;
  Packing packing;
  int weights, bytes;  // of a block
  // Writes row r of a tile.   row: its blocks.   data, scale: of the tile, as in Packed. False if a float16 scale is not
  // finite.
  bool (*repack_row)(const uint8_t* row, int64_t groups, int r, uint8_t* data, uint16_t* scale);
};

// nullptr if there is none of this name.
const GgufType* gguf_type(const char* name);

// rows: [n][k / weights] blocks.   data, scale: room for the packed [n, k]; rows up to the tile's end are blocks of zeros.
// False if a scale is not finite.
bool repack(const GgufType& type, const uint8_t* rows, int64_t n, int64_t k, uint8_t* data, uint16_t* scale);

}  // namespace slm
