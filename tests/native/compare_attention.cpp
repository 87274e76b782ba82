// Rotation and the cache, of all its types, and attention over what was written.
#include "compare.h"

namespace compare {
namespace {

using namespace slm;

constexpr int64_t kKvHeads = 2;
constexpr int kSparse = -1;  // in place of a window: one near block, and every third

int64_t cell_bytes(CacheType type) { return type == CacheType::f32 ? 4 : type == CacheType::f16 ? 2 : 1; }

struct Shape {
  CacheType type;
  int64_t head_dim, shared;  // shared: heads of a kv head
  int64_t length = 101;      // tokens: four blocks, the last one not full

  int64_t blocks() const { return (length + kBlock - 1) / kBlock; }
  std::vector<int32_t> order() const {  // of the blocks in the cache, which is not theirs in the sequence
    std::vector<int32_t> all(static_cast<size_t>(blocks()));
    for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int32_t>(i % 2 ? i / 2 : all.size() - 1 - i / 2);
    return all;
  }

  std::string name() const {
    const char* types[] = {"f32", "f16", "q8"};
    return std::string(types[static_cast<int>(type)]) + " cache, head_dim " + std::to_string(head_dim) + ", " +
           std::to_string(shared) + " heads a kv head";
  }
};

// One layer of blocks for all tokens.
struct Layer {
  std::vector<float> cells;  // so that all types are aligned
  Cache cache;

  explicit Layer(const Shape& s) {
    const int64_t scales = s.type == CacheType::q8 ? kBlock * 4 : 0, half = kBlock * s.head_dim + scales;
    cache = {nullptr, s.type, 2 * kKvHeads * half, half, 2 * half, s.blocks(), kKvHeads, s.head_dim};
    cells.assign(static_cast<size_t>(s.blocks() * cache.block_stride * cell_bytes(s.type) / 4), 3.0f);
    cache.cells = cells.data();
  }
};

struct Written {
  Layer layer;
  std::vector<float> turned;  // queries

  Written(const Kernels& set, const Shape& s, int64_t pairs, bool any_bits, bool& guarded) : layer(s) {
    const int64_t heads = kKvHeads * s.shared, dim = s.head_dim, tokens = s.length;
    const std::vector<int32_t> order = s.order();
    Random random(5);
    const std::vector<float> q = random.numbers(tokens * heads * dim), k = random.numbers(tokens * kKvHeads * dim),
                             cos = random.numbers(tokens * pairs), sin = random.numbers(tokens * pairs);
    std::vector<float> v = random.numbers(tokens * kKvHeads * dim);
    if (any_bits)
      for (float& x : v) x = float_of_bits(random.bits());
    std::vector<int64_t> slots;
    for (int64_t t = 0; t < tokens; ++t) slots.push_back(order[static_cast<size_t>(t / kBlock)] * kBlock + t % kBlock);
    turned.resize(q.size());
    const RotateAndCache r = {layer.cache, q.data(), k.data(), v.data(), cos.data(), sin.data(), turned.data(),
                              slots.data(), tokens, heads, pairs, heads * dim, kKvHeads * dim, kKvHeads * dim};
    Room scratch(rotate_scratch(dim));
    for (int64_t head = 0; head < kKvHeads; ++head) set.rotate_and_cache(r, head, head + 1, scratch.as());
    guarded = scratch.guarded();
  }
};

std::vector<float> attend(const Kernels& set, const Shape& s, const Written& w, const Queries& q, int64_t window,
                          const Sparse& sparse, bool& guarded) {
  const int64_t heads = kKvHeads * s.shared;
  std::vector<float> out(static_cast<size_t>(s.length * heads * s.head_dim), 9.0f);
  const Attention a = {w.layer.cache, w.turned.data(), out.data(), heads * s.head_dim, heads, 0.3f, window, sparse};
  Room scratch(attention_scratch(s.head_dim));
  set.attention(a, q, scratch.as());
  guarded = scratch.guarded();
  return out;
}

void check_queries(const Kernels& set, const Shape& s, const Written& w, int64_t first, int64_t rows, int64_t window,
                   Report& report) {
  const std::vector<int32_t> order = s.order();
  const int64_t end = first + rows < s.length ? first + rows : s.length;
  const Queries q = {order.data(), first, first, end, 0, kKvHeads, 0, s.shared};
  bool guarded = true, unused = true;
  const int32_t shifts[] = {1, 2, 0, 1, 2, 0, 1, 2};
  const Sparse sparse = window == kSparse ? Sparse{1, 1, 3, shifts} : Sparse{};
  const int64_t own = window == kSparse ? 0 : window;
  const std::vector<float> ours = attend(set, s, w, q, own, sparse, guarded);
  const std::vector<float> scalar = attend(kScalar, s, w, q, own, sparse, unused);
  const std::string what = "attention, " + s.name() + ", " + std::to_string(rows) + " queries from " +
                           std::to_string(first) + ", window " + std::to_string(window);
  report.check_equal(ours.data(), scalar.data(), static_cast<int64_t>(ours.size()), what);
  report.check(guarded, what + ": scratch");
}

void check_attention(const Kernels& set, const Shape& s, const Written& w, Report& report) {
  for (const int64_t first : {0, 5, 31, 32, 60, 96})
    for (const int64_t rows : {1, 2, 3, 5, 13})
      for (const int64_t window : {0, 1, 20, 40, kSparse}) check_queries(set, s, w, first, rows, window, report);
}

// Around a power of two of tokens, as many as the sliding windows that are published.
void check_long(const Kernels& set, CacheType type, Report& report) {
  const Shape s = {type, 96, 1, 4100};
  bool unused = true;
  const Written scalar(kScalar, s, 48, false, unused);
  for (const int64_t first : {126, 127, 128, 2046, 2047, 4094, 4095, 4096})
    for (const int64_t rows : {1, 3})
      for (const int64_t window : {0, 2047}) check_queries(set, s, scalar, first, rows, window, report);
}

void check_shape(const Kernels& set, const Shape& s, Report& report) {
  bool guarded = true, unused = true;
  for (const int64_t pairs : {s.head_dim / 2, s.head_dim / 2 - 3})
    for (const bool any_bits : {false, true}) {
      const Written ours(set, s, pairs, any_bits, guarded), scalar(kScalar, s, pairs, any_bits, unused);
      const std::string what = "rotate_and_cache, " + s.name();
      report.check_equal(ours.turned.data(), scalar.turned.data(), static_cast<int64_t>(ours.turned.size()), what);
      const size_t bytes = ours.layer.cells.size() * sizeof(float);
      report.check(std::memcmp(ours.layer.cells.data(), scalar.layer.cells.data(), bytes) == 0, what + ": cells");
      report.check(guarded, what + ": scratch");
    }
  const Written scalar(kScalar, s, s.head_dim / 2, false, unused);
  check_attention(set, s, scalar, report);
}

}  // namespace

void attention(const Kernels& set, Report& report) {
  for (const CacheType type : {CacheType::f32, CacheType::f16, CacheType::q8})
    for (const int64_t head_dim : {16, 20, 48, 96})
      for (const int64_t shared : {1, 3, 4}) check_shape(set, {type, head_dim, shared}, report);
  for (const CacheType type : {CacheType::f32, CacheType::f16, CacheType::q8}) check_long(set, type, report);
}

}  // namespace compare
