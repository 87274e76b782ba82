// A pool of threads that share the work of one op.
//
// Work is cut into chunks; the caller and the workers take chunks from one counter. The caller goes on when all chunks
// are done, not when all workers have looked, so a worker without a core holds nobody up. Between ops workers spin, then
// yield, then sleep; a waiting caller soon sleeps too, which frees its core for a worker that lost its own.
#pragma once

#include <cstdint>

namespace slm {

// Calls run(context, chunk) for each chunk in [0, chunks), on up to thread_count() threads, and returns when all are
// done. If another thread is in a call already, all chunks run on this one. run must not throw.
void run_chunks(int64_t chunks, void (*run)(void* context, int64_t chunk), void* context);

template <class F>
void parallel(int64_t chunks, F&& f) {
  run_chunks(chunks, [](void* context, int64_t chunk) { (*static_cast<F*>(context))(chunk); }, &f);
}

int thread_count();
void set_thread_count(int threads);

// 64-byte aligned memory of this thread, kept for its next use; what was in it is lost when a larger one is asked for.
// `slot` tells apart what one thread needs at the same time.
enum class Scratch { activations, unsigned_activations, kernel };
void* scratch(Scratch slot, int64_t bytes);

}  // namespace slm
