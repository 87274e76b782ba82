#include "../attention.h"
#include "../fma_rate.h"
#include "../gegelu.h"
#include "../gelu.h"
#include "../layer_norm.h"
#include "../matmul_dense.h"
#include "../rms_norm.h"
#include "../rotate_and_cache.h"
#include "../silu_mul.h"
#include "avx2.h"

namespace slm {

const Kernels kAvx2 = {
    "avx2",
    avx2::quantize,
    avx2::quantize_wide,
    avx2::matmul_q4_s,
    avx2::matmul_q4,
    avx2::matmul_q8,
    avx2::matmul_super<4>,
    avx2::matmul_super<5>,
    avx2::matmul_super<6>,
    matmul_dense<avx2::Lanes>,
    rms_norm<avx2::Lanes>,
    layer_norm<avx2::Lanes>,
    silu_mul<avx2::Lanes>,
    gegelu<avx2::Lanes>,
    gelu<avx2::Lanes>,
    quick_gelu<avx2::Lanes>,
    rotate_and_cache<avx2::Lanes>,
    attention<avx2::Lanes>,
    avx2::read,
    avx2::multiply,
    multiply_add<avx2::Lanes>,
};

}  // namespace slm
