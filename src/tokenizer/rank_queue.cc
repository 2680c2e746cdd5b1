#include "tokenizer/rank_queue.h"

#include <algorithm>
#include <functional>

namespace tidal {
namespace {

constexpr uint32_t kNoList = UINT32_MAX;

void PushHeap(uint32_t value, std::vector<uint32_t>* heap) {
  heap->push_back(value);
  std::push_heap(heap->begin(), heap->end(), std::greater<>());
}

uint32_t PopHeap(std::vector<uint32_t>* heap) {
  std::pop_heap(heap->begin(), heap->end(), std::greater<>());
  const uint32_t value = heap->back();
  heap->pop_back();
  return value;
}

}  // namespace

void RankQueue::Positions::Push(uint32_t pos) {
  if (ready && !sorted.empty() && pos < sorted.back()) {
    PushHeap(pos, &latecomers);
  } else {
    sorted.push_back(pos);
  }
}

uint32_t RankQueue::Positions::Pop() {
  if (!ready) {
    ready = true;
    if (!std::ranges::is_sorted(sorted)) std::ranges::sort(sorted);
  }
  if (!latecomers.empty() && (next == sorted.size() || latecomers.front() < sorted[next])) {
    return PopHeap(&latecomers);
  }
  return sorted[next++];
}

void RankQueue::Positions::Clear() {
  ready = false;
  next = 0;
  sorted.clear();
}

void RankQueue::Push(Item item) {
  if (item.rank >= list_of_rank_.size()) list_of_rank_.resize(item.rank + size_t{1}, kNoList);
  uint32_t& list = list_of_rank_[item.rank];
  if (list == kNoList) {
    if (free_lists_.empty()) {
      free_lists_.push_back(static_cast<uint32_t>(lists_.size()));
      lists_.emplace_back();
    }
    list = free_lists_.back();
    free_lists_.pop_back();
    PushHeap(item.rank, &ranks_);
  }
  lists_[list].Push(item.pos);
}

RankQueue::Item RankQueue::Pop() {
  const uint32_t rank = ranks_.front();
  uint32_t& list = list_of_rank_[rank];
  Positions& positions = lists_[list];
  const uint32_t pos = positions.Pop();
  if (positions.empty()) {
    positions.Clear();
    free_lists_.push_back(list);
    list = kNoList;
    PopHeap(&ranks_);
  }
  return {rank, pos};
}

}  // namespace tidal
