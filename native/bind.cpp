// The Python module `slmkit.ops._native`: checks what Python hands over, copies nothing, frees the GIL.
//
// Outputs are made by the caller (ops/native.py). ShapeError comes from slmkit.errors; a wrong element type is a
// TypeError; both say what was given and what is taken.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "kernel_sets.h"
#include "limits.h"
#include "ops.h"
#include "pack.h"
#include "repack.h"
#include "threads.h"

namespace nb = nanobind;
using nb::literals::operator""_a;

namespace {

using Array = nb::ndarray<nb::ro, nb::device::cpu>;
using Output = nb::ndarray<nb::device::cpu>;
using Pattern = std::tuple<int64_t, int64_t, int64_t, Array>;  // of block-sparse attention: size, local, stride, shifts

// Becomes slmkit.errors.ShapeError; may be thrown without the GIL.
struct ShapeFault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

[[noreturn]] void shape_error(const std::string& message) { throw ShapeFault(message); }

void translate(const std::exception_ptr& error, void*) {
  try {
    std::rethrow_exception(error);
  } catch (const ShapeFault& fault) {
    PyErr_SetString(nb::module_::import_("slmkit.errors").attr("ShapeError").ptr(), fault.what());
  }
}

template <class A>
std::string shape_of(const A& a) {
  std::string s = "(";
  for (size_t i = 0; i < a.ndim(); ++i) s += (i ? ", " : "") + std::to_string(a.shape(i));
  return s + ")";
}

template <class T, class A>
void check_type(const A& a, const char* name, const char* wanted) {
  if (a.dtype() != nb::dtype<T>()) throw nb::type_error((std::string(name) + " must be an array of " + wanted).c_str());
}

// Elements lie one after the other from axis `from` on; axes of length 1 may have any stride.
template <class A>
bool contiguous(const A& a, size_t from = 0) {
  int64_t step = 1;
  for (size_t i = a.ndim(); i-- > from;) {
    if (a.shape(i) != 1 && a.stride(i) != step) return a.size() == 0;
    step *= static_cast<int64_t>(a.shape(i));
  }
  return true;
}

template <class A>
void check_shape(const A& a, const char* name, std::initializer_list<int64_t> wanted) {
  bool same = a.ndim() == wanted.size();
  size_t i = 0;
  for (const int64_t n : wanted) same = same && static_cast<int64_t>(a.shape(i++)) == n;
  if (same) return;
  std::string shape;
  for (const int64_t n : wanted) shape += (shape.empty() ? "(" : ", ") + std::to_string(n);
  shape_error(std::string(name) + " has shape " + shape_of(a) + ", not " + shape + ")");
}

template <class A>
void check_dimensions(const A& a, const char* name, size_t ndim) {
  if (a.ndim() != ndim)
    shape_error(std::string(name) + " has shape " + shape_of(a) + ", but must have " + std::to_string(ndim) + " axes");
}

template <class A>
void check_contiguous(const A& a, const char* name) {
  if (!contiguous(a)) shape_error(std::string(name) + " must be contiguous; pass numpy.ascontiguousarray of it");
}

const float* floats(const Array& a, const char* name, size_t ndim) {
  check_type<float>(a, name, "float32");
  check_dimensions(a, name, ndim);
  check_contiguous(a, name);
  return static_cast<const float*>(a.data());
}

const int32_t* int32s(const Array& a, const char* name, size_t ndim) {
  check_type<int32_t>(a, name, "int32");
  check_dimensions(a, name, ndim);
  check_contiguous(a, name);
  return static_cast<const int32_t*>(a.data());
}

float* result(const Output& a, std::initializer_list<int64_t> shape) {
  check_type<float>(a, "out", "float32");
  check_shape(a, "out", shape);
  check_contiguous(a, "out");
  return static_cast<float*>(a.data());
}

int64_t length(const Array& a, size_t axis) { return static_cast<int64_t>(a.shape(axis)); }

// [tokens][heads][head_dim] whose tokens may lie further apart, as in a slice of a fused projection.
struct Heads {
  const float* data;
  int64_t tokens, heads, head_dim, stride;
};

Heads heads_of(const Array& a, const char* name) {
  check_type<float>(a, name, "float32");
  check_dimensions(a, name, 3);
  if (!contiguous(a, 1)) shape_error(std::string(name) + " must be contiguous within each token");
  return {static_cast<const float*>(a.data()), length(a, 0), length(a, 1), length(a, 2), a.stride(0)};
}

const nb::dlpack::dtype kHalf = {static_cast<uint8_t>(nb::dlpack::dtype_code::Float), 16, 1};

bool number_of(const nb::dlpack::dtype& type, slm::Number* number) {
  if (type == nb::dtype<float>()) *number = slm::Number::f32;
  else if (type == nb::dtype<uint16_t>()) *number = slm::Number::bf16;
  else if (type == kHalf) *number = slm::Number::f16;
  else return false;
  return true;
}

// A prepared weight matrix; keeps the arrays alive that it points into.
struct Matrix {
  std::string format;
  int64_t n, k, nbytes;
  Array data, scale;
  slm::Dense dense = {};
  slm::Packed packed = {};
  bool is_packed = false;
  slm::Packing packing = slm::Packing::q4;
};

void check_size(int64_t n, int64_t k) {
  if (n < 1 || k < 1)
    shape_error("a matrix [" + std::to_string(n) + ", " + std::to_string(k) + "] is empty; both must be 1 or more");
}

Matrix make_dense(const std::string& format, Array data) {
  check_dimensions(data, "data", 2);
  check_size(length(data, 0), length(data, 1));
  check_contiguous(data, "data");
  slm::Number number;
  if (!number_of(data.dtype(), &number)) throw nb::type_error("data must be an array of float32, float16 or uint16");
  Matrix m{format, length(data, 0), length(data, 1), static_cast<int64_t>(data.nbytes()), data, {}};
  m.dense = {data.data(), number, m.n, m.k};
  return m;
}

Matrix make_packed(const std::string& format, int64_t n, int64_t k, Array data, Array scale) {
  check_size(n, k);
  const bool q8 = format == "q8";
  const int64_t tiles = (n + slm::kTile - 1) / slm::kTile, groups = (k + slm::kGroup - 1) / slm::kGroup;
  if (q8) check_type<int8_t>(data, "data", "int8");
  else check_type<uint8_t>(data, "data", "uint8");
  if (scale.dtype() != kHalf) throw nb::type_error("scale must be an array of float16");
  check_shape(data, "data", {tiles, groups, q8 ? 512 : 256});
  check_shape(scale, "scale", {tiles, groups, slm::kTile});
  check_contiguous(data, "data");
  check_contiguous(scale, "scale");
  Matrix m{format, n, k, static_cast<int64_t>(data.nbytes() + scale.nbytes()), data, scale};
  m.packed = {static_cast<const uint8_t*>(data.data()), static_cast<const uint16_t*>(scale.data()), n, k, tiles, groups};
  m.is_packed = true;
  m.packing = q8 ? slm::Packing::q8 : slm::Packing::q4;
  return m;
}

Matrix make_super(const std::string& format, int64_t n, int64_t k, Array data) {
  check_size(n, k);
  if (k % slm::kSuper) shape_error("a " + format + " matrix has a multiple of 256 inputs, not " + std::to_string(k));
  const int64_t tiles = (n + slm::kTile - 1) / slm::kTile;
  const bool q4 = format == "q4_k", q5 = format == "q5_k";
  const int64_t size = q4 ? slm::Super<4>::kBytes : q5 ? slm::Super<5>::kBytes : slm::Super<6>::kBytes;
  check_type<uint8_t>(data, "data", "uint8");
  check_shape(data, "data", {tiles, k / slm::kSuper, size});
  check_contiguous(data, "data");
  Matrix m{format, n, k, static_cast<int64_t>(data.nbytes()), data, {}};
  m.packed = {static_cast<const uint8_t*>(data.data()), nullptr, n, k, tiles, k / slm::kGroup};
  m.is_packed = true;
  m.packing = q4 ? slm::Packing::q4_k : q5 ? slm::Packing::q5_k : slm::Packing::q6_k;
  return m;
}

Matrix make_q4_s(int64_t n, int64_t k, Array data) {
  check_size(n, k);
  const int64_t tiles = (n + slm::kTile - 1) / slm::kTile;
  check_type<uint8_t>(data, "data", "uint8");
  check_shape(data, "data", {tiles, slm::q4s_tile_bytes(k)});
  check_contiguous(data, "data");
  Matrix m{"q4_s", n, k, static_cast<int64_t>(data.nbytes()), data, {}};
  m.packed = {static_cast<const uint8_t*>(data.data()), nullptr, n, k, tiles, (k + slm::kGroup - 1) / slm::kGroup};
  m.is_packed = true;
  m.packing = slm::Packing::q4_s;
  return m;
}

slm::Cache cache_of(const Output& cache, int64_t layer, int64_t head_dim) {
  slm::Cache c;
  if (cache.dtype() == nb::dtype<float>()) c.type = slm::CacheType::f32;
  else if (cache.dtype() == kHalf) c.type = slm::CacheType::f16;
  else if (cache.dtype() == nb::dtype<int8_t>()) c.type = slm::CacheType::q8;
  else throw nb::type_error("the cache must be an array of float32, float16 or int8");
  const bool q8 = c.type == slm::CacheType::q8;
  c.head_stride = slm::kBlock * (head_dim + (q8 ? static_cast<int64_t>(sizeof(float)) : 0));
  if (cache.ndim() != 5 || cache.shape(2) != 2 || static_cast<int64_t>(cache.shape(4)) != c.head_stride)
    shape_error("the cache has shape " + shape_of(cache) + ", not (blocks, layers, 2, kv_heads, 32 * " +
                std::to_string(head_dim) + (q8 ? " + 128)" : ")"));
  check_contiguous(cache, "the cache");
  if (layer < 0 || layer >= static_cast<int64_t>(cache.shape(1)))
    shape_error("layer " + std::to_string(layer) + " is not among the cache's " + std::to_string(cache.shape(1)));
  c.blocks = static_cast<int64_t>(cache.shape(0));
  c.kv_heads = static_cast<int64_t>(cache.shape(3));
  c.head_dim = head_dim;
  c.value_offset = c.kv_heads * c.head_stride;
  c.block_stride = static_cast<int64_t>(cache.shape(1)) * 2 * c.value_offset;
  c.cells = static_cast<char*>(cache.data()) + layer * 2 * c.value_offset * static_cast<int64_t>(cache.itemsize());
  return c;
}

// Calls of ops in their order, made once and run many times. It holds no array: who records keeps them alive.
struct Tape {
  std::vector<std::function<void()>> calls;

