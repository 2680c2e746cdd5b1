// Steps that come again, captured as CUDA graphs.
//
// A step is known by a key: everything that decides which kernels are launched with which
// parameters. The first time a key is seen its step runs directly, the second time it is captured,
// from then on it is replayed. Threads: one.
#ifndef TIDAL_CUDA_STEP_GRAPHS_H_
#define TIDAL_CUDA_STEP_GRAPHS_H_

#include <cuda_runtime_api.h>
#include <map>
#include <string>

#include "base/status.h"

namespace tidal {

class StepGraphs {
 public:
  enum class Mode { kDirect, kCapture, kReplay };

  StepGraphs() = default;
  StepGraphs(const StepGraphs&) = delete;
  StepGraphs& operator=(const StepGraphs&) = delete;
  ~StepGraphs();

  // What to do with a step. After kCapture the stream is capturing until Finish or Abandon.
  Mode Begin(const std::string& key, cudaStream_t stream);
  // The same for a step that is captured and not kept.
  Mode BeginOnce(cudaStream_t stream);
  // Ends a capture, and launches the graph (also a replayed one).
  Status Finish(cudaStream_t stream);
  // Ends a capture of which nothing is kept, after an error.
  void Abandon(cudaStream_t stream);
  // Forgets all graphs: what they were captured with has moved.
  void Clear();

 private:
  Mode Capture(cudaStream_t stream);

  struct Entry {
    cudaGraphExec_t graph = nullptr;  // null: seen once
  };
  std::map<std::string, Entry> entries_;
  Entry once_;
  Entry* current_ = nullptr;
  Mode mode_ = Mode::kDirect;
};

}  // namespace tidal

#endif  // TIDAL_CUDA_STEP_GRAPHS_H_
