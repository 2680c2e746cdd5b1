#include "kv/page_pool.h"

#include <gtest/gtest.h>
#include <set>

namespace tidal {
namespace {

TEST(PagePool, HandsOutEveryPageOnce) {
  PagePool pool(5);
  std::set<PageId> seen;
  for (int i = 0; i < 5; ++i) seen.insert(pool.Allocate());
  EXPECT_EQ(seen, (std::set<PageId>{0, 1, 2, 3, 4}));
  EXPECT_EQ(pool.num_free(), 0);
}

TEST(PagePool, FreesAPageWithItsLastOwner) {
  PagePool pool(1);
  const PageId page = pool.Allocate();
  pool.Retain(page);
  pool.Release(page);
  EXPECT_EQ(pool.num_free(), 0);
  pool.Release(page);
  EXPECT_EQ(pool.num_free(), 1);
}

TEST(PageTable, ReservesByTokensAndGivesBack) {
  PagePool pool(4);
  PageTable table;
  ASSERT_TRUE(table.Reserve(1, &pool).ok());
  EXPECT_EQ(table.num_pages(), 1);
  ASSERT_TRUE(table.Reserve(kPageSize, &pool).ok());
  EXPECT_EQ(table.num_pages(), 1);
  ASSERT_TRUE(table.Reserve(kPageSize + 1, &pool).ok());
  EXPECT_EQ(table.num_pages(), 2);
  table.Truncate(kPageSize, &pool);
  EXPECT_EQ(table.num_pages(), 1);
  table.Truncate(0, &pool);
  EXPECT_EQ(pool.num_free(), 4);
}

TEST(PageTable, TakesNothingWhereThePoolIsTooSmall) {
  PagePool pool(2);
  PageTable table;
  const Status status = table.Reserve(3 * kPageSize, &pool);
  EXPECT_EQ(status.code(), StatusCode::kOutOfMemory);
  EXPECT_EQ(table.num_pages(), 0);
  EXPECT_EQ(pool.num_free(), 2);
}

TEST(PageTable, SharesWholePagesOnly) {
  PagePool pool(4);
  PageTable first;
  ASSERT_TRUE(first.Reserve(2 * kPageSize + 10, &pool).ok());
  PageTable second;
  EXPECT_EQ(second.ShareFrom(first, 2 * kPageSize + 10, &pool), 2 * kPageSize);
  EXPECT_EQ(second.data()[0], first.data()[0]);
  EXPECT_EQ(pool.owners(first.data()[1]), 2);
  EXPECT_EQ(pool.owners(first.data()[2]), 1);
  first.Truncate(0, &pool);
  EXPECT_EQ(pool.num_free(), 2);  // the shared two live on
  second.Truncate(0, &pool);
  EXPECT_EQ(pool.num_free(), 4);
}

TEST(PageTable, NobodyWritesOnASharedPage) {
  PagePool pool(4);
  PageTable first;
  ASSERT_TRUE(first.Reserve(2 * kPageSize + 10, &pool).ok());
  EXPECT_EQ(first.WritableAfter(kPageSize + 7, pool), kPageSize + 7);
  PageTable second;
  second.ShareFrom(first, 2 * kPageSize, &pool);
  for (const PageTable* table : {&first, &second}) {
    EXPECT_EQ(table->WritableAfter(kPageSize + 7, pool), kPageSize);
    EXPECT_EQ(table->WritableAfter(2 * kPageSize, pool), 2 * kPageSize);
    EXPECT_EQ(table->WritableAfter(0, pool), 0);
  }
  EXPECT_EQ(first.WritableAfter(2 * kPageSize + 3, pool), 2 * kPageSize + 3) << "its own page";
  second.Truncate(0, &pool);
  EXPECT_EQ(first.WritableAfter(kPageSize + 7, pool), kPageSize + 7);
  first.Truncate(0, &pool);
}

}  // namespace
}  // namespace tidal