  void run() const {
    nb::gil_scoped_release free;
    for (const auto& call : calls) call();
  }
};

// One kernel set, with the ops as methods. They check types and shapes at once, and the numbers in ids, slots and
// segments when the op runs: these change between runs of a tape.
struct KernelSet {
  const slm::Kernels* kernels;
  Tape* tape = nullptr;

  template <class F>
  void perform(F op) const {
    if (tape) return tape->calls.emplace_back(std::move(op)), void();
    nb::gil_scoped_release free;
    op();
  }

  void matmul(const Array& x, const Matrix& w, const Output& out) const {
    const float* in = floats(x, "x", 2);
    const int64_t tokens = length(x, 0);
    if (length(x, 1) != w.k)
      shape_error("x has " + std::to_string(length(x, 1)) + " features, the matrix takes " + std::to_string(w.k));
    float* to = result(out, {tokens, w.n});
    if (w.is_packed)
      perform([=, k = kernels, m = w.packed, packing = w.packing] { slm::matmul_packed(*k, m, packing, in, tokens, to); });
    else
      perform([=, k = kernels, m = w.dense] { slm::matmul_dense(*k, m, in, tokens, to); });
  }

  void embed(const Matrix& w, const Array& ids, const Output& out) const {
    const int32_t* rows = int32s(ids, "ids", 1);
    const int64_t count = length(ids, 0);
    float* to = result(out, {count, w.k});
    perform([=, dense = w.dense, packed = w.packed, is_packed = w.is_packed, packing = w.packing, n = w.n] {
      for (int64_t i = 0; i < count; ++i)
        if (rows[i] < 0 || rows[i] >= n)
          shape_error("id " + std::to_string(rows[i]) + " is outside the table's " + std::to_string(n) + " rows");
      if (is_packed) slm::embed_packed(packed, packing, rows, count, to);
      else slm::embed_dense(dense, rows, count, to);
    });
  }

