// A pool of threads with a low-latency barrier, made for a decode step: some hundred parallel
// regions a token, each of tens of microseconds, so workers spin for a short while before they
// sleep.
#ifndef TIDAL_BASE_THREAD_POOL_H_
#define TIDAL_BASE_THREAD_POOL_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

#include "base/check.h"

namespace tidal {

// The number of cores that this process may use (its affinity mask and cgroup quota counted in), at
// least 1.
int UsableCores();

class ThreadPool {
 public:
  // Owns num_threads - 1 workers; the caller of Run is the other one. REQUIRES: 1 <= num_threads <=
  // 1024.
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return num_threads_; }

  // Calls body(begin, end, thread) over [0, num_items) in pieces of at most `grain` items and
  // returns when all are done. Every thread begins with its own share, the same for the same number
  // of items, so that what one region leaves in a core's caches the next finds there; then it helps
  // the others: a body must not depend on which thread runs it (thread only names scratch space,
  // 0 <= thread < num_threads). One caller at a time; no allocation, no system call while workers
  // are awake.
  template <typename Body>
  void ParallelFor(int64_t num_items, int64_t grain, const Body& body) {
    TIDAL_CHECK(grain >= 1, "grain is {}", grain);
    if (num_threads_ == 1 || num_items <= grain) {
      for (int64_t begin = 0; begin < num_items; begin += grain) {
        body(begin, std::min(begin + grain, num_items), 0);
      }
      return;
    }
    Run(
        num_items, grain,
        [](const void* context, int64_t begin, int64_t end, int thread) {
          (*static_cast<const Body*>(context))(begin, end, thread);
        },
        &body);
  }

 private:
  using BodyFn = void (*)(const void* context, int64_t begin, int64_t end, int thread);
  struct Shared;
  struct Range;

  void Run(int64_t num_items, int64_t grain, BodyFn fn, const void* context);
  void Open();
  void Close();
  void Drain(int thread);
  void Worker(int thread);
  void AwaitOpen(uint32_t seen);
  uint32_t Enter();
  void Leave();

  int num_threads_ = 1;
  std::unique_ptr<Shared> shared_;
  std::unique_ptr<Range[]> ranges_;  // [num_threads]
  std::vector<std::thread> workers_;
};

}  // namespace tidal

#endif  // TIDAL_BASE_THREAD_POOL_H_
