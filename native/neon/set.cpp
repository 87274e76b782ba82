#include "../attention.h"
#include "../fma_rate.h"
#include "../gegelu.h"
#include "../gelu.h"
#include "../layer_norm.h"
#include "../matmul_dense.h"
#include "../rms_norm.h"
#include "../rotate_and_cache.h"
#include "../silu_mul.h"
#include "neon.h"

namespace slm {

#ifdef __ARM_FEATURE_MATMUL_INT8
static const char* const kName = "neon-i8mm";
#else
static const char* const kName = "neon";
#endif

const Kernels kNeon = {
    kName,
    neon::quantize,
    neon::quantize_wide,
    neon::matmul_q4_s,
    neon::matmul_q4,
    neon::matmul_q8,
    neon::matmul_super<4>,
    neon::matmul_super<5>,
    neon::matmul_super<6>,
    matmul_dense<neon::Lanes>,
    rms_norm<neon::Lanes>,
    layer_norm<neon::Lanes>,
    silu_mul<neon::Lanes>,
    gegelu<neon::Lanes>,
    gelu<neon::Lanes>,
    quick_gelu<neon::Lanes>,
    rotate_and_cache<neon::Lanes>,
    attention<neon::Lanes>,
    neon::read,
    neon::multiply,
    multiply_add<neon::Lanes>,
};

}  // namespace slm
