#include "kernel_sets.h"

#ifdef SLMKIT_X86
#ifdef _MSC_VER
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#endif

#ifdef SLMKIT_NEON
#ifdef __APPLE__
#include <sys/sysctl.h>
#elif defined(__linux__)
#include <sys/auxv.h>
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

#ifdef SLMKIT_NEON
#ifdef __APPLE__
bool has_feature(const char* name) {
  int value = 0;
  size_t size = sizeof value;
  return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value != 0;
}
bool runs_neon() { return has_feature("hw.optional.arm.FEAT_DotProd"); }
[[maybe_unused]] bool runs_i8mm() { return runs_neon() && has_feature("hw.optional.arm.FEAT_I8MM"); }
#elif defined(__linux__)
// Bits: Linux, arch/arm64/include/uapi/asm/hwcap.h; older systems' headers lack the second one.
bool runs_neon() { return getauxval(AT_HWCAP) >> 20 & 1; /* asimddp */ }
[[maybe_unused]] bool runs_i8mm() { return runs_neon() && getauxval(AT_HWCAP2) >> 13 & 1; }
#else
bool runs_neon() { return false; }  // nobody to ask
[[maybe_unused]] bool runs_i8mm() { return false; }
#endif
#endif

std::vector<const Kernels*> find() {
  std::vector<const Kernels*> sets;
#ifdef SLMKIT_X86
#ifdef SLMKIT_AVX512
  if (runs_avx512()) sets.push_back(&kAvx512);
#endif
  if (runs_avx2()) sets.push_back(&kAvx2);
#endif
#ifdef SLMKIT_NEON
#ifdef SLMKIT_NEON_I8MM
  if (runs_i8mm()) sets.push_back(&kNeonI8mm);
#endif
  if (runs_neon()) sets.push_back(&kNeon);
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
