// A priority queue of (merge rank, position), the lowest rank first and among equal ranks the
// lowest position.
//
// Few ranks have most of the positions of a long word, and positions of a rank come almost in
// order. So each rank has a list of its own that is sorted once, when its turn comes; a heap is
// kept only over the ranks.
#ifndef TIDAL_TOKENIZER_RANK_QUEUE_H_
#define TIDAL_TOKENIZER_RANK_QUEUE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace tidal {

class RankQueue {
 public:
  struct Item {
    uint32_t rank;
    uint32_t pos;
  };

  bool empty() const { return ranks_.empty(); }
  void Push(Item item);
  // REQUIRES: not empty.
  Item Pop();

 private:
  struct Positions {
    bool ready = false;            // has the turn of this rank come?
    size_t next = 0;               // what stands before it in `sorted` is gone
    std::vector<uint32_t> sorted;  // only once `ready`
    std::vector<uint32_t>
        latecomers;  // a heap: pushed when `ready`, and lower than what stood there

    bool empty() const { return next == sorted.size() && latecomers.empty(); }
    void Push(uint32_t pos);
    uint32_t Pop();
    void Clear();
  };

  std::vector<uint32_t> ranks_;         // a heap: the ranks that have positions
  std::vector<uint32_t> list_of_rank_;  // into lists_, kNoList where a rank has none
  std::vector<Positions> lists_;
  std::vector<uint32_t> free_lists_;  // into lists_
};

}  // namespace tidal

#endif  // TIDAL_TOKENIZER_RANK_QUEUE_H_
