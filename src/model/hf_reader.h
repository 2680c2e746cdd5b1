// The two halves of Model::Load for a folder as Hugging Face's libraries save it. Used by model.cc
// only.
#ifndef TIDAL_MODEL_HF_READER_H_
#define TIDAL_MODEL_HF_READER_H_

#include <vector>

#include "base/status.h"
#include "hf/hf_folder.h"
#include "model/model.h"

namespace tidal {

// Every number from config.json, checked as ReadModelConfig does. The architecture is that of the
// same model's GGUF, but rows of attn_q and attn_k stand in halves: rope_style is kHalf always.
// Errors name the file and the key: kCorrupt; kUnsupported for another kind of model, and for
// settings that would change the result.
Result<ModelConfig> ReadHfConfig(const HfFolder& folder);

// Every tensor that the configuration asks for, checked: there, F32, F16 or BF16, of the exact
// shape; and none that it does not ask for. Norms and biases of 16 bits are widened into `widened`,
// which must live as long as the views. Errors name the tensor and its file.
Result<ModelWeights> ReadHfWeights(const HfFolder& folder, const ModelConfig& config,
                                   std::vector<std::vector<float>>* widened);

}  // namespace tidal

#endif  // TIDAL_MODEL_HF_READER_H_
