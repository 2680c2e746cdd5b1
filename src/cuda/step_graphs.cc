#include "cuda/step_graphs.h"

#include "cuda/cuda_status.h"

namespace tidal {
namespace {

// A graph of a 32-layer model holds a few hundred kernels, well below a MiB.
constexpr size_t kMaxGraphs = 64;

}  // namespace

StepGraphs::~StepGraphs() { Clear(); }

void StepGraphs::Clear() {
  for (auto& [key, entry] : entries_) {
    if (entry.graph != nullptr) (void)cudaGraphExecDestroy(entry.graph);
  }
  entries_.clear();
  if (once_.graph != nullptr) (void)cudaGraphExecDestroy(once_.graph);
  once_ = Entry();
  current_ = nullptr;
}

StepGraphs::Mode StepGraphs::Begin(const std::string& key, cudaStream_t stream) {
  mode_ = Mode::kDirect;
  const auto found = entries_.find(key);
  if (found == entries_.end()) {
    if (entries_.size() >= kMaxGraphs) Clear();
    entries_.emplace(key, Entry());
    return mode_;
  }
  current_ = &found->second;
  if (current_->graph != nullptr) return mode_ = Mode::kReplay;
  return Capture(stream);
}

StepGraphs::Mode StepGraphs::BeginOnce(cudaStream_t stream) {
  if (once_.graph != nullptr) (void)cudaGraphExecDestroy(once_.graph);
  once_ = Entry();
  current_ = &once_;
  return Capture(stream);
}

StepGraphs::Mode StepGraphs::Capture(cudaStream_t stream) {
  mode_ = Mode::kDirect;
  // Where capturing is refused the step runs directly, as all others of its key will.
  if (cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess)
    mode_ = Mode::kCapture;
  return mode_;
}

Status StepGraphs::Finish(cudaStream_t stream) {
  if (mode_ == Mode::kCapture) {
    cudaGraph_t graph = nullptr;
    TIDAL_RETURN_IF_CUDA_ERROR(cudaStreamEndCapture(stream, &graph));
    const cudaError_t error = cudaGraphInstantiate(&current_->graph, graph, 0);
    (void)cudaGraphDestroy(graph);
    TIDAL_RETURN_IF_ERROR(CudaStatus(error, "making a graph of a step"));
  }
  mode_ = Mode::kDirect;
  return CudaStatus(cudaGraphLaunch(current_->graph, stream), "launching a step");
}

void StepGraphs::Abandon(cudaStream_t stream) {
  if (mode_ != Mode::kCapture) return;
  cudaGraph_t graph = nullptr;
  (void)cudaStreamEndCapture(stream, &graph);
  if (graph != nullptr) (void)cudaGraphDestroy(graph);
  (void)cudaGetLastError();
  mode_ = Mode::kDirect;
}

}  // namespace tidal
