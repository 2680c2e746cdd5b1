// The newest tokens of a sequence, counted by id, for the repetition, presence and frequency
// penalties.
#ifndef TIDAL_SAMPLER_PENALTY_WINDOW_H_
#define TIDAL_SAMPLER_PENALTY_WINDOW_H_

#include <cstdint>
#include <span>
#include <vector>

namespace tidal {

// Adding is O(1), and a walk over the distinct tokens does not touch the rest of the vocabulary.
// Memory: 8 bytes per token of the vocabulary, 4 per token of the window.
class PenaltyWindow {
 public:
  // The newest `length` tokens count; -1: all. REQUIRES: length >= -1.
  PenaltyWindow(int32_t length, int32_t vocab_size)
      : length_(length),
        counts_(length == 0 ? 0 : static_cast<size_t>(vocab_size)),
        places_(counts_.size()) {}

  // REQUIRES: 0 <= id < vocab_size.
  void Add(int32_t id) {
    if (length_ == 0) return;
    if (length_ > 0) {
      if (recent_.size() < static_cast<size_t>(length_)) {
        recent_.push_back(id);
      } else {
        Forget(recent_[oldest_]);
        recent_[oldest_] = id;
        oldest_ = (oldest_ + 1) % recent_.size();
      }
    }
    if (counts_[static_cast<size_t>(id)]++ == 0) {
      places_[static_cast<size_t>(id)] = static_cast<int32_t>(distinct_.size());
      distinct_.push_back(id);
    }
  }

  // The ids that occur, each once, in no particular order.
  std::span<const int32_t> distinct() const { return distinct_; }
  int32_t count(int32_t id) const { return counts_[static_cast<size_t>(id)]; }

 private:
  void Forget(int32_t id) {
    if (--counts_[static_cast<size_t>(id)] > 0) return;
    const int32_t place = places_[static_cast<size_t>(id)];
    distinct_[static_cast<size_t>(place)] = distinct_.back();
    places_[static_cast<size_t>(distinct_.back())] = place;
    distinct_.pop_back();
  }

  int32_t length_;
  std::vector<int32_t> recent_;  // a ring once it is full
  size_t oldest_ = 0;
  std::vector<int32_t> counts_;  // [vocab_size]
  std::vector<int32_t> places_;  // [vocab_size], of an id in distinct_, where its count is not 0
  std::vector<int32_t> distinct_;
};

}  // namespace tidal

#endif  // TIDAL_SAMPLER_PENALTY_WINDOW_H_
