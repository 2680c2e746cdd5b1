// Reads the weights of a whole decode step through CudaProducts, in a captured graph, and compares
// the rate with what the card reads at all; and the time of finding candidates in its logits.
//
// usage: cuda_products_bench [SHAPE [TYPE [ROWS]]]   (llama2-7b or llama3-8b; bf16, q4_k, ...)
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "base/stopwatch.h"
#include "cuda/candidates.h"
#include "cuda/cuda_devices.h"
#include "cuda/cuda_status.h"
#include "cuda/device_buffer.h"
#include "cuda/products.h"
#include "fill_random.h"
#include "quant/dtype.h"

namespace tidal {
namespace {

constexpr int kLayers = 32;
constexpr int kReplays = 20;

struct ModelShape {
  const char* name;
  int64_t model_dim, kv_dim, ffn_dim, vocab_size;
};
constexpr ModelShape kShapes[] = {{"llama2-7b", 4096, 4096, 11008, 32000},
                                  {"llama3-8b", 4096, 1024, 14336, 128256}};

template <typename T>
T OrExit(Result<T> result) {
  if (result.ok()) return std::move(result).value();
  fprintf(stderr, "%s\n", result.status().message().c_str());
  exit(1);
}
void OrExit(const Status& status) {
  if (status.ok()) return;
  fprintf(stderr, "%s\n", status.message().c_str());
  exit(1);
}
void OrExit(cudaError_t error) { OrExit(CudaStatus(error, "the benchmark")); }

struct Matrix {
  Matrix(DType dtype, int64_t rows, int64_t cols, cudaStream_t stream)
      : buffer(OrExit(DeviceBuffer::Create(DeviceMatrixBytes(dtype, rows, cols), "a matrix"))),
        device{.dtype = dtype, .rows = rows, .cols = cols, .data = buffer.as<uint8_t>()} {
    static uint32_t seed = 1;
    OrExit(FillRandom(buffer.as<uint8_t>(), buffer.bytes(), seed++, stream));
  }
  DeviceBuffer buffer;
  DeviceMatrix device;
};

struct Layer {
  Matrix q, k, v, o, gate, up, down;
  Layer(DType dtype, const ModelShape& s, cudaStream_t stream)
      : q(dtype, s.model_dim, s.model_dim, stream),
        k(dtype, s.kv_dim, s.model_dim, stream),
        v(dtype, s.kv_dim, s.model_dim, stream),
        o(dtype, s.model_dim, s.model_dim, stream),
        gate(dtype, s.ffn_dim, s.model_dim, stream),
        up(dtype, s.ffn_dim, s.model_dim, stream),
        down(dtype, s.model_dim, s.ffn_dim, stream) {}
};

class Step {
 public:
  Step(const ModelShape& shape, DType dtype, int64_t rows, cudaStream_t stream)
      : shape_(shape),
        rows_(rows),
        stream_(stream),
        head_(dtype, shape.vocab_size, shape.model_dim, stream) {
    for (int i = 0; i < kLayers; ++i) layers_.emplace_back(dtype, shape, stream);
    products_ = OrExit(CudaProducts::Create(
        {.stream = stream, .max_rows = rows, .max_cols = shape.ffn_dim, .max_matrix_elems = 1}));
    for (DeviceBuffer* buffer : {&hidden_, &q_, &k_, &v_, &ffn_, &norm_, &logits_}) {
      *buffer = OrExit(DeviceBuffer::Create(rows * shape.vocab_size * 4, "activations"));
      OrExit(FillRandom(buffer->as<uint8_t>(), buffer->bytes(), 99, stream));
    }
    const auto vocab_size = static_cast<int32_t>(shape.vocab_size);
    wanted_ = OrExit(DeviceBuffer::Create(rows * int64_t{sizeof(DeviceCandidateRow)}, "rows"));
    scratch_ = OrExit(DeviceBuffer::Create(CandidateScratchBytes(rows, vocab_size), "scratch"));
    lists_ = OrExit(DeviceBuffer::Create(rows * int64_t{sizeof(DeviceCandidates)}, "candidates"));
    Want({.count = 1});
  }

