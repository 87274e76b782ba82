// The AVX-512 intrinsics; in the emulated build of the tests, SIMDe's portable versions of them.
#pragma once

#ifdef SLMKIT_EMULATE_AVX512
#include "emulated.h"  // tests/native
#else
#include <immintrin.h>
#endif
