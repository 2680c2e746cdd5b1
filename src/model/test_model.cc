#include "model/test_model.h"

#include <cmath>
#include <random>
#include <string_view>
#include <utility>

#include "base/check.h"
#include "quant/quantize.h"

namespace tidal {
namespace {

constexpr int32_t kTokenTypeNormal = 1;
constexpr int32_t kTokenTypeControl = 3;
constexpr int32_t kTokenTypeUnused = 5;

constexpr std::string_view kControlTokens[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
constexpr uint32_t kEosToken = 2;

// In order of priority; "\u0120" is how byte-level tokenizers write a space.
constexpr std::pair<std::string_view, std::string_view> kMerges[] = {
    {"\u0120", "t"}, {"h", "e"},  {"i", "n"},        {"e", "r"}, {"\u0120t", "he"}, {"a", "n"},
    {"o", "n"},      {"r", "e"},  {"\u0120", "a"},   {"l", "l"}, {"o", "u"},        {"in", "g"},
    {"e", "n"},      {"an", "d"}, {"\u0120", "and"}, {"0", "0"}};

constexpr std::string_view kChatTemplate =
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] "
    "+ '<|im_end|>' + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

// GPT-2's alphabet: bytes that are visible characters of Latin-1 stand for themselves, the others
// for U+0100 and up, in order. The tokens of the 256 bytes come in that order too: visible ones
// first.
std::vector<std::string> ByteTokens() {
  const auto visible = [](int byte) {
    return (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
  };
  const auto utf8 = [](int code_point) {
    if (code_point < 0x80) return std::string(1, static_cast<char>(code_point));
    return std::string{static_cast<char>(0xc0 | (code_point >> 6)),
                       static_cast<char>(0x80 | (code_point & 0x3f))};
  };
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) {
    if (visible(byte)) tokens.push_back(utf8(byte));
  }
  const auto num_visible = static_cast<int>(tokens.size());
  for (int hidden = 0; hidden < 256 - num_visible; ++hidden) tokens.push_back(utf8(256 + hidden));
  return tokens;
}

void AddTokenizer(const TestModelSpec& spec, int32_t vocab_size, GgufWriter* writer) {
  std::vector<std::string> tokens(std::begin(kControlTokens), std::end(kControlTokens));
  std::vector<int32_t> types(tokens.size(), kTokenTypeControl);
  for (std::string& token : ByteTokens()) tokens.push_back(std::move(token));
  std::vector<std::string> merges;
  for (const auto& [left, right] : kMerges) {
    tokens.push_back(fmt::format("{}{}", left, right));
    merges.push_back(fmt::format("{} {}", left, right));
  }
  types.resize(tokens.size(), kTokenTypeNormal);
  for (int32_t id = static_cast<int32_t>(tokens.size()); id < vocab_size; ++id) {
    tokens.push_back(fmt::format("[PAD{}]", id));
    types.push_back(kTokenTypeUnused);
  }
  writer->AddString("tokenizer.ggml.model", "gpt2");
  writer->AddString("tokenizer.ggml.pre", spec.architecture == "llama" ? "smollm" : "qwen2");
  writer->AddStringArray("tokenizer.ggml.tokens", tokens);
  writer->AddArray("tokenizer.ggml.token_type", types);
  writer->AddStringArray("tokenizer.ggml.merges", merges);
  writer->Add("tokenizer.ggml.bos_token_id", uint32_t{0});
  writer->Add("tokenizer.ggml.eos_token_id", kEosToken);
  writer->Add("tokenizer.ggml.padding_token_id", uint32_t{0});
  writer->Add("tokenizer.ggml.add_bos_token", false);
  writer->AddString("tokenizer.chat_template", kChatTemplate);
}

void AddHyperparameters(const TestModelSpec& spec, GgufWriter* writer) {
  const auto key = [&](std::string_view suffix) {
    return fmt::format("{}.{}", spec.architecture, suffix);
  };
  const auto count = [&](std::string_view suffix, int32_t value) {
    writer->Add(key(suffix), static_cast<uint32_t>(value));
  };
  writer->AddString("general.architecture", spec.architecture);
  writer->AddString("general.type", "model");
  writer->AddString("general.name", fmt::format("Random {} {}", spec.architecture, spec.seed));
  count("block_count", spec.num_layers);
  count("context_length", spec.trained_seq_len);
  count("embedding_length", spec.model_dim);
  count("feed_forward_length", spec.ffn_dim);
  count("attention.head_count", spec.num_heads);
  count("attention.head_count_kv", spec.num_kv_heads);
  count("attention.key_length", spec.head_dim);
  count("attention.value_length", spec.head_dim);
  count("rope.dimension_count", spec.head_dim);
  writer->Add(key("attention.layer_norm_rms_epsilon"), spec.rms_norm_eps);
  writer->Add(key("rope.freq_base"), spec.rope_theta);
  if (spec.linear_rope_factor) {
    writer->AddString(key("rope.scaling.type"), "linear");
    writer->Add(key("rope.scaling.factor"), *spec.linear_rope_factor);
  }
  if (spec.yarn_rope_factor) {
    writer->AddString(key("rope.scaling.type"), "yarn");
    writer->Add(key("rope.scaling.factor"), *spec.yarn_rope_factor);
    count("rope.scaling.original_context_length", spec.trained_seq_len);
  }
  writer->Add("general.quantization_version", uint32_t{2});
}

// Draws tensors in the order of the calls.
class WeightSource {
 public:
  WeightSource(uint64_t seed, GgufWriter* writer) : bits_(seed), writer_(writer) {}

