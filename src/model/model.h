// A model as the engine sees it: a configuration and named weights, whatever file they came from.
#ifndef TIDAL_MODEL_MODEL_H_
#define TIDAL_MODEL_MODEL_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "gguf/gguf_file.h"
#include "quant/dtype.h"

namespace tidal {

struct RopeScaling;

class HfFolder;

// Which elements of a head rotate together: (2i, 2i+1), as Llama GGUFs store them, or (i, i +
// rope_dim/2), as Qwen does.
enum class RopeStyle : uint8_t { kInterleaved, kHalf };

struct ModelConfig {
  std::string architecture;     // general.architecture: "llama", "qwen2", "qwen3"
  std::string name;             // general.name, may be empty
  int32_t num_layers = 0;       // {arch}.block_count
  int32_t model_dim = 0;        // {arch}.embedding_length
  int32_t ffn_dim = 0;          // {arch}.feed_forward_length
  int32_t num_heads = 0;        // {arch}.attention.head_count
  int32_t num_kv_heads = 0;     // {arch}.attention.head_count_kv, else num_heads
  int32_t head_dim = 0;         // {arch}.attention.key_length, else model_dim / num_heads
  int32_t rope_dim = 0;         // {arch}.rope.dimension_count, else head_dim
  int32_t vocab_size = 0;       // rows of token_embd
  int32_t trained_seq_len = 0;  // {arch}.context_length
  float rms_norm_eps = 0;       // {arch}.attention.layer_norm_rms_epsilon
  float rope_theta = 10000;     // {arch}.rope.freq_base
  RopeStyle rope_style = RopeStyle::kInterleaved;
  // What each pair's frequency is divided by, [rope_dim/2]: RoPE scaling (linear, YaRN, Llama 3)
  // and rope_freqs.weight; empty: nothing.
  std::vector<float> rope_freq_divisors;
  float rope_attn_factor = 1;  // cos and sin are multiplied by it (YaRN)

  int32_t gqa_ratio() const { return num_heads / num_kv_heads; }
  float attn_scale() const;  // 1 / sqrt(head_dim)
};

// A matrix [rows, cols], row-major, or a vector (rows 1), packed as in the file. Points into the
// model's mapping; a vector may point into its memory.
struct TensorView {
  std::string name;  // the file's name for it, for messages
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  const std::byte* data = nullptr;
  bool present() const { return data != nullptr; }
  int64_t bytes() const { return BytesOf(dtype, rows * cols); }
  // As weights are kept in memory: rarer types are widened (KeptAs).
  int64_t kept_bytes() const { return BytesOf(KeptAs(dtype), rows * cols); }
};

struct LayerWeights {
  TensorView attn_norm;    // F32 [model_dim]
  TensorView attn_q;       // [num_heads * head_dim, model_dim]
  TensorView attn_k;       // [num_kv_heads * head_dim, model_dim]
  TensorView attn_v;       // [num_kv_heads * head_dim, model_dim]
  TensorView attn_q_bias;  // F32, absent where the architecture has none
  TensorView attn_k_bias;
  TensorView attn_v_bias;
  TensorView attn_q_norm;  // F32 [head_dim], RMS norm of each query head before RoPE; absent: none
  TensorView attn_k_norm;  // F32 [head_dim], the same of each key head
  TensorView attn_output;  // [model_dim, num_heads * head_dim]
  TensorView ffn_norm;     // F32 [model_dim]
  TensorView ffn_gate;     // [ffn_dim, model_dim]
  TensorView ffn_up;       // [ffn_dim, model_dim]
  TensorView ffn_down;     // [model_dim, ffn_dim]
};

struct ModelWeights {
  TensorView token_embd;   // [vocab_size, model_dim]
  TensorView output_norm;  // F32 [model_dim]
  TensorView
      output;  // [vocab_size, model_dim]; the same view as token_embd where the model ties them
  bool tied_output = false;
  std::vector<LayerWeights> layers;
};

class Model {
 public:
  // Opens and checks a model, a GGUF file or a folder as Hugging Face's libraries save it:
  // architecture, every count against sane bounds and each other, every tensor's name, type and
  // shape. Norms and biases are F32. Errors as GgufFile::Open and HfFolder::Open; kUnsupported
  // lists what is supported.
  static Result<Model> Load(const std::string& path);

  // A model of this shape with random weights, for benchmarks: what a step costs depends on shapes
  // only. All matrices are views of one buffer as large as the largest of them. Type of all
  // matrices: `dtype`, one that is kept as it is. REQUIRES: a config as Load gives; no RoPE
  // scaling, biases or head norms.
  static Model WithRandomWeights(const ModelConfig& config, DType dtype);

  // Puts this RoPE scaling in place of the one that the file states, and lets the context be as
  // many times longer. An original_seq_len of 0 means the length that the file says the model was
  // trained with. Errors, without the path: those of ApplyRopeScaling (rope_scaling.h).
  Status OverrideRope(RopeScaling scaling);

  Model(Model&&) noexcept;
  Model& operator=(Model&&) noexcept;
  ~Model();

  const ModelConfig& config() const { return config_; }
  const ModelWeights& weights() const { return weights_; }

  const std::string& path() const;  // as given to Load, fit for a message
  int64_t file_bytes() const;       // of all files with weights
  // The chat template that comes with the model; nothing where none does. Errors: kCorrupt (it is
  // there, but no text), kIo.
  Result<std::optional<std::string>> ReadChatTemplate() const;
  // Where the model came from: one of the two is null.
  const GgufFile* gguf() const { return gguf_.get(); }
  const HfFolder* hf_folder() const { return hf_.get(); }

  // Calls visit(const TensorView&) with every weight that is there, once each (a tied output is the
  // embedding).
  template <typename Visit>
  void ForEachWeight(const Visit& visit) const;
  int64_t num_parameters() const;
  // Of all tensors that are used, once each, as they are kept in memory (an embedding that is not
  // the output too stays in the file, but counts as the others).
  int64_t weight_bytes() const;

 private:
  Model();
  static Result<Model> LoadGguf(const std::string& path);
  static Result<Model> LoadHf(const std::string& path);

  std::unique_ptr<GgufFile> gguf_;  // one of these owns the mapping that the views point into
  std::unique_ptr<HfFolder> hf_;
  std::vector<std::vector<float>> widened_;  // norms and biases that are not F32 in the file
  std::vector<std::byte> random_;            // WithRandomWeights: of every matrix
  std::string path_;
  ModelConfig config_;
  ModelWeights weights_;
};

template <typename Visit>
void Model::ForEachWeight(const Visit& visit) const {
  visit(weights_.token_embd);
  visit(weights_.output_norm);
  if (!weights_.tied_output) visit(weights_.output);
  for (const LayerWeights& w : weights_.layers) {
    for (const TensorView* view :
         {&w.attn_norm, &w.attn_q, &w.attn_k, &w.attn_v, &w.attn_q_bias, &w.attn_k_bias,
          &w.attn_v_bias, &w.attn_q_norm, &w.attn_k_norm, &w.attn_output, &w.ffn_norm, &w.ffn_gate,
          &w.ffn_up, &w.ffn_down}) {
      if (view->present()) visit(*view);
    }
  }
}

}  // namespace tidal

#endif  // TIDAL_MODEL_MODEL_H_
