#include <cstring>

#include "ops.h"
#include "rows.h"

namespace slm {

void place_heads(const PlaceHeads& p) {
  each_row(p.tokens, p.heads * p.head_dim, [&](int64_t t) {
    const float* x = p.x + t * p.stride;
    float* out = p.out + t * p.out_heads * p.head_dim;
    for (int64_t h = 0; h < p.heads; ++h)
      std::memcpy(out + p.places[h] * p.head_dim, x + h * p.head_dim, static_cast<size_t>(p.head_dim) * sizeof(float));
  });
}

}  // namespace slm
