// Plain weights to the packed formats. The definition is src/slmkit/ops/pack.py, equal to the byte.
#pragma once

#include "ops.h"

namespace slm {

// data, scale: room for the packed matrix, as in Packed. False if a weight, or the
// scale of a group as float16, is not finite.   packing: q4 or q8.
bool pack(const Dense& w, Packing packing, uint8_t* data, uint16_t* scale);

bool pack_q4_s(const Dense& w, uint8_t* data);

// Weights [first, first + count) of a row as float32; zeros where the matrix has none.
void read_weights(const Dense& w, int64_t row, int64_t first, int64_t count, float* to);
bool all_finite_of(const float* weights, int64_t count);

}  // namespace slm
