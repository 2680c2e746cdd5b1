#include "kv/page_pool.h"

#include "base/check.h"

namespace tidal {

PagePool::PagePool(int32_t num_pages) : owners_(static_cast<size_t>(num_pages), 0) {
  free_.reserve(owners_.size());
  for (PageId page = num_pages - 1; page >= 0; --page) free_.push_back(page);
}

PageId PagePool::Allocate() {
  TIDAL_CHECK(!free_.empty(), "all {} pages are taken", num_pages());
  const PageId page = free_.back();
  free_.pop_back();
  owners_[static_cast<size_t>(page)] = 1;
  return page;
}

void PagePool::Retain(PageId page) {
  int32_t& count = owners_.at(static_cast<size_t>(page));
  TIDAL_CHECK(count > 0, "page {} is free", page);
  ++count;
}

void PagePool::Release(PageId page) {
  int32_t& count = owners_.at(static_cast<size_t>(page));
  TIDAL_CHECK(count > 0, "page {} is free", page);
  if (--count == 0) free_.push_back(page);
}

Status PageTable::Reserve(int32_t num_tokens, PagePool* pool) {
  const auto wanted = static_cast<int32_t>(CeilDiv(num_tokens, kPageSize));
  const int32_t missing = wanted - num_pages();
  if (missing > pool->num_free()) {
    return OutOfMemory("the KV cache has {} free pages of {} tokens, {} more are needed",
                       pool->num_free(), kPageSize, missing);
  }
  for (int32_t i = 0; i < missing; ++i) pages_.push_back(pool->Allocate());
  return OkStatus();
}

void PageTable::Truncate(int32_t num_tokens, PagePool* pool) {
  const auto kept = static_cast<size_t>(CeilDiv(num_tokens, kPageSize));
  while (pages_.size() > kept) {
    pool->Release(pages_.back());
    pages_.pop_back();
  }
}

int32_t PageTable::ShareFrom(const PageTable& other, int32_t num_tokens, PagePool* pool) {
  TIDAL_CHECK(pages_.empty(), "the table already has {} pages", num_pages());
  const int32_t whole = num_tokens / kPageSize;
  TIDAL_CHECK(whole <= other.num_pages(), "{} pages of {}", whole, other.num_pages());
  for (int32_t i = 0; i < whole; ++i) {
    pool->Retain(other.pages_[static_cast<size_t>(i)]);
    pages_.push_back(other.pages_[static_cast<size_t>(i)]);
  }
  return whole * kPageSize;
}

int32_t PageTable::WritableAfter(int32_t num_tokens, const PagePool& pool) const {
  const int32_t begun = num_tokens % kPageSize;
  const auto page = static_cast<size_t>(num_tokens / kPageSize);
  return begun == 0 || pool.owners(pages_[page]) == 1 ? num_tokens : num_tokens - begun;
}

}  // namespace tidal
