#include "threads.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif
#ifndef _WIN32
#include <pthread.h>
#endif

namespace slm {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kSpin = std::chrono::microseconds(60);    // covers the gap between two ops of a token
constexpr auto kYield = std::chrono::microseconds(1500);  // covers the gap between two tokens

void pause() {
#if defined(__x86_64__) || defined(_M_X64)
  _mm_pause();
#elif defined(__aarch64__) && defined(__GNUC__)
  __asm__ volatile("yield");
#endif
}

// Waits until `ready`, first spinning, then (until `yield` after the start) yielding; false if it never came.
template <class Ready>
bool wait_briefly(Ready ready, Clock::duration spin, Clock::duration yield) {
  const auto start = Clock::now();
  for (;;) {
    for (int i = 0; i < 64; ++i) {
      if (ready()) return true;
      pause();
    }
    const auto waited = Clock::now() - start;
    if (waited > yield) return ready();
    if (waited > spin) std::this_thread::yield();
  }
}

class Pool {
 public:
  // generation: of the last job, an even number; tests start near the end of its range.
  explicit Pool(int threads, uint32_t generation = 0)
      : threads_(threads), generation_(generation), ticket_(ticket_of(generation)) {
    try {
      for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { work(); });
    } catch (const std::system_error&) {
      // The machine gives no more threads: those there are do the work, and the caller always takes part.
    }
  }

  ~Pool() {
    stop_.store(true);
    { std::lock_guard<std::mutex> lock(mutex_); }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
  }

  int threads() const { return threads_; }

  // One caller at a time: `set_thread_count` and `run_chunks` hold the owner's lock.
  void run(int64_t chunks, void (*run)(void*, int64_t), void* context) {
    generation_ += 2;  // starts again at 0 after 2^31 jobs, a few days of work
    ticket_.store(ticket_of(generation_ - 1));  // closed: nobody can take a chunk while the fields change
    run_.store(run, std::memory_order_release);
    context_.store(context, std::memory_order_release);
    chunks_.store(chunks, std::memory_order_release);
    done_.store(0, std::memory_order_relaxed);
    ticket_.store(ticket_of(generation_));
    if (sleepers_.load() > 0) {
      { std::lock_guard<std::mutex> lock(mutex_); }
      wake_.notify_all();
    }
    take_chunks(generation_);
    const auto finished = [&] { return done_.load(std::memory_order_acquire) == chunks; };
    if (wait_briefly(finished, kSpin, kSpin)) return;
    std::unique_lock<std::mutex> lock(mutex_);
    caller_sleeps_.store(true);
    finished_.wait(lock, [&] { return done_.load() == chunks; });
    caller_sleeps_.store(false);
  }

 private:
  static constexpr int kChunkBits = 32;  // of the ticket: generation above (odd while closed), next chunk below
  static uint64_t ticket_of(uint32_t generation) { return uint64_t{generation} << kChunkBits; }

  // The fields are read before the chunk is taken. Whoever reads one of the next generation also sees that the ticket
  // was closed before, and cannot take a chunk with the ticket it holds.
  void take_chunks(uint32_t generation) {
    for (;;) {
      uint64_t ticket = ticket_.load(std::memory_order_acquire);
      const int64_t chunk = static_cast<int64_t>(ticket & ((uint64_t{1} << kChunkBits) - 1));
      const auto run = run_.load(std::memory_order_acquire);
      void* context = context_.load(std::memory_order_acquire);
      const int64_t chunks = chunks_.load(std::memory_order_acquire);
      if (ticket >> kChunkBits != generation || chunk >= chunks) return;
      if (!ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel)) continue;
      run(context, chunk);
      if (done_.fetch_add(1) + 1 == chunks && caller_sleeps_.load()) {
        { std::lock_guard<std::mutex> lock(mutex_); }
        finished_.notify_one();
      }
    }
  }

  void work() {
    uint64_t seen = 0;
    const auto news = [&] {
      const uint64_t generation = ticket_.load() >> kChunkBits;
      return (generation != seen && generation % 2 == 0) || stop_.load();
    };
    while (!stop_.load()) {
      if (!wait_briefly(news, kSpin, kYield)) {
        std::unique_lock<std::mutex> lock(mutex_);
        ++sleepers_;
        wake_.wait(lock, news);
        --sleepers_;
      }
      const uint64_t generation = ticket_.load() >> kChunkBits;
      if (generation % 2) continue;  // closed again already: the one that follows is news too
      seen = generation;
      take_chunks(seen);
    }
  }

  const int threads_;
  std::vector<std::thread> workers_;
  uint32_t generation_;
  alignas(64) std::atomic<uint64_t> ticket_;
  std::atomic<void (*)(void*, int64_t)> run_{nullptr};
  std::atomic<void*> context_{nullptr};
  std::atomic<int64_t> chunks_{0};
  alignas(64) std::atomic<int64_t> done_{0};
  std::atomic<bool> caller_sleeps_{false};
  alignas(64) std::atomic<int> sleepers_{0};
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::condition_variable wake_, finished_;
};

// The pool and its lock are never destroyed: workers may still wait on them when the process ends. A forked child has
// none of its parent's threads and perhaps a taken lock, so it starts with a fresh one of the same size.
struct Owner {
  std::mutex mutex;
  Pool* pool = nullptr;
};
std::atomic<Owner*> owner{nullptr};
std::atomic<int> wanted{0};

Owner& current_owner() {
  Owner* o = owner.load(std::memory_order_acquire);
  if (o) return *o;
  Owner* fresh = new Owner;
  if (owner.compare_exchange_strong(o, fresh)) {
#ifndef _WIN32
    static const int registered = pthread_atfork(nullptr, nullptr, [] { owner.store(nullptr); });
    (void)registered;
#endif
    return *fresh;
  }
  delete fresh;
  return *o;
}

}  // namespace

void run_chunks(int64_t chunks, void (*run)(void*, int64_t), void* context) {
  const auto alone = [&] {
    for (int64_t i = 0; i < chunks; ++i) run(context, i);
  };
  const int threads = thread_count();
  if (threads == 1 || chunks <= 1) return alone();
  Owner& o = current_owner();
  std::unique_lock<std::mutex> lock(o.mutex, std::try_to_lock);
  if (!lock) return alone();
  if (!o.pool || o.pool->threads() != threads) {
    delete o.pool;
    o.pool = nullptr;
    o.pool = new Pool(threads);
  }
  o.pool->run(chunks, run, context);
}

int thread_count() {
  const int n = wanted.load(std::memory_order_relaxed);
  if (n > 0) return n;
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  return cores > 0 ? cores : 1;
}

void set_thread_count(int threads) { wanted.store(threads, std::memory_order_relaxed); }

namespace {

struct Buffer {
  void* data = nullptr;
  int64_t bytes = 0;
  ~Buffer() { release(); }
  void release() {
    if (data) ::operator delete(data, std::align_val_t(64));
    data = nullptr;
  }
};

}  // namespace

void* scratch(Scratch slot, int64_t bytes) {
  thread_local Buffer buffers[3];
  Buffer& buffer = buffers[static_cast<int>(slot)];
  if (buffer.bytes < bytes) {
    buffer.release();
    buffer.bytes = 0;
    buffer.data = ::operator new(static_cast<size_t>(bytes), std::align_val_t(64));
    buffer.bytes = bytes;
  }
  return buffer.data;
}

}  // namespace slm
