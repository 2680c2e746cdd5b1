// Bookkeeping of KV pages: which are free, how many owners each has. The memory behind a page id is
// the executor's.
//
// A page holds kPageSize consecutive tokens of one sequence, in every layer. Pages are shared by
// reference count: a full page may belong to several sequences that begin with the same tokens;
// only a page with one owner may be written. Threads: not thread-safe; the engine's thread owns it.
#ifndef TIDAL_KV_PAGE_POOL_H_
#define TIDAL_KV_PAGE_POOL_H_

#include <cstdint>
#include <vector>

#include "base/math.h"
#include "base/status.h"

namespace tidal {

inline constexpr int32_t kPageSize =
    64;                  // tokens; attention kernels and key indexes are written for it
using PageId = int32_t;  // 0 .. num_pages - 1

class PagePool {
 public:
  explicit PagePool(int32_t num_pages);

  int32_t num_pages() const { return static_cast<int32_t>(owners_.size()); }
  int32_t num_free() const { return static_cast<int32_t>(free_.size()); }
  int32_t owners(PageId page) const { return owners_[static_cast<size_t>(page)]; }

  // A page with one owner. REQUIRES: num_free() > 0. The page released last comes first: it is
  // likeliest in cache.
  PageId Allocate();
  void Retain(PageId page);   // one owner more
  void Release(PageId page);  // one owner less; free at none

 private:
  std::vector<int32_t> owners_;  // [num_pages]
  std::vector<PageId> free_;     // a stack; capacity num_pages, so releasing never allocates
};

// The pages of one sequence, in order: token `pos` lies in entry pos / kPageSize, at offset pos %
// kPageSize. Does not release on destruction (it does not know the pool): Truncate(0) does.
class PageTable {
 public:
  const PageId* data() const { return pages_.data(); }
  int32_t num_pages() const { return static_cast<int32_t>(pages_.size()); }

  // Makes room for `num_tokens` tokens. kOutOfMemory, and nothing taken, where the pool has too few
  // pages.
  Status Reserve(int32_t num_tokens, PagePool* pool);
  // Gives back what `num_tokens` tokens do not need.
  void Truncate(int32_t num_tokens, PagePool* pool);
  // Shares the whole pages of another sequence's first `num_tokens` tokens and returns how many
  // tokens these hold (a multiple of kPageSize: a page that is still being written is never
  // shared). REQUIRES: this table is empty.
  int32_t ShareFrom(const PageTable& other, int32_t num_tokens, PagePool* pool);
  // How many of the first `num_tokens` tokens can stay where others are to be written after them: a
  // page that has begun and is shared cannot be written on, so what it holds has to go too.
  int32_t WritableAfter(int32_t num_tokens, const PagePool& pool) const;

 private:
  std::vector<PageId> pages_;
};

}  // namespace tidal

#endif  // TIDAL_KV_PAGE_POOL_H_
