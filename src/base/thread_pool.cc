#include "base/thread_pool.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <sched.h>

#include "base/check.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace tidal {
namespace {

// About how long a region of a decode step is away: longer idling (sampling, printing, waiting for
// a user) sleeps.
constexpr auto kSpinTime = std::chrono::microseconds(200);
constexpr int kPausesPerClockRead = 32;

void CpuPause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Whole cores of the cgroup v2 quota, or `cores` where there is none.
int CgroupCores(int cores) {
  std::FILE* file = std::fopen("/sys/fs/cgroup/cpu.max", "re");
  if (file == nullptr) return cores;
  long long quota = 0;
  long long period = 0;
  const int fields =
      std::fscanf(file, "%lld %lld", &quota, &period);  // "max 100000" gives 0 fields
  std::fclose(file);
  if (fields != 2 || quota <= 0 || period <= 0) return cores;
  return static_cast<int>(std::clamp<long long>((quota + period - 1) / period, 1, cores));
}

}  // namespace

int UsableCores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  int cores = static_cast<int>(std::thread::hardware_concurrency());
  if (sched_getaffinity(0, sizeof(set), &set) == 0) cores = CPU_COUNT(&set);
  return CgroupCores(std::max(cores, 1));
}

// Each group of fields on its own cache line: the generation is polled by everyone, next_item is
// fought over.
struct ThreadPool::Shared {
  alignas(64) std::atomic<uint32_t> generation{0};
  std::atomic<bool> stop{false};
  BodyFn fn = nullptr;
  const void* context = nullptr;
  int64_t num_items = 0;
  int64_t grain = 1;
  alignas(64) std::atomic<int64_t> next_item{0};
  alignas(64) std::atomic<int32_t> running{0};
};

ThreadPool::ThreadPool(int num_threads)
    : num_threads_(num_threads), shared_(std::make_unique<Shared>()) {
  TIDAL_CHECK(num_threads >= 1 && num_threads <= 1024, "{} threads", num_threads);
  workers_.reserve(static_cast<size_t>(num_threads - 1));
  for (int thread = 1; thread < num_threads; ++thread)
    workers_.emplace_back([this, thread] { Worker(thread); });
}

ThreadPool::~ThreadPool() {
  shared_->stop.store(true, std::memory_order_relaxed);
  shared_->generation.fetch_add(1, std::memory_order_release);
  shared_->generation.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::Drain(int thread) {
  Shared& s = *shared_;
  for (;;) {
    const int64_t begin = s.next_item.fetch_add(s.grain, std::memory_order_relaxed);
    if (begin >= s.num_items) return;
    s.fn(s.context, begin, std::min(begin + s.grain, s.num_items), thread);
  }
}

void ThreadPool::Run(int64_t num_items, int64_t grain, BodyFn fn, const void* context) {
  TIDAL_CHECK(grain >= 1, "grain is {}", grain);
  Shared& s = *shared_;
  s.fn = fn;
  s.context = context;
  s.num_items = num_items;
  s.grain = grain;
  s.next_item.store(0, std::memory_order_relaxed);
  s.running.store(num_threads_ - 1, std::memory_order_relaxed);
  s.generation.fetch_add(1, std::memory_order_release);
  s.generation.notify_all();  // a system call only where a worker sleeps
  Drain(0);
  // Workers hold at most one piece each: the wait is short, and yielding lets them finish on an
  // oversubscribed machine.
  for (int spins = 0; s.running.load(std::memory_order_acquire) != 0; ++spins) {
    CpuPause();
    if (spins % 1024 == 1023) sched_yield();
  }
}

void ThreadPool::Worker(int thread) {
  Shared& s = *shared_;
  uint32_t seen = 0;
  for (;;) {
    const auto deadline = std::chrono::steady_clock::now() + kSpinTime;
    while (s.generation.load(std::memory_order_acquire) == seen) {
      for (int i = 0;
           i < kPausesPerClockRead && s.generation.load(std::memory_order_relaxed) == seen; ++i)
        CpuPause();
      if (std::chrono::steady_clock::now() > deadline)
        s.generation.wait(seen, std::memory_order_acquire);
    }
    ++seen;  // generations cannot be skipped: Run waits for every worker
    if (s.stop.load(std::memory_order_relaxed)) return;
    Drain(thread);
    s.running.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace tidal
