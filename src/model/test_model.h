// Tiny random models as GGUF files, for tests of everything that needs a whole model.
// Deterministic: a specification and a seed give the same bytes everywhere.
#ifndef TIDAL_MODEL_TEST_MODEL_H_
#define TIDAL_MODEL_TEST_MODEL_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "gguf/gguf_writer.h"
#include "quant/dtype.h"

namespace tidal {

// REQUIRES of every field: what Model::Load accepts (model_dim and ffn_dim and num_heads * head_dim
// multiples of the block size of `dtype`: 32, or 256 for the K types).
struct TestModelSpec {
  std::string architecture = "llama";  // or "qwen2" (with QKV biases), "qwen3" (QK norms)
  int32_t num_layers = 2;
  int32_t model_dim = 64;
  int32_t ffn_dim = 96;
  int32_t num_heads = 4;
  int32_t num_kv_heads = 2;
  int32_t head_dim = 16;
  int32_t vocab_size = 0;  // 0: as many as the tokenizer has; more: the rest are unused tokens
  int32_t trained_seq_len = 512;
  float rope_theta = 10000;
  float rms_norm_eps = 1e-5F;
  DType dtype = DType::kF32;             // of every matrix
  std::optional<DType> embedding_dtype;  // of token_embd and output, where not as the others
  bool tied_output = false;
  std::vector<float> rope_freqs;  // [head_dim/2] for rope_freqs.weight; empty: no such tensor
  std::optional<float> linear_rope_factor;  // rope.scaling.type "linear"
  std::optional<float> yarn_rope_factor;    // rope.scaling.type "yarn", of trained_seq_len tokens
  uint64_t seed = 1;
};

// The smallest vocabulary that WriteRandomModel gives: 3 control tokens (id 0 "<|endoftext|>", 1
// "<|im_start|>", 2 "<|im_end|>", which is eos), 256 byte tokens (id 3 + rank in GPT-2's order),
// then the merged ones.
int32_t TestTokenizerVocabSize();

// Random tokens below 250, which each of these vocabularies has; the same for a seed everywhere.
std::vector<int32_t> SomeTokens(size_t count, uint32_t seed);

// A complete model: metadata, a byte-level tokenizer (model "gpt2", pre "smollm" or "qwen2") with a
// few merges, a ChatML template, and random weights. Matrices have about normal elements of
// variance 1/cols and norms lie around 1, so that activations stay near 1 in every layer and logits
// spread by a few units. Tests that want a broken model change the writer.
GgufWriter BuildRandomModel(const TestModelSpec& spec);

// Builds and writes it. Errors: kIo.
Status WriteRandomModel(const std::string& path, const TestModelSpec& spec);

}  // namespace tidal

#endif  // TIDAL_MODEL_TEST_MODEL_H_
