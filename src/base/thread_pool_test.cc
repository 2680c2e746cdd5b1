#include "base/thread_pool.h"

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <gtest/gtest.h>
#include <numeric>
#include <sched.h>
#include <sys/resource.h>
#include <thread>
#include <vector>

namespace tidal {
namespace {

using std::chrono::microseconds;
using std::chrono::steady_clock;

class ThreadPoolTest : public testing::TestWithParam<int> {};

TEST_P(ThreadPoolTest, EachItemExactlyOnceInPiecesOfAtMostGrain) {
  ThreadPool pool(GetParam());
  ASSERT_EQ(pool.num_threads(), GetParam());
  for (const int64_t grain : {1, 2, 7, 64}) {
    for (const int64_t num_items : {int64_t{-1}, int64_t{0}, int64_t{1}, grain - 1, grain,
                                    grain + 1, 2 * grain, 7 * grain + 3, int64_t{1000}}) {
      std::vector<int> visits(static_cast<size_t>(std::max<int64_t>(num_items, 0)));
      std::atomic<int> bad_pieces{0};
      pool.ParallelFor(num_items, grain, [&](int64_t begin, int64_t end, int thread) {
        const bool good = begin >= 0 && begin < end && end <= num_items && end - begin <= grain &&
                          thread >= 0 && thread < pool.num_threads();
        if (!good) ++bad_pieces;
        for (int64_t i = begin; i < end; ++i)
          ++visits[static_cast<size_t>(i)];  // not atomic: a race is an error
      });
      EXPECT_EQ(bad_pieces, 0) << num_items << " items, grain " << grain;
      EXPECT_EQ(std::count(visits.begin(), visits.end(), 1), static_cast<int64_t>(visits.size()))
          << num_items << " items, grain " << grain;
    }
  }
}

TEST_P(ThreadPoolTest, ARegionSeesWhatTheOneBeforeWrote) {
  constexpr int kRegions = 3000;
  constexpr int64_t kItems = 61;
  ThreadPool pool(GetParam());
  std::vector<int64_t> values(kItems);
  std::vector<int64_t> next(kItems);
  std::iota(values.begin(), values.end(), 0);
  for (int region = 0; region < kRegions; ++region) {
    pool.ParallelFor(kItems, 3, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i)
        next[static_cast<size_t>(i)] = values[static_cast<size_t>((i + 1) % kItems)];
    });
    values.swap(next);
  }
  for (int64_t i = 0; i < kItems; ++i)
    EXPECT_EQ(values[static_cast<size_t>(i)], (i + kRegions) % kItems);
}

TEST_P(ThreadPoolTest, ScratchOfAThreadIsItsOwn) {
  ThreadPool pool(GetParam());
  std::vector<int64_t> sums(
      static_cast<size_t>(pool.num_threads()));  // not atomic: a shared index would be a race
  int64_t expected = 0;
  for (int64_t region = 0; region < 500; ++region) {
    pool.ParallelFor(40, 1, [&](int64_t begin, int64_t, int thread) {
      sums[static_cast<size_t>(thread)] += begin + region;
    });
    expected += 40 * 39 / 2 + 40 * region;
  }
  EXPECT_EQ(std::accumulate(sums.begin(), sums.end(), int64_t{0}), expected);
}

INSTANTIATE_TEST_SUITE_P(Threads, ThreadPoolTest, testing::Values(1, 2, 3, 4, 8, 32));

// True if a second thread entered the same region while the first was inside it.
bool TwoThreadsMeet(ThreadPool& pool) {
  std::atomic<int> inside{0};
  std::atomic<bool> met{true};
  pool.ParallelFor(2, 1, [&](int64_t, int64_t, int) {
    ++inside;
    const auto give_up = steady_clock::now() + std::chrono::seconds(20);
    while (inside != 2) {
      if (steady_clock::now() > give_up) {
        met = false;
        return;
      }
      std::this_thread::yield();
    }
  });
  return met;
}

// Pauses around the time after which a worker goes to sleep, so that some regions open just as it
// does.
TEST(ThreadPool, NoWakeUpIsLost) {
  ThreadPool pool(2);
  for (int round = 0; round < 300; ++round) {
    std::this_thread::sleep_for(microseconds(round % 10 * 40));
    ASSERT_TRUE(TwoThreadsMeet(pool)) << "round " << round;
  }
}

TEST(ThreadPool, SleepingWorkersUseNoProcessorTime) {
  ThreadPool pool(4);
  ASSERT_TRUE(TwoThreadsMeet(pool));
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  const std::clock_t before = std::clock();  // of all threads of this process
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  const double busy_s = static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC;
  EXPECT_LT(busy_s, 0.05);  // three spinning workers would use at least 0.2 s on one core
}

TEST(ThreadPool, DestroyedWhileWorkersSpinOrSleepOrWereNeverUsed) {
  for (int round = 0; round < 100; ++round) {
    ThreadPool pool(1 + round % 5);
    if (round % 3 != 0) pool.ParallelFor(10, 1, [](int64_t, int64_t, int) {});
    if (round % 3 == 2) std::this_thread::sleep_for(microseconds(400));
  }
}

TEST(ThreadPool, TwoPoolsWorkSideBySide) {
  std::atomic<int64_t> sum{0};
  const auto use = [&sum] {
    ThreadPool pool(3);
    for (int region = 0; region < 300; ++region) {
      pool.ParallelFor(10, 1, [&](int64_t begin, int64_t, int) { sum += begin; });
    }
  };
  std::thread other(use);
  use();
  other.join();
  EXPECT_EQ(sum, 2 * 300 * 45);
}

TEST(ThreadPoolDeathTest, NestingIsABrokenInvariant) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        ThreadPool pool(2);
        pool.ParallelFor(2, 1, [&](int64_t, int64_t, int) {
          pool.ParallelFor(2, 1, [](int64_t, int64_t, int) {});
        });
      },
      "ParallelFor inside ParallelFor");
}

[[noreturn]] void UsePoolInOneGibibyte() {
  const rlimit limit{rlim_t{1} << 30, rlim_t{1} << 30};  // far too little for 1023 stacks of 8 MiB
  if (setrlimit(RLIMIT_AS, &limit) != 0) std::_Exit(1);
  ThreadPool pool(1024);
  std::atomic<int> sum{0};
  pool.ParallelFor(100, 1, [&](int64_t begin, int64_t, int) { sum += static_cast<int>(begin); });
  std::_Exit(pool.num_threads() < 1024 && sum == 4950 ? 0 : 2);
}

TEST(ThreadPoolDeathTest, WorksWithTheThreadsThatTheSystemGrants) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer's shadow memory does not fit a limited address space";
#endif
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(UsePoolInOneGibibyte(), testing::ExitedWithCode(0), "");
}

TEST(UsableCores, CountsTheAffinityMask) {
  EXPECT_GE(UsableCores(), 1);
  std::thread([] {  // a thread of its own: the mask ends with it
    cpu_set_t all;
    ASSERT_EQ(sched_getaffinity(0, sizeof(all), &all), 0);
    EXPECT_LE(UsableCores(), CPU_COUNT(&all));
    int cpu = 0;
    while (!CPU_ISSET(cpu, &all)) ++cpu;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
    EXPECT_EQ(UsableCores(), 1);
  })
      .join();
}

}  // namespace
}  // namespace tidal
