// A GGUF model written out as a Hugging Face folder, for tests that both give the same.
#ifndef TIDAL_MODEL_TEST_HF_FOLDER_H_
#define TIDAL_MODEL_TEST_HF_FOLDER_H_

#include <string>

#include "base/status.h"
#include "model/model.h"

namespace tidal {

struct TestFolderOptions {
  DType dtype = DType::kF32;  // of every tensor: F32, F16 or BF16; F32 holds every weight exactly
  int num_shards = 1;
};

// Makes `folder` and writes config.json, the weights (attn_q and attn_k with the rows of each head
// in halves), tokenizer.json (of a byte-level tokenizer), tokenizer_config.json and
// chat_template.jinja. REQUIRES: a model from a GGUF file, without RoPE scaling, with a
// pre-tokenizer of "smollm", "qwen2" or "llama-bpe". Errors: kIo; kNotFound and kCorrupt where keys
// of the tokenizer are missing.
Status WriteTestFolder(const Model& model, const std::string& folder,
                       const TestFolderOptions& options = {});

}  // namespace tidal

#endif  // TIDAL_MODEL_TEST_HF_FOLDER_H_
