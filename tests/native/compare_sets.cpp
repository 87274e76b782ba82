// Every kernel set that this processor runs against the scalar one, to the bit, at sizes around each edge of its tiles.
// Needs no Python, so it runs where only an emulator of the processor is at hand (CMake option SLMKIT_COMPARE_SETS).
#include "../../native/kernel_sets.h"
#include "compare.h"

int main() {
  std::printf("sets:");
  for (const slm::Kernels* set : slm::kernel_sets()) std::printf(" %s", set->name);
  std::printf("\n");
  long wrong = 0;
  for (const slm::Kernels* set : slm::kernel_sets()) {
    if (set == &slm::kScalar) continue;
    compare::Report report(set->name);
    compare::products(*set, report);
    compare::elementwise(*set, report);
    compare::attention(*set, report);
    report.check(set->multiply(3) > 0 && set->multiply_add(3) > 0, "limits");
    wrong += report.finish();
  }
  return wrong != 0;
}
