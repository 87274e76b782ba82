// Every op as bind.cpp calls it, on four threads against one: the same bits, and under a sanitizer neither a race nor a
// step over an array's end. Arrays are exactly as large as the contracts say.
#include "../../native/kernel_sets.h"
#include "../../native/ops.h"
#include "../../native/pack.h"
#include "../../native/repack.h"
#include "../../native/threads.h"
#include "compare.h"

namespace {

using namespace slm;
using compare::Random;

constexpr int kThreads = 4;

template <class T>
struct Results {
  std::vector<T> one, many;
};

// What `run(out)` writes with one thread and with several.
template <class T, class F>
Results<T> both(int64_t count, F run) {
  Results<T> r = {std::vector<T>(static_cast<size_t>(count)), std::vector<T>(static_cast<size_t>(count))};
  set_thread_count(1);
  run(r.one.data());
  set_thread_count(kThreads);
  run(r.many.data());
  return r;
}

template <class T>
bool equal(const Results<T>& r) {
  return std::memcmp(r.one.data(), r.many.data(), r.one.size() * sizeof(T)) == 0;
}

void check_products(const Kernels& set, compare::Report& report) {
  constexpr int64_t n = 300, k = 512, most = 70;
  constexpr int64_t tiles = (n + kTile - 1) / kTile, groups = k / kGroup, supers = k / kSuper;
  Random random(1);
  const std::vector<float> weights = random.numbers(n * k), x = random.numbers(most * k);
  const Dense dense = {weights.data(), Number::f32, n, k};
  const auto check = [&](const char* what, const Packed& w, Packing packing) {
    for (const int64_t tokens : {1, 2, 7, 8, 9, 33, 70})
      report.check(equal(both<float>(tokens * n, [&](float* out) {
                     matmul_packed(set, w, packing, x.data(), tokens, out);
                   })), compare::shape(what, n, k, tokens));
    const int32_t ids[] = {0, n - 1, 17};
    report.check(equal(both<float>(3 * k, [&](float* out) { embed_packed(w, packing, ids, 3, out); })),
                 std::string("embed ") + what);
  };
  for (const Packing packing : {Packing::q4, Packing::q8}) {
    std::vector<uint16_t> scale(tiles * groups * kTile);
    const Results<uint8_t> data = both<uint8_t>(tiles * groups * (packing == Packing::q8 ? 512 : 256), [&](uint8_t* out) {
      report.check(pack(dense, packing, out, scale.data()), "pack");
    });
    report.check(equal(data), "pack");
    check("q4, q8", {data.one.data(), scale.data(), n, k, tiles, groups}, packing);
  }
  const Results<uint8_t> wide = both<uint8_t>(tiles * q4s_tile_bytes(k), [&](uint8_t* out) { pack_q4_s(dense, out); });
  report.check(equal(wide), "pack q4_s");
  check("q4_s", {wide.one.data(), nullptr, n, k, tiles, groups}, Packing::q4_s);
  for (const char* name : {"Q4_K", "Q5_K", "Q6_K"}) {
    const GgufType& type = *gguf_type(name);
    std::vector<uint8_t> rows = random.bytes(n * supers * type.bytes);
    for (uint8_t& byte : rows) byte &= 0xbb;  // no float16 is infinite
    const int64_t size = type.packing == Packing::q4_k   ? Super<4>::kBytes
                         : type.packing == Packing::q5_k ? Super<5>::kBytes
                                                         : Super<6>::kBytes;
    const Results<uint8_t> data = both<uint8_t>(tiles * supers * size, [&](uint8_t* out) {
      report.check(repack(type, rows.data(), n, k, out, nullptr), "repack");
    });
    report.check(equal(data), "repack");
    check(name, {data.one.data(), nullptr, n, k, tiles, groups}, type.packing);
  }
  for (const int64_t tokens : {1, 5, 70})
    report.check(equal(both<float>(tokens * n, [&](float* out) { matmul_dense(set, dense, x.data(), tokens, out); })),
                 compare::shape("dense", n, k, tokens));
}

void check_rows(const Kernels& set, compare::Report& report) {
  constexpr int64_t tokens = 50, dim = 1000;
  Random random(2);
  const std::vector<float> x = random.numbers(tokens * 2 * dim), weight = random.numbers(dim);
  report.check(equal(both<float>(tokens * dim, [&](float* out) {
                 rms_norm(set, x.data(), weight.data(), 1e-5f, tokens, dim, out);
               })), "rms_norm");
  report.check(equal(both<float>(tokens * dim, [&](float* out) { silu_mul(set, x.data(), tokens, dim, out); })), "silu_mul");
  report.check(equal(both<float>(tokens * dim, [&](float* out) {
                 std::memcpy(out, x.data(), tokens * dim * sizeof(float));
                 add(out, x.data() + tokens * dim, tokens * dim);
               })), "add");
}

// Three sequences: 70 rows of a prompt, one row after 40 tokens, three rows after 95.
void check_attention(const Kernels& set, CacheType type, compare::Report& report) {
  constexpr int64_t heads = 8, kv_heads = 4, dim = 48, tokens = 74, blocks = 9;
  const int64_t number = type == CacheType::f32 ? 4 : type == CacheType::f16 ? 2 : 1;
  const int64_t half = kBlock * dim + (type == CacheType::q8 ? kBlock * 4 : 0), cells = blocks * 2 * kv_heads * half;
  const int32_t starts[] = {0, 70, 71, 74}, positions[] = {0, 40, 95};
  const int32_t tables[] = {8, 1, 5, 0, 3, 2, 0, 0, 7, 4, 6, 0};
  std::vector<int64_t> slots;
  for (int s = 0; s < 3; ++s)
    for (int64_t i = 0; i < starts[s + 1] - starts[s]; ++i)
      slots.push_back(tables[4 * s + (positions[s] + i) / kBlock] * kBlock + (positions[s] + i) % kBlock);
  Random random(3);
  const std::vector<float> qkv = random.numbers(tokens * (heads + 2 * kv_heads) * dim), cos = random.numbers(tokens * 24),
                           sin = random.numbers(tokens * 24);
  const int64_t stride = (heads + 2 * kv_heads) * dim;
  std::vector<float> memory(static_cast<size_t>(cells * number / 4));
  const Cache cache = {memory.data(), type, 2 * kv_heads * half, kv_heads * half, half, blocks, kv_heads, dim};
  const Results<float> turned = both<float>(tokens * heads * dim, [&](float* out) {
    rotate_and_cache(set, {cache, qkv.data(), qkv.data() + heads * dim, qkv.data() + (heads + kv_heads) * dim, cos.data(),
                           sin.data(), out, slots.data(), tokens, heads, 24, stride, stride, stride});
  });
  report.check(equal(turned), "rotate_and_cache");
  for (const int64_t window : {0, 33}) {
    const Attention a = {cache, turned.one.data(), nullptr, heads * dim, heads, 0.2f, window};
    report.check(equal(both<float>(tokens * heads * dim, [&](float* out) {
                   Attention to = a;
                   to.out = out;
                   attention(set, to, {starts, positions, tables, 3, 4});
                 })), "attention");
  }
}

}  // namespace

int main() {
  long wrong = 0;
  for (const Kernels* set : kernel_sets()) {
    compare::Report report(set->name, "one thread");
    check_products(*set, report);
    check_rows(*set, report);
    for (const CacheType type : {CacheType::f32, CacheType::f16, CacheType::q8}) check_attention(*set, type, report);
    wrong += report.finish();
  }
  return wrong != 0;
}
