// The NEON kernels that are not written for any Lanes. They need the dot products of ARMv8.2; compiled a second time,
// for the matrix products of ARMv8.6 (i8mm) too, they are neon_i8mm (CMakeLists.txt).
#pragma once

#include "../kernels.h"
#include "lanes.h"

namespace slm::neon {

void quantize(const float* x, int64_t k, Activation* out);
void quantize_wide(const float* x, int64_t k, WideActivation* out, UnsignedActivation* unsigned_out,
                   int64_t block_stride);
void matmul_q4_s(const Packed& w, int64_t tile_begin, int64_t tile_end, const WideInputs& x, int64_t tokens, float* out,
                 void* scratch);
void matmul_q4(const Packed& w, int64_t tile_begin, int64_t tile_end, const Activation* x, int64_t tokens, float* out,
               void* scratch);
void matmul_q8(const Packed& w, int64_t tile_begin, int64_t tile_end, const Activation* x, int64_t tokens, float* out,
               void* scratch);
template <int kBits>  // q4_k, q5_k, q6_k
void matmul_super(const Packed& w, int64_t tile_begin, int64_t tile_end, const Activation* x, int64_t tokens,
                  float* out, void* scratch);
uint64_t read(const void* data, int64_t bytes);
int64_t multiply(int64_t rounds);

}  // namespace slm::neon
