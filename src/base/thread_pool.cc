#include "base/thread_pool.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <sched.h>
#include <system_error>

#include "base/check.h"
#include "base/math.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace tidal {
namespace {

// About how long a region of a decode step is away: longer idling (sampling, printing, waiting for
// a user) sleeps.
constexpr auto kSpinTime = std::chrono::microseconds(200);
constexpr int kPausesPerClockRead = 32;
constexpr int kPausesPerYield = 1024;

// Of a generation number: regions are opened by odd ones.
bool IsOpen(uint32_t generation) { return generation % 2 == 1; }

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

// Items that are a thread's to begin with: it takes them from the front, and so do those that have
// none of their own left.
struct alignas(64) ThreadPool::Range {
  std::atomic<int64_t> next{0};
  int64_t end = 0;
};

// Each group of fields on its own cache line: the generation is polled by everyone.
struct ThreadPool::Shared {
  // Odd while a region is open, even between regions. Only the caller of Run writes it.
  alignas(64) std::atomic<uint32_t> generation{0};
  bool stop = false;  // like the three below and the ranges, written before a region opens
  BodyFn fn = nullptr;
  const void* context = nullptr;
  int64_t grain = 1;
  alignas(64) std::atomic<int32_t> workers_inside{0};
};

ThreadPool::ThreadPool(int num_threads) : shared_(std::make_unique<Shared>()) {
  TIDAL_CHECK(num_threads >= 1 && num_threads <= 1024, "{} threads", num_threads);
  ranges_ = std::make_unique<Range[]>(static_cast<size_t>(num_threads));
  workers_.reserve(static_cast<size_t>(num_threads - 1));
  for (int thread = 1; thread < num_threads; ++thread) {
    try {
      workers_.emplace_back([this, thread] { Worker(thread); });
    } catch (const std::system_error&) {
      break;  // a limit of the system: the pool works with the threads that it got
    }
  }
  num_threads_ = static_cast<int>(workers_.size()) + 1;
}

ThreadPool::~ThreadPool() {
  shared_->stop = true;
  Open();
  for (std::thread& worker : workers_) worker.join();
}

// Sequential consistency in Open, Close and Enter: either a worker that comes late sees the region
// closed, or Close sees that worker inside; and either a worker about to sleep sees the new
// generation, or notify_all sees the sleeper.
void ThreadPool::Open() {
  shared_->generation.fetch_add(1, std::memory_order_seq_cst);
  shared_->generation.notify_all();  // a system call only where a worker sleeps
}

// Returns once no worker is inside the region and none can enter it any more. Workers that never
// woke up are not waited for, so a sleeping or descheduled thread costs the region nothing.
void ThreadPool::Close() {
  Shared& s = *shared_;
  s.generation.fetch_add(1, std::memory_order_seq_cst);
  // Workers hold at most one piece each: the wait is short, and yielding lets them finish on an
  // oversubscribed machine.
  for (int spins = 1; s.workers_inside.load(std::memory_order_seq_cst) != 0; ++spins) {
    CpuPause();
    if (spins % kPausesPerYield == 0) sched_yield();
  }
}

// The open generation that the worker is now inside of, or 0 (and it is outside) where none is
// open.
uint32_t ThreadPool::Enter() {
  Shared& s = *shared_;
  s.workers_inside.fetch_add(1, std::memory_order_seq_cst);
  const uint32_t generation = s.generation.load(std::memory_order_seq_cst);
  if (IsOpen(generation)) return generation;
  Leave();
  return 0;
}

void ThreadPool::Leave() { shared_->workers_inside.fetch_sub(1, std::memory_order_release); }

void ThreadPool::Drain(int thread) {
  const Shared& s = *shared_;
  for (int i = 0; i < num_threads_; ++i) {
    Range& range = ranges_[static_cast<size_t>((thread + i) % num_threads_)];
    for (;;) {
      const int64_t begin = range.next.fetch_add(s.grain, std::memory_order_relaxed);
      if (begin >= range.end) break;
      s.fn(s.context, begin, std::min(begin + s.grain, range.end), thread);
    }
  }
}

void ThreadPool::Run(int64_t num_items, int64_t grain, BodyFn fn, const void* context) {
  Shared& s = *shared_;
  TIDAL_CHECK(!IsOpen(s.generation.load(std::memory_order_relaxed)),
              "ParallelFor inside ParallelFor");
  s.fn = fn;
  s.context = context;
  s.grain = grain;
  const int64_t pieces = CeilDiv(num_items, grain);
  int64_t begin = 0;
  for (int thread = 0; thread < num_threads_; ++thread) {
    const int64_t end = std::min(pieces * (thread + 1) / num_threads_ * grain, num_items);
    Range& range = ranges_[static_cast<size_t>(thread)];
    range.next.store(begin, std::memory_order_relaxed);
    range.end = end;
    begin = end;
  }
  Open();
  Drain(0);
  Close();
}

// The first open generation after `seen`: spins for kSpinTime, then sleeps.
void ThreadPool::AwaitOpen(uint32_t seen) {
  const std::atomic<uint32_t>& generation = shared_->generation;
  const auto is_new = [&] {
    const uint32_t now = generation.load(std::memory_order_relaxed);
    return now != seen && IsOpen(now);
  };
  const auto deadline = std::chrono::steady_clock::now() + kSpinTime;
  while (!is_new()) {
    for (int i = 0; i < kPausesPerClockRead && !is_new(); ++i) CpuPause();
    if (std::chrono::steady_clock::now() < deadline) continue;
    const uint32_t now = generation.load(std::memory_order_seq_cst);
    if (now == seen || !IsOpen(now)) generation.wait(now, std::memory_order_seq_cst);
  }
}

void ThreadPool::Worker(int thread) {
  uint32_t seen = 0;
  for (;;) {
    AwaitOpen(seen);
    const uint32_t entered = Enter();
    if (entered == 0) continue;
    seen = entered;
    const bool stop = shared_->stop;
    if (!stop) Drain(thread);
    Leave();
    if (stop) return;
  }
}

}  // namespace tidal
