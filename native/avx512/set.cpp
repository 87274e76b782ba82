#include "../attention.h"
#include "../matmul_dense.h"
#include "../rms_norm.h"
#include "../rotate.h"
#include "../silu_mul.h"
#include "../write_cache.h"
#include "avx512.h"

namespace slm {

const Kernels kAvx512 = {
    "avx512",
    avx512::quantize,
    avx512::matmul_q4,
    avx512::matmul_q8,
    matmul_dense<avx512::Lanes>,
    rms_norm<avx512::Lanes>,
    silu_mul<avx512::Lanes>,
    rotate<avx512::Lanes>,
    write_cache<avx512::Lanes>,
    attention<avx512::Lanes>,
    avx512::read,
    avx512::multiply,
};

}  // namespace slm