  void rms_norm(const Array& x, const Array& weight, float eps, const Output& out) const {
    const float *in = floats(x, "x", 2), *by = floats(weight, "weight", 1);
    check_shape(weight, "weight", {length(x, 1)});
    float* to = result(out, {length(x, 0), length(x, 1)});
    perform([=, k = kernels, tokens = length(x, 0), dim = length(x, 1)] { slm::rms_norm(*k, in, by, eps, tokens, dim, to); });
  }

  void layer_norm(const Array& x, const Array& weight, const Array& bias, float eps, const Output& out) const {
    const float *in = floats(x, "x", 2), *by = floats(weight, "weight", 1), *plus = floats(bias, "bias", 1);
    check_shape(weight, "weight", {length(x, 1)});
    check_shape(bias, "bias", {length(x, 1)});
    float* to = result(out, {length(x, 0), length(x, 1)});
    perform([=, k = kernels, tokens = length(x, 0), dim = length(x, 1)] {
      slm::layer_norm(*k, in, by, plus, eps, tokens, dim, to);
    });
  }

  void silu_mul(const Array& gate_up, const Output& out) const {
    const float* in = floats(gate_up, "gate_up", 2);
    if (length(gate_up, 1) % 2) shape_error("gate_up has " + std::to_string(length(gate_up, 1)) + " features, an odd number");
    const int64_t tokens = length(gate_up, 0), dim = length(gate_up, 1) / 2;
    float* to = result(out, {tokens, dim});
    perform([=, k = kernels] { slm::silu_mul(*k, in, tokens, dim, to); });
  }

