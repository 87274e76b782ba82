// Matrix products with packed weights, and the rounding of their inputs.
#include <limits>

#include "compare.h"

namespace compare {
namespace {

using namespace slm;

constexpr int64_t kTokens[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 15, 16, 17};
constexpr int64_t kRows[] = {1, 15, 16, 17, 32, 33, 40, 48};
constexpr int64_t kInputs[] = {1, 31, 32, 33, 63, 64, 65, 255, 256, 257, 1024, 1025, 3072};

int64_t up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// A 16-bit scale, of either sign.
uint16_t scale_bits(Random& random) { return half_of_float(random.number()); }

void put_scales(Random& random, uint8_t* to, int count) {
  for (int i = 0; i < count; ++i) {
    const uint16_t bits = scale_bits(random);
    std::memcpy(to + 2 * i, &bits, 2);
  }
}

struct Weights {
  std::vector<uint8_t> data;
  std::vector<uint16_t> scale;
  Packed packed;

  Weights(int64_t n, int64_t k, int64_t bytes, int64_t scales, uint64_t seed) {
    Random random(seed);
    data = random.bytes(bytes);
    scale.reserve(static_cast<size_t>(scales));  // no more, so that a sanitizer sees what is read behind them
    for (int64_t i = 0; i < scales; ++i) scale.push_back(scale_bits(random));
    packed = {data.data(), scale.data(), n, k, up(n, kTile), up(k, kGroup)};
  }
};

Weights grouped(int64_t n, int64_t k, int group_bytes) {
  const int64_t groups = up(n, kTile) * up(k, kGroup);
  return Weights(n, k, groups * group_bytes, groups * kTile, static_cast<uint64_t>(n * 10000 + k));
}

Weights superblocks(int64_t n, int64_t k, int bytes, int scales) {
  const int64_t count = up(n, kTile) * (k / kSuper);
  Weights w(n, k, count * bytes, 0, static_cast<uint64_t>(n * 10000 + k));
  Random random(7);
  for (int64_t i = 0; i < count; ++i) put_scales(random, w.data.data() + i * bytes, scales);
  return w;
}

Weights q4_s(int64_t n, int64_t k) {
  Weights w(n, k, up(n, kTile) * q4s_tile_bytes(k), 0, static_cast<uint64_t>(n * 10000 + k));
  Random random(7);
  for (int64_t tile = 0; tile < w.packed.tiles; ++tile)
    for (int64_t b = 0; b < up(k, kSuper); ++b)
      put_scales(random,
                 w.data.data() + tile * q4s_tile_bytes(k) + b * (kSuperHeader + kSuper / kUnit * kUnitBytes), kTile);
  return w;
}

// Results of both sets, whatever was there before; `run(kernels, tile_begin, tile_end, out)`. The tiles come in two
// ranges where there are several, and what lies behind the results must stay.
template <class F>
void check_both(const Kernels& set, const Packed& w, int64_t tokens, Report& report, const std::string& what, F run) {
  std::vector<float> out[2];
  for (int i = 0; i < 2; ++i) {
    out[i].assign(static_cast<size_t>(tokens * w.n + 16), 12345.0f);
    const int64_t middle = w.tiles / 2;
    if (middle) run(i ? kScalar : set, 0, middle, out[i].data());
    run(i ? kScalar : set, middle, w.tiles, out[i].data());
  }
  report.check_equal(out[0].data(), out[1].data(), tokens * w.n + 16, what);
}

struct Inputs {
  std::vector<Activation> groups;
  std::vector<WideActivation> by_token;
  std::vector<UnsignedActivation> by_block;
  WideInputs wide;

