#include "../attention.h"
#include "../fma_rate.h"
#include "../gegelu.h"
#include "../gelu.h"
#include "../layer_norm.h"
#include "../matmul_dense.h"
#include "../rms_norm.h"
#include "../rotate_and_cache.h"
#include "../silu_mul.h"
#include "scalar.h"

namespace slm {

const Kernels kScalar = {
    "scalar",
    scalar::quantize,
    scalar::quantize_wide,
    scalar::matmul_q4_s,
    scalar::matmul_q4,
    scalar::matmul_q8,
    scalar::matmul_super<4>,
    scalar::matmul_super<5>,
    scalar::matmul_super<6>,
    matmul_dense<scalar::Lanes>,
    rms_norm<scalar::Lanes>,
    layer_norm<scalar::Lanes>,
    silu_mul<scalar::Lanes>,
    gegelu<scalar::Lanes>,
    gelu<scalar::Lanes>,
    quick_gelu<scalar::Lanes>,
    rotate_and_cache<scalar::Lanes>,
    attention<scalar::Lanes>,
    scalar::read,
    scalar::multiply,
    multiply_add<scalar::Lanes>,
};

}  // namespace slm