  void route(const Array& scores, float eps, const Output& chosen, const Output& weights) const {
    const float* in = floats(scores, "scores", 2);
    const int64_t tokens = length(scores, 0), experts = length(scores, 1);
    if (experts < 2) shape_error("scores are of " + std::to_string(experts) + " experts; two are chosen");
    float* to = result(weights, {tokens, 2});
    check_type<int32_t>(chosen, "chosen", "int32");
    check_shape(chosen, "chosen", {tokens, 2});
    check_contiguous(chosen, "chosen");
    auto* ids = static_cast<int32_t*>(chosen.data());
    perform([=] { slm::route(in, tokens, experts, eps, ids, to); });
  }

  // Keeps the GIL: another thread would not give it back within the microseconds that this takes.
  int32_t draw(const Array& logits, double temperature, int64_t top_k, double top_p, double min_p, double u) const {
    const float* in = floats(logits, "logits", 1);
    if (!length(logits, 0)) shape_error("there are no logits to draw from");
    return slm::draw(in, length(logits, 0), temperature, top_k, top_p, min_p, u);
  }

  void gelu(const Array& x, const Output& out) const { activate(slm::gelu, x, out); }
  void quick_gelu(const Array& x, const Output& out) const { activate(slm::quick_gelu, x, out); }

  template <class F>
  void activate(F op, const Array& x, const Output& out) const {
    const float* in = floats(x, "x", 2);
    float* to = result(out, {length(x, 0), length(x, 1)});
    perform([=, k = kernels, count = length(x, 0) * length(x, 1)] { op(*k, in, count, to); });
  }

