// The pool's count of jobs starts again at 0 after 2^31 of them: those before, at and after that point must all run,
// without workers too. Built by tests/ops/test_threads.py.
#include <cstdio>

#include "../../native/threads.cpp"

int main() {
  long wrong = 0;
  for (const int threads : {1, 3}) {
    slm::Pool pool(threads, 0xfffffff0u);
    for (int job = 0; job < 40; ++job) {
      std::atomic<int> runs[5] = {};
      pool.run(5, [](void* context, int64_t i) { ++static_cast<std::atomic<int>*>(context)[i]; }, runs);
      for (const auto& n : runs) wrong += n != 1;
    }
  }
  std::printf("%ld chunks ran not once\n", wrong);
  return wrong != 0;
}