  void Qkv(int layer) {
    Layer& l = layers_[static_cast<size_t>(layer)];
    const ProductJob jobs[] = {Job(l.q, q_), Job(l.k, k_), Job(l.v, v_)};
    Run(hidden_, jobs, true, ProductOutput::kStore);
  }
  void Output(int layer) {
    const ProductJob job = Job(layers_[static_cast<size_t>(layer)].o, hidden_);
    Run(q_, std::span(&job, 1), false, ProductOutput::kAdd);
  }
  void GateUp(int layer) {
    Layer& l = layers_[static_cast<size_t>(layer)];
    const ProductJob jobs[] = {Job(l.gate, ffn_), {.weight = &l.up.device}};
    Run(hidden_, jobs, true, ProductOutput::kSiluMul);
  }
  void Down(int layer) {
    const ProductJob job = Job(layers_[static_cast<size_t>(layer)].down, hidden_);
    Run(ffn_, std::span(&job, 1), false, ProductOutput::kAdd);
  }
  void Head() {
    const ProductJob job = Job(head_, logits_);
    Run(hidden_, std::span(&job, 1), true, ProductOutput::kStore);
  }
  // What Sample finds of each row.
  void Want(DeviceCandidateRow wanted) {
    const std::vector<DeviceCandidateRow> rows(static_cast<size_t>(rows_), wanted);
    OrExit(cudaMemcpy(wanted_.data(), rows.data(), static_cast<size_t>(wanted_.bytes()),
                      cudaMemcpyHostToDevice));
  }
  // Logits as a model may give them.
  void FillLogits() {
    std::mt19937 random(1);
    std::normal_distribution<float> normal(0, 2.5f);
    std::vector<float> logits(static_cast<size_t>(rows_ * shape_.vocab_size));
    for (float& logit : logits) logit = normal(random);
    OrExit(cudaMemcpy(logits_.data(), logits.data(), logits.size() * sizeof(float),
                      cudaMemcpyHostToDevice));
  }
  void Sample() {
    OrExit(SelectCandidates({.logits = logits_.as<float>(),
                             .stride = shape_.vocab_size,
                             .cols = static_cast<int32_t>(shape_.vocab_size),
                             .num_rows = static_cast<int32_t>(rows_),
                             .rows = wanted_.as<DeviceCandidateRow>(),
                             .scratch = scratch_.data(),
                             .out = lists_.as<DeviceCandidates>()},
                            stream_));
  }
  void All() {
    for (int i = 0; i < kLayers; ++i) {
      Qkv(i);
      Output(i);
      GateUp(i);
      Down(i);
    }
    Head();
    Sample();
  }

  // Bytes a second from host memory to the device, re-arranged. Once before, for the buffers.
  double UploadGbps() {
    const DeviceMatrix& matrix = layers_[0].gate.device;
    const std::vector<std::byte> source(
        static_cast<size_t>(BytesOf(matrix.dtype, matrix.rows * matrix.cols)), std::byte{0x2a});
    const auto upload = [&](int times) {
      for (int i = 0; i < times; ++i) {
        OrExit(products_->Upload(matrix.dtype, matrix.rows, matrix.cols, source.data(),
                                 layers_[0].gate.buffer.as<uint8_t>()));
      }
    };
    upload(1);
    double milliseconds = 0;
    {
      const Stopwatch stopwatch(&milliseconds);
      upload(8);
      OrExit(products_->FinishUploads());
    }
    return 8 * static_cast<double>(source.size()) / milliseconds / 1e6;
  }

  int64_t bytes() const { return bytes_; }
  void ResetBytes() { bytes_ = 0; }
  void Check() { OrExit(products_->status()); }

 private:
  ProductJob Job(const Matrix& matrix, const DeviceBuffer& out) {
    return {.weight = &matrix.device, .out = out.as<float>(), .out_stride = matrix.device.rows};
  }
  void Run(const DeviceBuffer& x, std::span<const ProductJob> jobs, bool norms,
           ProductOutput output) {
    for (const ProductJob& job : jobs) {
      bytes_ += DeviceMatrixBytes(job.weight->dtype, job.weight->rows, job.weight->cols);
    }
    products_->Multiply({.x = x.as<float>(),
                         .x_stride = jobs[0].weight->cols,
                         .num_rows = rows_,
                         .norm = norms ? norm_.as<float>() : nullptr,
                         .norm_eps = 1e-5f,
                         .jobs = jobs,
                         .output = output});
  }