  void encode(const Array& q, const Array& k, const Array& v, int64_t run, float scale, const Output& out) const {
    const Heads queries = heads_of(q, "q"), keys = heads_of(k, "k"), values = heads_of(v, "v");
    check_shape(k, "k", {queries.tokens, queries.heads, queries.head_dim});
    check_shape(v, "v", {queries.tokens, queries.heads, queries.head_dim});
    if (run < 1 || queries.tokens % run)
      shape_error(std::to_string(queries.tokens) + " rows are no multiple of a length of " + std::to_string(run));
    float* to = result(out, {queries.tokens, queries.heads * queries.head_dim});
    const slm::Encode e = {queries.data,     keys.data,      values.data, to,           queries.tokens, run, queries.heads,
                           queries.head_dim, queries.stride, keys.stride, values.stride, scale};
    perform([=, k = kernels] { slm::encode(*k, e); });
  }

  void add(const Output& x, const Array& y) const {
    const float* terms = floats(y, "y", 2);
    float* to = result(x, {length(y, 0), length(y, 1)});
    perform([=, count = length(y, 0) * length(y, 1)] { slm::add(to, terms, count); });
  }

  void add_bias(const Output& x, const Array& bias) const {
    const float* terms = floats(bias, "bias", 1);
    check_dimensions(x, "x", 2);
    const auto tokens = static_cast<int64_t>(x.shape(0)), dim = static_cast<int64_t>(x.shape(1));
    check_shape(bias, "bias", {dim});
    float* to = result(x, {tokens, dim});
    perform([=] { slm::add_bias(to, terms, tokens, dim); });
  }

  void place_heads(const Array& x, const Array& places, const Output& out) const {
    const Heads h = heads_of(x, "x");
    const int32_t* to = int32s(places, "places", 1);
    check_shape(places, "places", {h.heads});
    check_dimensions(out, "out", 3);
    const int64_t heads = static_cast<int64_t>(out.shape(1));
    for (int64_t i = 0; i < h.heads; ++i)
      if (to[i] < 0 || to[i] >= heads)
        shape_error("place " + std::to_string(to[i]) + " is not among the " + std::to_string(heads) + " heads of the result");
    const slm::PlaceHeads p = {h.data, to, result(out, {h.tokens, heads, h.head_dim}), h.tokens, h.heads, h.head_dim,
                               h.stride, heads};
    perform([=] { slm::place_heads(p); });
  }

  void gegelu(const Array& x, float limit, const Output& out) const {
    const float* in = floats(x, "x", 2);
    if (length(x, 1) % 2) shape_error("x has " + std::to_string(length(x, 1)) + " features, an odd number");
    const int64_t tokens = length(x, 0), dim = length(x, 1) / 2;
    float* to = result(out, {tokens, dim});
    perform([=, k = kernels] { slm::gegelu(*k, in, limit, tokens, dim, to); });
  }

  void rotate_and_cache(const Array& q, const Array& k, const Array& v, const Array& cos, const Array& sin,
                        const Output& cache, int64_t layer, const Array& slots, const Output& out) const {
    const Heads queries = heads_of(q, "q"), keys = heads_of(k, "k"), values = heads_of(v, "v");
    const slm::Cache c = cache_of(cache, layer, keys.head_dim);
    const float *by_cos = floats(cos, "cos", 2), *by_sin = floats(sin, "sin", 2);
    const int64_t tokens = keys.tokens, pairs = length(cos, 1);
    check_shape(q, "q", {tokens, queries.heads, c.head_dim});
    check_shape(k, "k", {tokens, c.kv_heads, c.head_dim});
    check_shape(v, "v", {tokens, c.kv_heads, c.head_dim});
    check_shared(queries.heads, c.kv_heads);
    check_shape(cos, "cos", {tokens, pairs});
    check_shape(sin, "sin", {tokens, pairs});
    if (2 * pairs > c.head_dim)
      shape_error(std::to_string(pairs) + " pairs of features do not fit a head of " + std::to_string(c.head_dim));
    check_type<int64_t>(slots, "slots", "int64");
    check_shape(slots, "slots", {tokens});
    check_contiguous(slots, "slots");
    const auto* places = static_cast<const int64_t*>(slots.data());
    float* to = result(out, {tokens, queries.heads, c.head_dim});
    const slm::RotateAndCache r = {c,      queries.data,  keys.data, values.data,    by_cos,      by_sin,       to, places,
                                   tokens, queries.heads, pairs,     queries.stride, keys.stride, values.stride};
    perform([=, k = kernels] {
      check_slots(places, tokens, c.blocks);
      slm::rotate_and_cache(*k, r);
    });
  }

