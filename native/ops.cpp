#include "ops.h"

#include <algorithm>

#include "threads.h"

namespace slm {
namespace {

constexpr int64_t kChunksPerThread = 8;      // so that one slow thread delays the others by an eighth at most
constexpr int64_t kSmall = 32 * 1024;        // elementary steps below which waking threads costs more than it saves
constexpr int64_t kInputBytes = 640 * 1024;  // of a block of tokens: leaves room for a tile in a level 2 cache of 1 MB

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// f(begin, end) over [0, count) in ranges that are multiples of `grain`; at once if the `work` is small.
template <class F>
void ranges(int64_t count, int64_t grain, int64_t work, F f) {
  if (count <= 0) return;
  if (work < kSmall || thread_count() == 1) return f(0, count);
  const int64_t wanted = thread_count() * kChunksPerThread;
  const int64_t step = divide_up(divide_up(count, wanted), grain) * grain;
  parallel(divide_up(count, step), [&](int64_t i) { f(i * step, std::min(count, (i + 1) * step)); });
}

MatmulPacked kernel_of(const Kernels& kernels, Packing packing) {
  switch (packing) {
    case Packing::q4: return kernels.matmul_q4;
    case Packing::q8: return kernels.matmul_q8;
    case Packing::q4_s:
    case Packing::q4_k: return kernels.matmul_q4_k;
    case Packing::q5_k: return kernels.matmul_q5_k;
    case Packing::q6_k: break;
  }
  return kernels.matmul_q6_k;
}

// Equal blocks of whole dozens of tokens, of which `most` fit a cache: a multiple of what the kernels take at once.
int64_t equal_blocks(int64_t tokens, int64_t most) {
  most = std::max<int64_t>(24, most / 12 * 12);
  const int64_t blocks = std::max<int64_t>(1, divide_up(tokens, most));
  return divide_up(divide_up(tokens, blocks), 12) * 12;
}

void matmul_q4_s(const Kernels& kernels, const Packed& w, const float* x, int64_t tokens, float* out) {
  const int64_t blocks = divide_up(w.k, kSuper);
  auto* by_token = static_cast<WideActivation*>(scratch(
      Scratch::activations, tokens * blocks * static_cast<int64_t>(sizeof(WideActivation))));
  auto* by_block = static_cast<UnsignedActivation*>(scratch(
      Scratch::unsigned_activations, tokens * blocks * static_cast<int64_t>(sizeof(UnsignedActivation))));
  ranges(tokens, 1, tokens > 1 ? tokens * w.k : 0, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t)
      kernels.quantize_wide(x + t * w.k, w.k, by_token + t * blocks, by_block + t, tokens);
  });
  const int64_t at_once = equal_blocks(tokens, kWideTokens);
  for (int64_t t = 0; t < tokens; t += at_once) {
    const int64_t n = std::min(at_once, tokens - t);
    const WideInputs inputs = {by_token + t * blocks, by_block + t, tokens};
    ranges(w.tiles, 2, w.tiles * w.k * n / 2, [&](int64_t begin, int64_t end) {
      kernels.matmul_q4_s(w, begin, end, inputs, n, out + t * w.n, scratch(Scratch::kernel, q4s_scratch));
    });
  }
}

}  // namespace

void matmul_packed(const Kernels& kernels, const Packed& w, Packing packing, const float* x, int64_t tokens,
                   float* out) {
  if (packing == Packing::q4_s) return matmul_q4_s(kernels, w, x, tokens, out);
  auto* inputs = static_cast<Activation*>(scratch(
      Scratch::activations, tokens * w.groups * static_cast<int64_t>(sizeof(Activation))));
  ranges(tokens, 1, tokens > 1 ? tokens * w.k : 0, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) kernels.quantize(x + t * w.k, w.k, inputs + t * w.groups);
  });

  const auto matmul = kernel_of(kernels, packing);
  const int64_t row_bytes = w.groups * static_cast<int64_t>(sizeof(Activation));
  const int64_t block = equal_blocks(tokens, kInputBytes / row_bytes);
  for (int64_t t = 0; t < tokens; t += block) {
    const int64_t n = std::min(block, tokens - t);
    ranges(w.tiles, 1, w.tiles * w.groups * n * 16, [&](int64_t begin, int64_t end) {
      matmul(w, begin, end, inputs + t * w.groups, n, out + t * w.n,
             scratch(Scratch::kernel, matmul_scratch(w.groups)));
    });
  }
}

void matmul_dense(const Kernels& kernels, const Dense& w, const float* x, int64_t tokens, float* out) {
  const int64_t block = std::max<int64_t>(16, kInputBytes / (w.k * 4) / 4 * 4);
  for (int64_t t = 0; t < tokens; t += block) {
    const int64_t n = std::min(block, tokens - t);
    ranges(w.n, 4, w.n * w.k * n / 8, [&](int64_t begin, int64_t end) {
      kernels.matmul_dense(w, begin, end, x + t * w.k, n, out + t * w.n);
    });
  }
}

void rms_norm(const Kernels& kernels, const float* x, const float* weight, float eps, int64_t tokens, int64_t dim,
              float* out) {
  ranges(tokens, 1, tokens * dim, [&](int64_t begin, int64_t end) {
    kernels.rms_norm(x + begin * dim, weight, eps, end - begin, dim, out + begin * dim);
  });
}

