#include "tokenizer/rank_queue.h"

#include <gtest/gtest.h>
#include <random>
#include <set>
#include <utility>

namespace tidal {
namespace {

// Duplicates are allowed, so the oracle is a multiset.
TEST(RankQueueTest, PopsLikeASortedSet) {
  std::mt19937 rng(1);
  for (int round = 0; round < 200; ++round) {
    const uint32_t num_ranks = 1 + rng() % 40;
    RankQueue queue;
    std::multiset<std::pair<uint32_t, uint32_t>> expected;
    for (int step = 0; step < 1000; ++step) {
      if (expected.empty() || rng() % 5 < 3) {
        const RankQueue::Item item = {static_cast<uint32_t>(rng() % num_ranks),
                                      static_cast<uint32_t>(rng() % 100)};
        queue.Push(item);
        expected.emplace(item.rank, item.pos);
      } else {
        const auto [rank, pos] = queue.Pop();
        ASSERT_EQ(std::pair(rank, pos), *expected.begin()) << "round " << round << " step " << step;
        expected.erase(expected.begin());
      }
      ASSERT_EQ(queue.empty(), expected.empty());
    }
  }
}

}  // namespace
}  // namespace tidal
