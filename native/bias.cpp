#include "ops.h"
#include "rows.h"

namespace slm {

void add_bias(float* x, const float* bias, int64_t tokens, int64_t dim) {
  each_row(tokens, dim, [=](int64_t t) {
    for (int64_t i = 0; i < dim; ++i) x[t * dim + i] += bias[i];
  });
}

}  // namespace slm