void layer_norm(const Kernels& kernels, const float* x, const float* weight, const float* bias, float eps, int64_t tokens,
                int64_t dim, float* out) {
  ranges(tokens, 1, tokens * dim, [&](int64_t begin, int64_t end) {
    kernels.layer_norm(x + begin * dim, weight, bias, eps, end - begin, dim, out + begin * dim);
  });
}

void silu_mul(const Kernels& kernels, const float* x, int64_t tokens, int64_t dim, float* out) {
  ranges(tokens, 1, tokens * dim * 4, [&](int64_t begin, int64_t end) {
    kernels.silu_mul(x + begin * 2 * dim, end - begin, dim, out + begin * dim);
  });
}

namespace {

void activate(Activate f, const float* x, int64_t count, float* out) {
  ranges(count, 16, count * 4, [&](int64_t begin, int64_t end) { f(x + begin, end - begin, out + begin); });
}

}  // namespace

void gelu(const Kernels& kernels, const float* x, int64_t count, float* out) { activate(kernels.gelu, x, count, out); }

void quick_gelu(const Kernels& kernels, const float* x, int64_t count, float* out) {
  activate(kernels.quick_gelu, x, count, out);
}

void add(float* x, const float* y, int64_t count) {
  ranges(count, 16, count, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) x[i] += y[i];
  });
}

void gegelu(const Kernels& kernels, const float* x, float limit, int64_t tokens, int64_t dim, float* out) {
  ranges(tokens, 1, tokens * dim * 4, [&](int64_t begin, int64_t end) {
    kernels.gegelu(x + begin * 2 * dim, limit, end - begin, dim, out + begin * dim);
  });
}

void rotate_and_cache(const Kernels& kernels, const RotateAndCache& r) {
  const int64_t kv_heads = r.cache.kv_heads, head_dim = r.cache.head_dim;
  // By heads: tokens side by side share lines of the cache, which two threads should not write at once. Each number of a
  // key waits for a line of its own.
  constexpr int64_t kWait = 16;
  ranges(kv_heads, 1, r.tokens * (r.heads + (1 + kWait) * kv_heads) * head_dim, [&](int64_t begin, int64_t end) {
    kernels.rotate_and_cache(r, begin, end, scratch(Scratch::kernel, rotate_scratch(head_dim)));
  });
}

namespace {

// How one sequence's queries are cut: rows, kv heads, and heads of each kv head of one chunk.
struct Cut {
  int64_t rows, kv_heads, heads;
  int64_t row_parts, kv_parts, head_parts;
  int64_t chunks() const { return row_parts * kv_parts * head_parts; }
};

Cut cut(const Attention& a, int64_t rows, int64_t sequences) {
  constexpr int64_t kFew = 8;  // queries of a kv head for which reading the cache takes longer than computing
  const int64_t shared = a.heads / a.cache.kv_heads;
  Cut c;
  c.heads = std::min<int64_t>(shared, kMostQueries);
  c.rows = std::max<int64_t>(1, std::min(rows, kMostQueries / c.heads));
  c.kv_heads = 1;
  if (rows * shared <= kFew) {  // heads side by side lie in one piece of memory, which is read faster than many
    const int64_t wanted = divide_up(a.cache.kv_heads * sequences, thread_count() * kChunksPerThread / 2);
    c.kv_heads = std::min({wanted, kMostQueries / (c.rows * c.heads), a.cache.kv_heads});
  }
  c.row_parts = divide_up(rows, c.rows);
  c.kv_parts = divide_up(a.cache.kv_heads, c.kv_heads);
  c.head_parts = divide_up(shared, c.heads);
  return c;
}

}  // namespace

void attention(const Kernels& kernels, const Attention& a, const Segments& segments) {
  const auto rows_of = [&](int64_t s) -> int64_t { return segments.starts[s + 1] - segments.starts[s]; };
  const auto cut_of = [&](int64_t s) { return cut(a, rows_of(s), segments.sequences); };
  int64_t chunks = 0, work = 0;
  for (int64_t s = 0; s < segments.sequences; ++s) {
    chunks += cut_of(s).chunks();
    work += rows_of(s) * (segments.positions[s] + rows_of(s)) * a.heads * a.cache.head_dim / 8;
  }
  const auto run = [&](int64_t chunk) {
    int64_t s = 0;
    Cut c = cut_of(0);
    for (; chunk >= c.chunks(); c = cut_of(++s)) chunk -= c.chunks();
    const int64_t head_part = chunk % c.head_parts, kv_part = chunk / c.head_parts % c.kv_parts;
    // Later rows see more keys: they come first, so that no long piece is left for the end.
    const int64_t row = (c.row_parts - 1 - chunk / (c.head_parts * c.kv_parts)) * c.rows;
    Queries q;
    q.blocks = segments.blocks + s * segments.most_blocks;
    q.position = segments.positions[s] + row;
    q.row_begin = segments.starts[s] + row;
    q.row_end = std::min<int64_t>(segments.starts[s + 1], q.row_begin + c.rows);
    q.kv_begin = kv_part * c.kv_heads;
    q.kv_end = std::min(a.cache.kv_heads, q.kv_begin + c.kv_heads);
    q.first = head_part * c.heads;
    q.heads = std::min(a.heads / a.cache.kv_heads - q.first, c.heads);
    kernels.attention(a, q, scratch(Scratch::kernel, attention_scratch(a.cache.head_dim)));
  };
  if (work >= kSmall) return parallel(chunks, [&](int64_t i) { run(i); });
  for (int64_t i = 0; i < chunks; ++i) run(i);
}

}  // namespace slm
