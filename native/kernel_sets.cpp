#include "kernel_sets.h"

#ifdef SLMKIT_X86
#ifdef _MSC_VER
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#endif

namespace slm {
#ifdef SLMKIT_EMULATED
extern const Kernels kAvx512Emulated;  // tests only
#endif

namespace {

#ifdef SLMKIT_X86
struct Registers {
  uint32_t a, b, c, d;
};

Registers cpuid(uint32_t leaf, uint32_t part) {
  Registers r = {};
#ifdef _MSC_VER
  int out[4];
  __cpuidex(out, static_cast<int>(leaf), static_cast<int>(part));
  r = {static_cast<uint32_t>(out[0]), static_cast<uint32_t>(out[1]), static_cast<uint32_t>(out[2]),
       static_cast<uint32_t>(out[3])};
#else
  __get_cpuid_count(leaf, part, &r.a, &r.b, &r.c, &r.d);  // leaves zeros where the leaf does not exist
#endif
  return r;
}

// Which registers the operating system saves: bits 1, 2 for 256-bit ones, also 5, 6, 7 for 512-bit ones.
uint64_t saved_registers() {
#ifdef _MSC_VER
  return _xgetbv(0);
#else
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return static_cast<uint64_t>(high) << 32 | low;
#endif
}

constexpr bool has(uint32_t word, int bit) { return word >> bit & 1; }

// Bits: Intel's manual, volume 2A, CPUID.
bool runs_avx2() {
  const Registers one = cpuid(1, 0), seven = cpuid(7, 0);
  const bool saved = has(one.c, 27) && (saved_registers() & 0x06) == 0x06;
  return saved && has(one.c, 12) /* fma */ && has(one.c, 28) /* avx */ && has(one.c, 29) /* f16c */ &&
         has(seven.b, 5) /* avx2 */;
}

[[maybe_unused]] bool runs_avx512() {
  if (!runs_avx2() || (saved_registers() & 0xe6) != 0xe6) return false;
  const Registers seven = cpuid(7, 0);
  return has(seven.b, 16) /* f */ && has(seven.b, 17) /* dq */ && has(seven.b, 30) /* bw */ &&
         has(seven.b, 31) /* vl */ && has(seven.c, 11) /* vnni */;
}
#endif

std::vector<const Kernels*> find() {
  std::vector<const Kernels*> sets;
#ifdef SLMKIT_X86
#ifdef SLMKIT_AVX512
  if (runs_avx512()) sets.push_back(&kAvx512);
#endif
  if (runs_avx2()) sets.push_back(&kAvx2);
#endif
  sets.push_back(&kScalar);
#ifdef SLMKIT_EMULATED
  sets.push_back(&kAvx512Emulated);
#endif
  return sets;
}

}  // namespace

const std::vector<const Kernels*>& kernel_sets() {
  static const std::vector<const Kernels*> sets = find();
  return sets;
}

}  // namespace slm
