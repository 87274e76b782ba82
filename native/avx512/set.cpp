#include "../attention.h"
#include "../fma_rate.h"
#include "../gegelu.h"
#include "../gelu.h"
#include "../layer_norm.h"
#include "../matmul_dense.h"
#include "../rms_norm.h"
#include "../rotate_and_cache.h"
#include "../silu_mul.h"
#include "avx512.h"

namespace slm {

#ifdef SLMKIT_EMULATE_AVX512
static const char* const kName = "avx512-emulated";
#else
static const char* const kName = "avx512";
#endif

const Kernels kAvx512 = {
    kName,
    avx512::quantize,
    avx512::quantize_wide,
    avx512::matmul_q4_s,
    avx512::matmul_q4,
    avx512::matmul_q8,
    avx512::matmul_super<4>,
    avx512::matmul_super<5>,
    avx512::matmul_super<6>,
    matmul_dense<avx512::Lanes>,
    rms_norm<avx512::Lanes>,
    layer_norm<avx512::Lanes>,
    silu_mul<avx512::Lanes>,
    gegelu<avx512::Lanes>,
    gelu<avx512::Lanes>,
    quick_gelu<avx512::Lanes>,
    rotate_and_cache<avx512::Lanes>,
    attention<avx512::Lanes>,
    avx512::read,
    avx512::multiply,
    multiply_add<avx512::Lanes>,
};

}  // namespace slm