  // Elements of the standard deviation gain / sqrt(cols).
  void Matrix(const std::string& name, DType dtype, int64_t rows, int64_t cols, double gain) {
    TIDAL_CHECK(cols % InfoOf(dtype).quant_block_size == 0, "{}: {} columns do not fit {}", name,
                cols, NameOf(dtype));
    const std::vector<float> values =
        Draw(rows * cols, 0, gain / std::sqrt(static_cast<double>(cols)));
    Store(name, dtype, {cols, rows}, values);
  }
  void Vector(const std::string& name, int64_t cols, double mean, double deviation) {
    Store(name, DType::kF32, {cols}, Draw(cols, mean, deviation));
  }
  void Store(const std::string& name, DType dtype, std::vector<int64_t> dims,
             const std::vector<float>& values) {
    const auto elements = static_cast<int64_t>(values.size());
    std::vector<std::byte> packed(static_cast<size_t>(BytesOf(dtype, elements)));
    QuantizeRow(dtype, values.data(), packed.data(), elements);
    writer_->AddTensor(name, InfoOf(dtype).ggml_type, std::move(dims), std::move(packed));
  }

 private:
  std::vector<float> Draw(int64_t count, double mean, double deviation) {
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = static_cast<float>(mean + deviation * NearlyNormal());
    return values;
  }
  // The sum of four uniform 16-bit numbers from one draw, scaled to mean 0 and variance 1. Library
  // distributions differ between implementations; this does not.
  double NearlyNormal() {
    uint64_t draw = bits_();
    double sum = 0;
    for (int i = 0; i < 4; ++i, draw >>= 16)
      sum += static_cast<double>(draw & 0xffff) / 65536.0 - 0.5;
    return sum * std::sqrt(3.0);
  }

  std::mt19937_64 bits_;
  GgufWriter* writer_;
};

void AddLayer(const TestModelSpec& spec, int layer, WeightSource* weights) {
  const auto name = [layer](std::string_view role) {
    return fmt::format("blk.{}.{}", layer, role);
  };
  const int64_t q_dim = int64_t{spec.num_heads} * spec.head_dim;
  const int64_t kv_dim = int64_t{spec.num_kv_heads} * spec.head_dim;
  const auto matrix = [&](std::string_view role, int64_t rows, int64_t cols) {
    weights->Matrix(name(role), spec.dtype, rows, cols, 1);
  };
  weights->Vector(name("attn_norm.weight"), spec.model_dim, 1, 0.1);
  matrix("attn_q.weight", q_dim, spec.model_dim);
  matrix("attn_k.weight", kv_dim, spec.model_dim);
  matrix("attn_v.weight", kv_dim, spec.model_dim);
  if (spec.architecture == "qwen2") {
    weights->Vector(name("attn_q.bias"), q_dim, 0, 0.5);
    weights->Vector(name("attn_k.bias"), kv_dim, 0, 0.5);
    weights->Vector(name("attn_v.bias"), kv_dim, 0, 0.5);
  }
  if (spec.architecture == "qwen3") {
    weights->Vector(name("attn_q_norm.weight"), spec.head_dim, 1, 0.1);
    weights->Vector(name("attn_k_norm.weight"), spec.head_dim, 1, 0.1);
  }
  matrix("attn_output.weight", spec.model_dim, q_dim);
  weights->Vector(name("ffn_norm.weight"), spec.model_dim, 1, 0.1);
  matrix("ffn_gate.weight", spec.ffn_dim, spec.model_dim);
  matrix("ffn_up.weight", spec.ffn_dim, spec.model_dim);
  matrix("ffn_down.weight", spec.model_dim, spec.ffn_dim);
}

}  // namespace

int32_t TestTokenizerVocabSize() {
  return static_cast<int32_t>(std::size(kControlTokens) + 256 + std::size(kMerges));
}

std::vector<int32_t> SomeTokens(size_t count, uint32_t seed) {
  std::vector<int32_t> tokens;
  for (uint32_t state = seed; tokens.size() < count;) {
    state = state * 1664525u + 1013904223u;
    tokens.push_back(static_cast<int32_t>((state >> 16) % 250));
  }
  return tokens;
}

GgufWriter BuildRandomModel(const TestModelSpec& spec) {
  const int32_t vocab_size = spec.vocab_size == 0 ? TestTokenizerVocabSize() : spec.vocab_size;
  TIDAL_CHECK(vocab_size >= TestTokenizerVocabSize(), "{} tokens, the tokenizer alone has {}",
              vocab_size, TestTokenizerVocabSize());
  const DType embedding_dtype = spec.embedding_dtype.value_or(spec.dtype);
  GgufWriter writer;
  AddHyperparameters(spec, &writer);
  AddTokenizer(spec, vocab_size, &writer);
  WeightSource weights(spec.seed, &writer);
  // Tied embeddings are the output matrix too: a gain of 4 there spreads the logits by about 4
  // units.
  const double embedding_gain =
      spec.tied_output ? 4 : std::sqrt(static_cast<double>(spec.model_dim));
  weights.Matrix("token_embd.weight", embedding_dtype, vocab_size, spec.model_dim, embedding_gain);
  for (int layer = 0; layer < spec.num_layers; ++layer) AddLayer(spec, layer, &weights);
  weights.Vector("output_norm.weight", spec.model_dim, 1, 0.1);
  if (!spec.tied_output)
    weights.Matrix("output.weight", embedding_dtype, vocab_size, spec.model_dim, 4);
  if (!spec.rope_freqs.empty()) {
    weights.Store("rope_freqs.weight", DType::kF32, {static_cast<int64_t>(spec.rope_freqs.size())},
                  spec.rope_freqs);
  }
  return writer;
}

Status WriteRandomModel(const std::string& path, const TestModelSpec& spec) {
  return BuildRandomModel(spec).WriteFile(path);
}

}  // namespace tidal
