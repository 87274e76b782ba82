// Several callers at once, jobs of all small sizes, the pool's size changing, pauses in which workers fall asleep:
// every chunk must run exactly once. Built with -fsanitize=thread by tests/ops/test_threads.py.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <thread>
#include <vector>

#include "../../native/threads.h"

int main() {
  slm::set_thread_count(4);
  std::atomic<long> wrong{0};
  const auto call = [&](int seed) {
    for (int round = 0; round < 3000; ++round) {
      const int chunks = 1 + (round * 7 + seed) % 37;
      std::vector<int> runs(static_cast<size_t>(chunks), 0);
      slm::parallel(chunks, [&](int64_t i) { ++runs[static_cast<size_t>(i)]; });
      for (const int n : runs) wrong += n != 1;
      if (round % 500 == seed) slm::set_thread_count(1 + (round / 500 + seed) % 5);
      if (round % 1000 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(4));
    }
  };
  std::vector<std::thread> callers;
  for (int i = 0; i < 3; ++i) callers.emplace_back(call, i);
  for (std::thread& caller : callers) caller.join();
  std::printf("%ld chunks ran not once\n", wrong.load());
  return wrong != 0;
}
