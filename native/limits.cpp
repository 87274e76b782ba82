#include "limits.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>

#include "threads.h"

namespace slm {
namespace {

double seconds_of(const std::chrono::steady_clock::time_point& start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

double read_bandwidth(const Kernels& kernels, int64_t bytes, int passes) {
  constexpr int64_t kChunk = 1 << 20;
  const int64_t chunks = std::max<int64_t>(1, bytes / kChunk);
  const std::unique_ptr<char[]> memory(new char[static_cast<size_t>(chunks * kChunk)]);
  parallel(chunks, [&](int64_t i) { std::memset(memory.get() + i * kChunk, static_cast<int>(i), kChunk); });
  std::atomic<uint64_t> sink{0};
  double best = 0;
  for (int pass = 0; pass < passes; ++pass) {
    const auto start = std::chrono::steady_clock::now();
    parallel(chunks, [&](int64_t i) { sink.fetch_xor(kernels.read(memory.get() + i * kChunk, kChunk)); });
    best = std::max(best, static_cast<double>(chunks * kChunk) / seconds_of(start));
  }
  return best;
}

double multiply_rate(Multiply multiply, double seconds, int passes) {
  constexpr int64_t kRounds = 100'000;  // under a millisecond
  const auto probe = std::chrono::steady_clock::now();
  const int64_t per_round = multiply(kRounds);
  const int64_t chunks = std::max<int64_t>(1, static_cast<int64_t>(seconds / seconds_of(probe))) * thread_count();
  double best = 0;
  for (int pass = 0; pass < passes; ++pass) {
    const auto start = std::chrono::steady_clock::now();
    parallel(chunks, [&](int64_t) { multiply(kRounds); });
    best = std::max(best, static_cast<double>(chunks * kRounds * per_round) / seconds_of(start));
  }
  return best;
}

}  // namespace slm
