// Sparsemixer routing: see ops.h. One definition for every kernel set: it is a few dozen additions a token.
#include "ops.h"

#include <cmath>

#include "exp.h"
#include "scalar/lanes.h"

namespace slm {
namespace {

using scalar::Lanes;

// Index of the largest score but the one at `taken`; the first of equal ones.
int64_t largest_but(const float* s, int64_t experts, int64_t taken) {
  int64_t best = taken == 0 ? 1 : 0;
  for (int64_t j = best + 1; j < experts; ++j)
    if (j != taken && s[j] > s[best]) best = j;
  return best;
}

// The softmax at `best` over the scores within the threshold of it; `taken` has no part.
float weight_of(const float* s, int64_t experts, int64_t best, int64_t taken, float threshold) {
  const float top = s[best];
  float sum = 0.0f;
  for (int64_t j = 0; j < experts; ++j) {
    const float size = std::fabs(s[j]), factor = size > top ? size : top;
    if (j == taken || (top - s[j]) / factor > threshold) continue;
    sum += exp_lanes(Lanes::broadcast(s[j] - top)).v[0];
  }
  return 1.0f / sum;
}

}  // namespace

void route(const float* scores, int64_t tokens, int64_t experts, float eps, int32_t* chosen, float* weights) {
  const float threshold = 2.0f * eps;
  for (int64_t t = 0; t < tokens; ++t) {
    const float* s = scores + t * experts;
    const int64_t first = largest_but(s, experts, -1), second = largest_but(s, experts, first);
    chosen[2 * t] = static_cast<int32_t>(first);
    chosen[2 * t + 1] = static_cast<int32_t>(second);
    weights[2 * t] = weight_of(s, experts, first, -1, threshold);
    weights[2 * t + 1] = weight_of(s, experts, second, first, threshold);
  }
}

}  // namespace slm
