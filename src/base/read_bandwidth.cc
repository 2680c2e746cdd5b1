#include "base/read_bandwidth.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <sys/mman.h>
#include <unistd.h>

#include "base/check.h"
#include "base/math.h"
#include "base/system_memory.h"
#include "base/thread_pool.h"

namespace tidal {
namespace {

constexpr int64_t kPieceBytes = int64_t{1} << 20;
constexpr int64_t kWordsPerPiece = kPieceBytes / static_cast<int64_t>(sizeof(uint64_t));

// Zeroed memory that is given back at the end, or null.
std::shared_ptr<uint64_t> MapMemory(int64_t bytes) {
  const auto size = static_cast<size_t>(bytes);
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  // With small pages the walk through page tables would be measured too.
  madvise(memory, size, MADV_HUGEPAGE);
  return {static_cast<uint64_t*>(memory), [size](uint64_t* words) { munmap(words, size); }};
}

// The sum of a piece, read as kStreams runs side by side with prefetches in front of each. How many
// a core needs to reach the memory's speed differs between machines: the best one is the limit.
template <int kStreams>
uint64_t SumOf(const uint64_t* words) {
  constexpr int64_t kWordsPerStream = kWordsPerPiece / kStreams;
  constexpr int kWordsPerLine = 8;
  constexpr int64_t kPrefetchWords = 16 * kWordsPerLine;  // prefetching past the end is harmless
  uint64_t sums[kWordsPerLine] = {};  // independent, so that additions do not wait for each other
  for (int64_t i = 0; i < kWordsPerStream; i += kWordsPerLine) {
    for (int stream = 0; stream < kStreams; ++stream) {
      const uint64_t* line = words + stream * kWordsPerStream + i;
      __builtin_prefetch(line + kPrefetchWords, 0,
                         2);  // to the second-level cache: it takes in more
      for (int lane = 0; lane < kWordsPerLine; ++lane) sums[lane] += line[lane];
    }
  }
  uint64_t total = 0;
  for (const uint64_t sum : sums) total += sum;
  return total;
}

// Seconds of one pass over all pieces.
template <int kStreams>
double TimePass(const uint64_t* words, int64_t pieces, ThreadPool* pool) {
  using Clock = std::chrono::steady_clock;
  std::atomic<uint64_t> sum{0};
  const Clock::time_point start = Clock::now();
  pool->ParallelFor(pieces, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t piece = begin; piece < end; ++piece) {
      sum += SumOf<kStreams>(words + piece * kWordsPerPiece);
    }
  });
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  // Also keeps the compiler from leaving the sum out.
  TIDAL_CHECK(sum == static_cast<uint64_t>(pieces * kWordsPerPiece), "the sum is {}", sum.load());
  return seconds;
}

}  // namespace

int64_t ReadBufferBytes() {
  constexpr int64_t kAtLeast = int64_t{512} << 20;
  const int64_t last_level_cache = std::max<int64_t>(sysconf(_SC_LEVEL3_CACHE_SIZE), 0);
  return std::min(std::max(kAtLeast, 4 * last_level_cache), AvailableMemoryBytes() / 2);
}

Result<double> MeasureReadGbps(int64_t bytes, int num_threads) {
  const int64_t pieces = std::max<int64_t>(bytes / kPieceBytes, 1);
  const std::shared_ptr<uint64_t> words = MapMemory(pieces * kPieceBytes);
  if (words == nullptr) {
    return OutOfMemory("measuring the read bandwidth needs {}, which cannot be had",
                       FormatBytes(pieces * kPieceBytes));
  }
  ThreadPool pool(num_threads);
  // Written by the threads that will read, so that each page lies near one of them.
  pool.ParallelFor(pieces, 1, [&](int64_t begin, int64_t end, int) {
    std::fill(words.get() + begin * kWordsPerPiece, words.get() + end * kWordsPerPiece, 1);
  });
  constexpr int kPasses = 5;
  double best_seconds = TimePass<1>(words.get(), pieces, &pool);
  for (int pass = 0; pass < kPasses; ++pass) {
    best_seconds = std::min({best_seconds, TimePass<1>(words.get(), pieces, &pool),
                             TimePass<2>(words.get(), pieces, &pool),
                             TimePass<4>(words.get(), pieces, &pool)});
  }
  return static_cast<double>(pieces * kPieceBytes) / best_seconds / 1e9;
}

}  // namespace tidal