  void attention(const Array& q, const Output& cache, int64_t layer, const Array& starts, const Array& positions,
                 const Array& blocks, float scale, int64_t window, const std::optional<Pattern>& sparse,
                 const Output& out) const {
    const Heads h = heads_of(q, "q");
    const slm::Cache c = cache_of(cache, layer, h.head_dim);
    check_shared(h.heads, c.kv_heads);
    if (window < 0) shape_error("window is " + std::to_string(window) + "; it must be 0 (none) or more");
    const slm::Segments s = {int32s(starts, "starts", 1), int32s(positions, "positions", 1), int32s(blocks, "blocks", 2),
                             length(positions, 0), length(blocks, 1)};
    check_shape(starts, "starts", {s.sequences + 1});
    check_shape(blocks, "blocks", {s.sequences, s.most_blocks});
    float* to = result(out, {h.tokens, h.heads * h.head_dim});
    const slm::Sparse pattern = sparse ? pattern_of(*sparse, h.heads, window) : slm::Sparse{};
    const slm::Attention a = {c, h.data, to, h.stride, h.heads, scale, window, pattern};
    perform([=, k = kernels] {
      check_segments(s, h.tokens, c.blocks);
      slm::attention(*k, a, s);
    });
  }

  static void check_slots(const int64_t* slots, int64_t tokens, int64_t cache_blocks) {
    for (int64_t i = 0; i < tokens; ++i)
      if (slots[i] < 0 || slots[i] >= cache_blocks * slm::kBlock)
        shape_error("slot " + std::to_string(slots[i]) + " is outside the cache's " + std::to_string(cache_blocks) +
                    " blocks of 32");
  }

  static slm::Sparse pattern_of(const Pattern& pattern, int64_t heads, int64_t window) {
    const auto& [size, local, stride, array] = pattern;
    if (size < slm::kBlock || size % slm::kBlock || local < 1 || stride < 1 || window)
      shape_error("a sparse pattern has blocks of a multiple of 32 tokens, at least one near block, a stride from 1 up and "
                  "no window, not " + std::to_string(size) + ", " + std::to_string(local) + ", " +
                  std::to_string(stride) + " and " + std::to_string(window));
    const int32_t* shifts = int32s(array, "shifts", 1);
    check_shape(array, "shifts", {heads});
    for (int64_t i = 0; i < heads; ++i)
      if (shifts[i] < 0 || shifts[i] >= stride)
        shape_error("shift " + std::to_string(shifts[i]) + " is not below the stride of " + std::to_string(stride));
    return {size / slm::kBlock, local, stride, shifts};
  }

  static void check_shared(int64_t heads, int64_t kv_heads) {
    if (heads == 0 || kv_heads == 0 || heads % kv_heads)
      shape_error(std::to_string(heads) + " heads are not a multiple of the cache's " + std::to_string(kv_heads));
  }

