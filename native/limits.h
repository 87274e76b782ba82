// What this machine can do at most, measured: the denominators of `slm bench`.
#pragma once

#include "kernels.h"

namespace slm {

// Bytes per second that all threads together read from memory; the median of several passes over `bytes` of it.
double read_bandwidth(const Kernels& kernels, int64_t bytes, int passes);

// Multiply-adds per second of all threads together, in registers; the median of `passes` of about `seconds` each.
double multiply_rate(Multiply multiply, double seconds, int passes);

}  // namespace slm
