// What the comparisons of kernel sets share: numbers from a seed, buffers that notice what is written past their end,
// and a count of what differs.
#pragma once

#include <cstdio>
#include <cstring>
#include <new>
#include <string>
#include <vector>

#include "../../native/half.h"
#include "../../native/kernels.h"

namespace compare {

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 1) {}

  uint32_t bits() {  // Knuth's linear congruential generator, upper half
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<uint32_t>(state_ >> 32);
  }
  float number() { return static_cast<float>(static_cast<int32_t>(bits())) * 0x1p-30f; }  // -2..2
  std::vector<float> numbers(int64_t count) {
    std::vector<float> all(static_cast<size_t>(count));
    for (float& x : all) x = number();
    return all;
  }
  std::vector<uint8_t> bytes(int64_t count) {
    std::vector<uint8_t> all(static_cast<size_t>(count));
    for (uint8_t& x : all) x = static_cast<uint8_t>(bits() >> 24);
    return all;
  }

 private:
  uint64_t state_;
};

// The same bits, or both NaN: which NaN comes out of a sum is nobody's promise.
inline bool same(float a, float b) { return std::memcmp(&a, &b, 4) == 0 || (a != a && b != b); }

// 64-byte aligned room of so many bytes, with a guard behind it; none where the address sanitizer watches that place.
class Room {
 public:
  explicit Room(int64_t bytes)
      : bytes_(static_cast<size_t>(bytes)), data_(static_cast<uint8_t*>(::operator new(bytes_ + kGuard, kAlign))) {
    std::memset(data_, 0xa5, bytes_ + kGuard);
  }
  ~Room() { ::operator delete(data_, kAlign); }
  Room(const Room&) = delete;
  Room& operator=(const Room&) = delete;

  void* as() { return data_; }
  bool guarded() const {
    for (size_t i = 0; i < kGuard; ++i)
      if (data_[bytes_ + i] != 0xa5) return false;
    return true;
  }

 private:
#ifdef __SANITIZE_ADDRESS__
  static constexpr size_t kGuard = 0;
#else
  static constexpr size_t kGuard = 64;
#endif
  static constexpr std::align_val_t kAlign{64};
  size_t bytes_;
  uint8_t* data_;
};

class Report {
 public:
  explicit Report(const char* set, const char* other = "scalar") : set_(set), other_(other) {}

  void check(bool right, const std::string& what) {
    ++checks_;
    if (right) return;
    if (++wrong_ <= 20) std::printf("%s differs from %s: %s\n", set_, other_, what.c_str());
  }
  // Of so many numbers each; what differs is said once.
  void check_equal(const float* ours, const float* scalar, int64_t count, const std::string& what) {
    bool right = true;
    for (int64_t i = 0; i < count; ++i) right = right && same(ours[i], scalar[i]);
    check(right, what);
  }
  long finish() const {
    std::printf("%s: %ld of %ld comparisons differ\n", set_, wrong_, checks_);
    return wrong_;
  }

 private:
  const char *set_, *other_;
  long checks_ = 0, wrong_ = 0;
};

inline std::string shape(const char* what, int64_t n, int64_t k, int64_t tokens) {
  return std::string(what) + " [" + std::to_string(n) + ", " + std::to_string(k) + "], " + std::to_string(tokens) +
         " tokens";
}

void products(const slm::Kernels& set, Report& report);     // packed matrices, and what rounds their inputs
void elementwise(const slm::Kernels& set, Report& report);  // dense products, norms, activations
void attention(const slm::Kernels& set, Report& report);    // rotation, the cache, attention

}  // namespace compare