  static void check_segments(const slm::Segments& s, int64_t tokens, int64_t cache_blocks) {
    if (s.starts[0] != 0 || s.starts[s.sequences] != tokens)
      shape_error("starts must go from 0 to the " + std::to_string(tokens) + " rows of q");
    for (int64_t i = 0; i < s.sequences; ++i) {
      const std::string which = "sequence " + std::to_string(i);
      const int64_t rows = static_cast<int64_t>(s.starts[i + 1]) - s.starts[i];
      if (rows < 0) shape_error("starts fall at " + which);
      if (s.positions[i] < 0) shape_error(which + " has a position below 0");
      const int64_t used = rows ? (s.positions[i] + rows + slm::kBlock - 1) / slm::kBlock : 0;
      if (used > s.most_blocks)
        shape_error(which + " needs " + std::to_string(used) + " blocks, its table has " + std::to_string(s.most_blocks));
      for (int64_t b = 0; b < used; ++b) {
        const int32_t block = s.blocks[i * s.most_blocks + b];
        if (block < 0 || block >= cache_blocks)
          shape_error(which + " has block " + std::to_string(block) + ", the cache has " + std::to_string(cache_blocks));
      }
    }
  }
};

bool pack(const Array& weights, const std::string& format, const Output& data, const nb::object& scale) {
  const Matrix dense = make_dense("", weights);
  if (format == "q4_s") {
    make_q4_s(dense.n, dense.k, Array(data));
    nb::gil_scoped_release free;
    return slm::pack_q4_s(dense.dense, static_cast<uint8_t*>(data.data()));
  }
  const Output scales = nb::cast<Output>(scale);
  const Matrix packed = make_packed(format, dense.n, dense.k, Array(data), Array(scales));
  nb::gil_scoped_release free;
  return slm::pack(dense.dense, packed.packing, static_cast<uint8_t*>(data.data()), static_cast<uint16_t*>(scales.data()));
}

bool repack(const Array& rows, const std::string& type, int64_t k, const Output& data, const nb::object& scale) {
  const slm::GgufType* gguf = slm::gguf_type(type.c_str());
  if (!gguf) throw nb::value_error(("no packed format holds the numbers of GGUF type " + type).c_str());
  check_type<uint8_t>(rows, "rows", "uint8");
  check_dimensions(rows, "rows", 2);
  check_contiguous(rows, "rows");
  const int64_t n = length(rows, 0);
  check_size(n, k);
  if (k % gguf->weights)
    shape_error(type + " has blocks of " + std::to_string(gguf->weights) + " weights, of which " + std::to_string(k) +
                " is no multiple");
  check_shape(rows, "rows", {n, k / gguf->weights * gguf->bytes});
  const bool grouped = gguf->packing == slm::Packing::q4 || gguf->packing == slm::Packing::q8;
  uint16_t* scales = nullptr;
  if (grouped) {
    const Output array = nb::cast<Output>(scale);
    make_packed(gguf->packing == slm::Packing::q8 ? "q8" : "q4", n, k, Array(data), Array(array));
    scales = static_cast<uint16_t*>(array.data());
  } else {
    make_super(gguf->packing == slm::Packing::q4_k ? "q4_k" : gguf->packing == slm::Packing::q5_k ? "q5_k" : "q6_k", n, k,
               Array(data));
  }
  nb::gil_scoped_release free;
  return slm::repack(*gguf, static_cast<const uint8_t*>(rows.data()), n, k, static_cast<uint8_t*>(data.data()), scales);
}

std::vector<KernelSet> kernel_sets() {
  std::vector<KernelSet> sets;
  for (const slm::Kernels* kernels : slm::kernel_sets()) sets.push_back({kernels});
  return sets;
}

}  // namespace

