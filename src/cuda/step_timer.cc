#include "cuda/step_timer.h"

namespace tidal {
namespace {

double* MsOf(StepTimer::Part part, ExecutorProfile* profile) {
  switch (part) {
    case StepTimer::Part::kScan:
      return &profile->scan_ms;
    case StepTimer::Part::kMerge:
      return &profile->merge_ms;
    case StepTimer::Part::kTopK:
      return &profile->top_k_ms;
    case StepTimer::Part::kGather:
      return &profile->gather_ms;
    case StepTimer::Part::kFull:
      break;
  }
  return &profile->full_ms;
}

}  // namespace

StepTimer::~StepTimer() {
  for (cudaEvent_t event : events_) (void)cudaEventDestroy(event);
}

void StepTimer::BeginStep(cudaStream_t stream, bool is_captured) {
  stream_ = stream;
  is_captured_ = is_captured;
  marks_.clear();
  status_.Clear();
}

void StepTimer::Record(const Mark& mark) {
  if (!is_on_) return;
  if (marks_.size() == events_.size()) {
    cudaEvent_t event = nullptr;
    status_.Note(cudaEventCreate(&event), "an event to time a step by");
    if (event == nullptr) return;
    events_.push_back(event);
  }
  // In a graph only an external event is one that the host can ask for its time.
  const unsigned flags = is_captured_ ? cudaEventRecordExternal : cudaEventRecordDefault;
  status_.Note(cudaEventRecordWithFlags(events_[marks_.size()], stream_, flags),
               "an event to time a step by");
  marks_.push_back(mark);
}

void StepTimer::BeginLayer(LayerRole role) {
  role_ = role;
  Record({.role = role});
}

void StepTimer::EndPart(Part part) { Record({.part = part, .role = role_, .ends_part = true}); }

Status StepTimer::AddTo(ExecutorProfile* profile) {
  for (size_t i = 1; i < marks_.size() && status_.status().ok(); ++i) {
    const Mark& mark = marks_[i];
    if (!mark.ends_part) continue;
    float ms = 0;
    status_.Note(cudaEventElapsedTime(&ms, events_[i - 1], events_[i]), "the time of a part");
    *MsOf(mark.part, profile) += static_cast<double>(ms);
    profile->role_ms[static_cast<size_t>(mark.role)] += static_cast<double>(ms);
  }
  return status_.status();
}

}  // namespace tidal
