// How long the parts of attention take within a step, by events on the step's stream.
//
// Off, as it is at first, it does nothing. On, events stand between the parts, so that none starts
// before the one in front of it has ended: a timed step is slower than others. Threads: one.
#ifndef TIDAL_CUDA_STEP_TIMER_H_
#define TIDAL_CUDA_STEP_TIMER_H_

#include <cstdint>
#include <cuda_runtime_api.h>
#include <vector>

#include "base/status.h"
#include "cuda/cuda_status.h"
#include "executor/executor.h"

namespace tidal {

class StepTimer {
 public:
  enum class Part : uint8_t { kScan, kMerge, kTopK, kGather, kFull };

  StepTimer() = default;
  StepTimer(const StepTimer&) = delete;
  StepTimer& operator=(const StepTimer&) = delete;
  ~StepTimer();

  bool is_on() const { return is_on_; }
  void set_on(bool on) { is_on_ = on; }

  // A step begins on a stream that is being captured, or is not.
  void BeginStep(cudaStream_t stream, bool is_captured);
  // Parts of a layer of this role follow.
  void BeginLayer(LayerRole role);
  // What was enqueued since BeginLayer or the last part was this part.
  void EndPart(Part part);
  // After the step has run: adds its parts to the profile. The first error of any event.
  Status AddTo(ExecutorProfile* profile);

 private:
  struct Mark {
    Part part = Part::kScan;
    LayerRole role = LayerRole::kFull;
    bool ends_part = false;  // else it only begins one
  };
  void Record(const Mark& mark);

  bool is_on_ = false;
  bool is_captured_ = false;
  cudaStream_t stream_ = nullptr;
  LayerRole role_ = LayerRole::kFull;
  std::vector<Mark> marks_;          // of the step
  std::vector<cudaEvent_t> events_;  // as many as marks or more
  StickyStatus status_;
};

}  // namespace tidal

#endif  // TIDAL_CUDA_STEP_TIMER_H_
