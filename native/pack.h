// Plain weights to the packed formats. The definition is src/slmkit/ops/pack.py, equal to the byte.
#pragma once

#include "ops.h"

namespace slm {

// data, scale: room for the packed matrix, as in Packed. False if a weight, or the
// scale of a group as float16, is not finite.
bool pack(const Dense& w, Packing packing, uint8_t* data, uint16_t* scale);

}  // namespace slm
