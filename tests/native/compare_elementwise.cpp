// The ops that are written once for any Lanes: dense products, norms, activations.
#include <limits>

#include "compare.h"

namespace compare {
namespace {

using namespace slm;

// All 2^16 patterns of 16 bits, one an output, so that widening is compared for each of them.
void check_every_half(const Kernels& set, Report& report) {
  std::vector<uint16_t> bits(1 << 16);
  for (size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<uint16_t>(i);
  const int64_t n = 1 << 16;
  const float x = 1.0f;
  for (const Number number : {Number::f16, Number::bf16}) {
    const Dense w = {bits.data(), number, n, 1};
    std::vector<float> ours(bits.size()), scalar(bits.size());
    set.matmul_dense(w, 0, n, &x, 1, ours.data());
    kScalar.matmul_dense(w, 0, n, &x, 1, scalar.data());
    report.check_equal(ours.data(), scalar.data(), n, number == Number::f16 ? "every float16" : "every bfloat16");
  }
}

void check_dense(const Kernels& set, int64_t n, int64_t k, int64_t tokens, Report& report) {
  Random random(static_cast<uint64_t>(n * 1000 + k));
  const std::vector<float> weights = random.numbers(n * k), x = random.numbers(tokens * k);
  std::vector<uint16_t> halves, tops;
  halves.reserve(weights.size());
  tops.reserve(weights.size());
  for (const float v : weights) {
    halves.push_back(half_of_float(v));
    tops.push_back(static_cast<uint16_t>(bits_of_float(v) >> 16));
  }
  const Dense all[] = {{weights.data(), Number::f32, n, k}, {halves.data(), Number::f16, n, k},
                       {tops.data(), Number::bf16, n, k}};
  for (const Dense& w : all) {
    std::vector<float> ours(static_cast<size_t>(tokens * n)), scalar(ours.size());
    set.matmul_dense(w, 0, n, x.data(), tokens, ours.data());
    kScalar.matmul_dense(w, 0, n, x.data(), tokens, scalar.data());
    report.check_equal(ours.data(), scalar.data(), tokens * n, shape("dense", n, k, tokens));
  }
}

// Numbers of all magnitudes, and what is at the edges of exp and of float32.
std::vector<float> gates(int64_t count) {
  const float infinity = std::numeric_limits<float>::infinity();
  std::vector<float> all = {0.0f,    -0.0f,   infinity, -infinity, std::numeric_limits<float>::quiet_NaN(),
                            87.33f,  87.34f,  -87.33f,  -87.34f,   88.37f,
                            88.38f,  -88.37f, -88.38f,  88.8f,     -88.8f,
                            1e-45f,  -1e-45f, 1e38f,    -1e38f,    104.0f};
  Random random(11);
  while (static_cast<int64_t>(all.size()) < count) all.push_back(random.number() * (all.size() % 2 ? 50.0f : 2.0f));
  all.resize(static_cast<size_t>(count));
  return all;
}

void check_rows(const Kernels& set, int64_t dim, Report& report) {
  constexpr int64_t tokens = 3;
  Random random(static_cast<uint64_t>(dim));
  const std::vector<float> x = random.numbers(tokens * dim), weight = random.numbers(dim);
  std::vector<float> ours(static_cast<size_t>(tokens * dim + 16), 7.0f), scalar = ours;
  const int64_t count = tokens * dim + 16;
  set.rms_norm(x.data(), weight.data(), 1e-5f, tokens, dim, ours.data());
  kScalar.rms_norm(x.data(), weight.data(), 1e-5f, tokens, dim, scalar.data());
  report.check_equal(ours.data(), scalar.data(), count, shape("rms_norm", 0, dim, tokens));

  set.layer_norm(x.data(), weight.data(), x.data(), 1e-5f, tokens, dim, ours.data());
  kScalar.layer_norm(x.data(), weight.data(), x.data(), 1e-5f, tokens, dim, scalar.data());
  report.check_equal(ours.data(), scalar.data(), count, shape("layer_norm", 0, dim, tokens));

  const std::vector<float> both = gates(tokens * 2 * dim);
  set.silu_mul(both.data(), tokens, dim, ours.data());
  kScalar.silu_mul(both.data(), tokens, dim, scalar.data());
  report.check_equal(ours.data(), scalar.data(), count, shape("silu_mul", 0, dim, tokens));

  set.gegelu(both.data(), 20.0f, tokens, dim, ours.data());
  kScalar.gegelu(both.data(), 20.0f, tokens, dim, scalar.data());
  report.check_equal(ours.data(), scalar.data(), count, shape("gegelu", 0, dim, tokens));

  for (const auto of : {&Kernels::gelu, &Kernels::quick_gelu}) {
    (set.*of)(both.data(), tokens * dim, ours.data());
    (kScalar.*of)(both.data(), tokens * dim, scalar.data());
    report.check_equal(ours.data(), scalar.data(), count, shape(of == &Kernels::gelu ? "gelu" : "quick_gelu", 0, dim, tokens));
  }
}

}  // namespace

void elementwise(const Kernels& set, Report& report) {
  check_every_half(set, report);
  for (const int64_t n : {1, 2, 3, 4, 5, 8, 9, 17})
    for (const int64_t k : {1, 15, 16, 17, 33, 96})
      for (const int64_t tokens : {1, 2, 3, 4, 5, 7}) check_dense(set, n, k, tokens, report);
  for (const int64_t dim : {1, 3, 15, 16, 17, 31, 32, 96, 100, 3072}) check_rows(set, dim, report);
}

}  // namespace compare