  ModelShape shape_;
  int64_t rows_;
  cudaStream_t stream_;
  Matrix head_;
  std::vector<Layer> layers_;
  std::unique_ptr<CudaProducts> products_;
  DeviceBuffer hidden_, q_, k_, v_, ffn_, norm_, logits_, wanted_, scratch_, lists_;
  int64_t bytes_ = 0;
};

// The median time of what `enqueue` enqueues, replayed as a graph, in microseconds.
double TimeGraph(cudaStream_t stream, const std::function<void()>& enqueue) {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  OrExit(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  enqueue();
  OrExit(cudaStreamEndCapture(stream, &graph));
  OrExit(cudaGraphInstantiate(&exec, graph, 0));
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
  OrExit(cudaEventCreate(&begin));
  OrExit(cudaEventCreate(&end));
  std::vector<double> times;
  for (int i = 0; i < kReplays + 3; ++i) {
    OrExit(cudaEventRecord(begin, stream));
    OrExit(cudaGraphLaunch(exec, stream));
    OrExit(cudaEventRecord(end, stream));
    OrExit(cudaEventSynchronize(end));
    float milliseconds = 0;
    OrExit(cudaEventElapsedTime(&milliseconds, begin, end));
    if (i >= 3) times.push_back(1000.0 * milliseconds);
  }
  OrExit(cudaGraphExecDestroy(exec));
  OrExit(cudaGraphDestroy(graph));
  OrExit(cudaEventDestroy(begin));
  OrExit(cudaEventDestroy(end));
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

void Report(const char* what, Step* step, int calls, double limit, cudaStream_t stream,
            const std::function<void()>& enqueue) {
  step->ResetBytes();
  const double us = TimeGraph(stream, enqueue);
  step->Check();
  const double gbps = static_cast<double>(step->bytes()) / us / 1e3;
  printf("  %-10s %9.2f us  %8.1f GB/s  %5.1f %% of the limit\n", what, us / calls, gbps,
         100 * gbps / limit);
}

void Bench(const ModelShape& shape, DType dtype, int64_t rows, double limit, cudaStream_t stream) {
  Step step(shape, dtype, rows, stream);
  printf("%s %s, %d row(s)\n", shape.name, NameOf(dtype), static_cast<int>(rows));
  const auto every_layer = [&](void (Step::*role)(int)) {
    return [&step, role] {
      for (int i = 0; i < kLayers; ++i) (step.*role)(i);
    };
  };
  Report("qkv", &step, kLayers, limit, stream, every_layer(&Step::Qkv));
  Report("output", &step, kLayers, limit, stream, every_layer(&Step::Output));
  Report("gate, up", &step, kLayers, limit, stream, every_layer(&Step::GateUp));
  Report("down", &step, kLayers, limit, stream, every_layer(&Step::Down));
  Report("head", &step, 1, limit, stream, [&] { step.Head(); });
  Report("step", &step, 1, limit, stream, [&] { step.All(); });
  constexpr int kSamples = 32;
  step.FillLogits();
  for (const int count : {1, 40, kMaxCandidates}) {
    for (const int wants_softmax : {0, 1}) {
      step.Want({.count = count, .wants_softmax = wants_softmax});
      const double us = TimeGraph(stream, [&] {
        for (int i = 0; i < kSamples; ++i) step.Sample();
      });
      printf("  %3d candidates%s %6.2f us\n", count, wants_softmax != 0 ? " and softmax" : "",
             us / kSamples);
    }
  }
  printf("  upload %.1f GB/s\n", step.UploadGbps());
}

DType ParseType(const std::string& text) {
  for (int i = 0; i < kNumKeptDTypes; ++i) {
    const auto dtype = static_cast<DType>(i);
    if (strcasecmp(NameOf(dtype), text.c_str()) == 0) return dtype;
  }
  fprintf(stderr, "no such type: %s\n", text.c_str());
  exit(2);
}

int Main(int argc, char** argv) {
  cudaStream_t stream = nullptr;
  OrExit(cudaStreamCreate(&stream));
  const double limit = OrExit(MeasureCudaReadGbps(0));
  printf("read limit %.1f GB/s\n", limit);
  const DType dtype = argc > 2 ? ParseType(argv[2]) : DType::kBF16;
  const int64_t rows = argc > 3 ? atoi(argv[3]) : 1;
  for (const ModelShape& shape : kShapes) {
    if (argc > 1 && strcmp(argv[1], shape.name) != 0) continue;
    Bench(shape, dtype, rows, limit, stream);
  }
  return 0;
}

}  // namespace
}  // namespace tidal

int main(int argc, char** argv) { return tidal::Main(argc, argv); }
