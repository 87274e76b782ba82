// Which kernel sets this processor can run.
#pragma once

#include <vector>

#include "kernels.h"

namespace slm {

// Best first; the scalar set is always there.
const std::vector<const Kernels*>& kernel_sets();

}  // namespace slm
