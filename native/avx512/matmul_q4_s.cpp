// Contract: kernels.h. The scalar kernels, until there are ones for this set.
#include "../scalar/scalar.h"
#include "avx512.h"

namespace slm::avx512 {

void quantize_wide(const float* x, int64_t k, WideActivation* out, UnsignedActivation* unsigned_out,
                   int64_t block_stride) {
  scalar::quantize_wide(x, k, out, unsigned_out, block_stride);
}
void matmul_q4_s(const Packed& w, int64_t tile_begin, int64_t tile_end, const WideInputs& x, int64_t tokens, float* out,
                 void* scratch) {
  scalar::matmul_q4_s(w, tile_begin, tile_end, x, tokens, out, scratch);
}

}  // namespace slm::avx512