NB_MODULE(_native, m) {
  nb::set_leak_warnings(false);  // an interpreter that ends with a model in use leaves it to the system
  nb::register_exception_translator(translate);
  nb::class_<Tape>(m, "Tape").def(nb::init<>()).def("run", &Tape::run);

  nb::class_<Matrix>(m, "Matrix")
      .def_ro("format", &Matrix::format)
      .def_ro("n", &Matrix::n)
      .def_ro("k", &Matrix::k)
      .def_ro("nbytes", &Matrix::nbytes);
  m.def("dense", &make_dense, "format"_a, "data"_a.noconvert());
  m.def("packed", &make_packed, "format"_a, "n"_a, "k"_a, "data"_a.noconvert(), "scale"_a.noconvert());
  m.def("q4_s", &make_q4_s, "n"_a, "k"_a, "data"_a.noconvert());
  m.def("superblocks", &make_super, "format"_a, "n"_a, "k"_a, "data"_a.noconvert());

  nb::class_<KernelSet>(m, "KernelSet")
      .def_prop_ro("name", [](const KernelSet& s) { return s.kernels->name; })
      .def("onto", [](const KernelSet& s, Tape& tape) { return KernelSet{s.kernels, &tape}; }, "tape"_a, nb::keep_alive<0, 2>())
      .def("matmul", &KernelSet::matmul, "x"_a.noconvert(), "weight"_a, "out"_a.noconvert())
      .def("embed", &KernelSet::embed, "weight"_a, "ids"_a.noconvert(), "out"_a.noconvert())
      .def("rms_norm", &KernelSet::rms_norm, "x"_a.noconvert(), "weight"_a.noconvert(), "eps"_a, "out"_a.noconvert())
      .def("layer_norm", &KernelSet::layer_norm, "x"_a.noconvert(), "weight"_a.noconvert(), "bias"_a.noconvert(), "eps"_a,
           "out"_a.noconvert())
      .def("silu_mul", &KernelSet::silu_mul, "gate_up"_a.noconvert(), "out"_a.noconvert())
      .def("route", &KernelSet::route, "scores"_a.noconvert(), "eps"_a, "chosen"_a.noconvert(), "weights"_a.noconvert())
      .def("draw", &KernelSet::draw, "logits"_a.noconvert(), "temperature"_a, "top_k"_a, "top_p"_a, "min_p"_a, "u"_a)
      .def("gelu", &KernelSet::gelu, "x"_a.noconvert(), "out"_a.noconvert())
      .def("quick_gelu", &KernelSet::quick_gelu, "x"_a.noconvert(), "out"_a.noconvert())
      .def("encode", &KernelSet::encode, "q"_a.noconvert(), "k"_a.noconvert(), "v"_a.noconvert(), "length"_a, "scale"_a,
           "out"_a.noconvert())
      .def("add", &KernelSet::add, "x"_a.noconvert(), "y"_a.noconvert())
      .def("add_bias", &KernelSet::add_bias, "x"_a.noconvert(), "bias"_a.noconvert())
      .def("place_heads", &KernelSet::place_heads, "x"_a.noconvert(), "places"_a.noconvert(), "out"_a.noconvert())
      .def("gegelu", &KernelSet::gegelu, "x"_a.noconvert(), "limit"_a, "out"_a.noconvert())
      .def("rotate_and_cache", &KernelSet::rotate_and_cache, "q"_a.noconvert(), "k"_a.noconvert(), "v"_a.noconvert(),
           "cos"_a.noconvert(), "sin"_a.noconvert(), "cache"_a.noconvert(), "layer"_a, "slots"_a.noconvert(),
           "out"_a.noconvert())
      .def("attention", &KernelSet::attention, "q"_a.noconvert(), "cache"_a.noconvert(), "layer"_a,
           "starts"_a.noconvert(), "positions"_a.noconvert(), "blocks"_a.noconvert(), "scale"_a, "window"_a,
           "sparse"_a.none(), "out"_a.noconvert())
      .def(
          "read_bandwidth",
          [](const KernelSet& s, int64_t bytes, int passes) {
            nb::gil_scoped_release free;
            return slm::read_bandwidth(*s.kernels, bytes, passes);
          },
          "bytes"_a, "passes"_a)
      .def(
          "multiply_rate",
          [](const KernelSet& s, double seconds, int passes) {
            nb::gil_scoped_release free;
            return slm::multiply_rate(s.kernels->multiply, seconds, passes);
          },
          "seconds"_a, "passes"_a)
      .def(
          "multiply_add_rate",
          [](const KernelSet& s, double seconds, int passes) {
            nb::gil_scoped_release free;
            return slm::multiply_rate(s.kernels->multiply_add, seconds, passes);
          },
          "seconds"_a, "passes"_a);

  m.def("kernel_sets", &kernel_sets);
  m.def("pack", &pack, "weights"_a.noconvert(), "format"_a, "data"_a.noconvert(), "scale"_a.none());
  m.def("repack", &repack, "rows"_a.noconvert(), "type"_a, "k"_a, "data"_a.noconvert(), "scale"_a.none());
  m.def("thread_count", &slm::thread_count);
  m.def("set_thread_count", &slm::set_thread_count, "threads"_a);
}