  Inputs(const Kernels& set, const std::vector<float>& x, int64_t k, int64_t tokens) {
    const int64_t blocks = up(k, kSuper);
    groups.resize(static_cast<size_t>(tokens * up(k, kGroup)));
    by_token.resize(static_cast<size_t>(tokens * blocks));
    by_block.resize(by_token.size());
    for (int64_t t = 0; t < tokens; ++t) {
      set.quantize(x.data() + t * k, k, groups.data() + t * up(k, kGroup));
      set.quantize_wide(x.data() + t * k, k, by_token.data() + t * blocks, by_block.data() + t, tokens);
    }
    wide = {by_token.data(), by_block.data(), tokens};
  }
};

bool equal(const Activation& a, const Activation& b) {
  return std::memcmp(a.q, b.q, sizeof a.q) == 0 && same(a.scale, b.scale) && same(a.sum, b.sum) &&
         std::memcmp(a.start8, b.start8, sizeof a.start8) == 0 &&
         std::memcmp(a.start32, b.start32, sizeof a.start32) == 0;
}
// start8 is as each set's own kernels want it: their results tell.
bool equal(const WideActivation& a, const WideActivation& b) {
  return std::memcmp(a.q, b.q, sizeof a.q) == 0 && same(a.scale, b.scale);
}
bool equal(const UnsignedActivation& a, const UnsignedActivation& b) {
  return std::memcmp(a.u, b.u, sizeof a.u) == 0 && same(a.scale, b.scale);
}
template <class T>
bool all_equal(const std::vector<T>& a, const std::vector<T>& b) {
  for (size_t i = 0; i < a.size(); ++i)
    if (!equal(a[i], b[i])) return false;
  return a.size() == b.size();
}

void check_rounding(const Kernels& set, const std::vector<float>& x, int64_t k, int64_t tokens, Report& report,
                    const std::string& what) {
  const Inputs ours(set, x, k, tokens), scalar(kScalar, x, k, tokens);
  report.check(all_equal(ours.groups, scalar.groups), what);
  report.check(all_equal(ours.by_token, scalar.by_token), what + ", wide");
  report.check(all_equal(ours.by_block, scalar.by_block), what + ", unsigned");
}

void check_packed(const Kernels& set, const Weights& w, const Inputs& x, int64_t tokens, Report& report,
                  const char* what, MatmulPacked Kernels::* kernel) {
  const Packed& p = w.packed;
  Room scratch(matmul_scratch(p.groups));
  check_both(set, p, tokens, report, shape(what, p.n, p.k, tokens),
             [&](const Kernels& k, int64_t begin, int64_t end, float* out) {
               (k.*kernel)(p, begin, end, x.groups.data(), tokens, out, scratch.as());
             });
  report.check(scratch.guarded(), shape(what, p.n, p.k, tokens) + ": scratch");
}

void check_q4_s(const Kernels& set, const Weights& w, const std::vector<float>& x, int64_t tokens, Report& report,
                const char* what = "q4_s") {
  const Inputs ours(set, x, w.packed.k, tokens), scalar(kScalar, x, w.packed.k, tokens);
  const Packed& p = w.packed;
  Room scratch(q4s_scratch);
  check_both(set, p, tokens, report, shape(what, p.n, p.k, tokens),
             [&](const Kernels& k, int64_t begin, int64_t end, float* out) {
               k.matmul_q4_s(p, begin, end, (&k == &set ? ours : scalar).wide, tokens, out, scratch.as());
             });
  report.check(scratch.guarded(), shape(what, p.n, p.k, tokens) + ": scratch");
}

void check_matrix(const Kernels& set, int64_t n, int64_t k, const std::vector<float>& x, int64_t tokens,
                  Report& report) {
  const Inputs inputs(kScalar, x, k, tokens);
  check_packed(set, grouped(n, k, 256), inputs, tokens, report, "q4", &Kernels::matmul_q4);
  check_packed(set, grouped(n, k, 512), inputs, tokens, report, "q8", &Kernels::matmul_q8);
  check_q4_s(set, q4_s(n, k), x, tokens, report);
  if (k % kSuper) return;
  check_packed(set, superblocks(n, k, Super<4>::kBytes, 32), inputs, tokens, report, "q4_k", &Kernels::matmul_q4_k);
  check_packed(set, superblocks(n, k, Super<5>::kBytes, 32), inputs, tokens, report, "q5_k", &Kernels::matmul_q5_k);
  check_packed(set, superblocks(n, k, Super<6>::kBytes, 16), inputs, tokens, report, "q6_k", &Kernels::matmul_q6_k);
}

// All weights and inputs at their extremes: the largest sums that there are.
void check_extremes(const Kernels& set, Report& report) {
  constexpr int64_t n = 16, k = 512;
  for (const int byte : {0x00, 0x78, 0x80, 0x87, 0x7f, 0xf0, 0xff})
    for (const float sign : {1.0f, -1.0f})
      for (const int64_t tokens : {1, 2, 4, 20}) {
        const std::vector<float> ones(static_cast<size_t>(tokens * k), sign);
        const Inputs x(kScalar, ones, k, tokens);
        const auto filled = [&](Weights w, int64_t each, int64_t header) {
          for (size_t i = 0; i < w.data.size(); ++i)
            if (static_cast<int64_t>(i) % each >= header) w.data[i] = static_cast<uint8_t>(byte);
          return w;
        };
        check_packed(set, filled(grouped(n, k, 256), 256, 0), x, tokens, report, "q4 of extremes", &Kernels::matmul_q4);
        check_packed(set, filled(grouped(n, k, 512), 512, 0), x, tokens, report, "q8 of extremes", &Kernels::matmul_q8);
        const auto supers = [&](int bytes, int scales) {
          return filled(superblocks(n, k, bytes, scales), bytes, 2 * scales);
        };
        check_packed(set, supers(Super<4>::kBytes, 32), x, tokens, report, "q4_k of extremes", &Kernels::matmul_q4_k);
        check_packed(set, supers(Super<5>::kBytes, 32), x, tokens, report, "q5_k of extremes", &Kernels::matmul_q5_k);
        check_packed(set, supers(Super<6>::kBytes, 16), x, tokens, report, "q6_k of extremes", &Kernels::matmul_q6_k);
        const int64_t block = kSuperHeader + kSuper / kUnit * kUnitBytes;
        for (const int word : {0x77, 0x88}) {  // the scales: all 7, all -8
          Weights w = filled(q4_s(n, k), block, kSuperHeader);
          for (int64_t unit = 0; unit < q4s_units(k); ++unit)
            std::memset(w.data.data() + unit / 4 * block + kSuperHeader + unit % 4 * kUnitBytes, word, 2 * kTile);
          check_q4_s(set, w, ones, tokens, report, "q4_s of extremes");
        }
      }
}

void check_magnitudes(const Kernels& set, Report& report) {
  const float infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  for (const float by : {0.0f, 1e-44f, 1e-38f, 1.4e-36f, 1e-30f, 1.0f, 1e30f, 1.7e38f}) {
    std::vector<float> x = Random(3).numbers(3 * 300);
    for (float& v : x) v *= by;
    check_rounding(set, x, 300, 3, report, "rounding inputs of magnitude " + std::to_string(by));
  }
  for (const float bad : {nan, -nan, infinity, -infinity}) {
    std::vector<float> x = Random(4).numbers(3 * 300);
    x[300 + 41] = bad;
    check_rounding(set, x, 300, 3, report, "rounding inputs that are not finite");
    check_matrix(set, 17, 300, x, 3, report);
  }
  std::vector<float> ties(512);  // exact halves between integers
  for (size_t i = 0; i < ties.size(); ++i) ties[i] = static_cast<float>(static_cast<int>(i) - 256) * 0.5f;
  for (size_t i = 0; i < ties.size(); i += 32) ties[i] = i % 64 ? 127.0f : -127.0f;
  for (float& v : ties) v = v > 127.0f ? 126.5f : v < -127.0f ? -126.5f : v;
  check_rounding(set, ties, 512, 1, report, "rounding ties");
}

}  // namespace

void products(const Kernels& set, Report& report) {
  for (const int64_t k : kInputs) {
    const std::vector<float> x = Random(static_cast<uint64_t>(k)).numbers(17 * k);
    check_rounding(set, x, k, 17, report, shape("rounding", 0, k, 17));
    for (const int64_t n : kRows)
      for (const int64_t tokens : kTokens)
        if (k < 3072 || n == 40) check_matrix(set, n, k, x, tokens, report);
  }
  check_extremes(set, report);
  check_magnitudes(set, report);
}

}  // namespace compare
