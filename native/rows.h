// Rows of numbers that need nothing of one another.
#pragma once

#include "threads.h"

namespace slm {

// f(row) for each of them; on this thread alone where they are so few that waking others costs more than it saves.
template <class F>
void each_row(int64_t rows, int64_t numbers, F f) {
  constexpr int64_t kFew = 32 * 1024;
  if (rows * numbers >= kFew) return parallel(rows, [&](int64_t row) { f(row); });
  for (int64_t row = 0; row < rows; ++row) f(row);
}

}  // namespace slm
