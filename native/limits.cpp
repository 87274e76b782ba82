#include "limits.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <vector>

#include "threads.h"

namespace slm {
namespace {

double seconds_of(const std::chrono::steady_clock::time_point& start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// The rate of the median pass: one that was disturbed, or ran while the neighbours slept, does not count.
template <class F>
double median_rate(int passes, double amount, F pass) {
  std::vector<double> seconds(static_cast<size_t>(passes));
  for (double& s : seconds) {
    const auto start = std::chrono::steady_clock::now();
    pass();
    s = seconds_of(start);
  }
  std::nth_element(seconds.begin(), seconds.begin() + passes / 2, seconds.end());
  return amount / seconds[static_cast<size_t>(passes / 2)];
}

}  // namespace

double read_bandwidth(const Kernels& kernels, int64_t bytes, int passes) {
  constexpr int64_t kChunk = 1 << 20;
  const int64_t chunks = std::max<int64_t>(1, bytes / kChunk);
  const std::unique_ptr<char[]> memory(new char[static_cast<size_t>(chunks * kChunk)]);
  parallel(chunks, [&](int64_t i) { std::memset(memory.get() + i * kChunk, static_cast<int>(i), kChunk); });
  std::atomic<uint64_t> sink{0};
  return median_rate(passes, static_cast<double>(chunks * kChunk), [&] {
    parallel(chunks, [&](int64_t i) { sink.fetch_xor(kernels.read(memory.get() + i * kChunk, kChunk)); });
  });
}

double multiply_rate(Multiply multiply, double seconds, int passes) {
  constexpr int64_t kRounds = 100'000;  // under a millisecond
  const auto probe = std::chrono::steady_clock::now();
  const int64_t per_round = multiply(kRounds);
  const int64_t chunks = std::max<int64_t>(1, static_cast<int64_t>(seconds / seconds_of(probe))) * thread_count();
  return median_rate(passes, static_cast<double>(chunks * kRounds * per_round), [&] {
    parallel(chunks, [&](int64_t) { multiply(kRounds); });
  });
}

}  // namespace slm
