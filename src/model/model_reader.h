// The two halves of Model::Load. Used by model.cc only.
#ifndef TIDAL_MODEL_MODEL_READER_H_
#define TIDAL_MODEL_MODEL_READER_H_

#include "base/status.h"
#include "gguf/gguf_file.h"
#include "model/architecture.h"
#include "model/model.h"

namespace tidal {

// Limits on what a file may claim: far above real models, and low enough that products of a few of
// them fit in 64 bits.
inline constexpr int64_t kMaxLayers = 1024;
inline constexpr int64_t kMaxHeads = 1024;
inline constexpr int64_t kMinHeadDim = 8;
inline constexpr int64_t kMaxHeadDim = 512;
inline constexpr int64_t kMaxModelDim = 1 << 20;
inline constexpr int64_t kMaxFfnDim = 1 << 22;
inline constexpr int64_t kMaxVocabSize = 1 << 22;
inline constexpr int64_t kMaxSeqLen = 1 << 27;
inline constexpr double kMaxRmsNormEps = 0.1;
inline constexpr double kMaxRopeFactor = 1e6;

// Every number from the metadata, checked against the limits and each other. vocab_size and
// rope_freq_divisors need tensors too: they are read from token_embd.weight and rope_freqs.weight.
// Errors name the file and the key.
Result<ModelConfig> ReadModelConfig(const GgufFile& file);

// Every tensor that the configuration asks for, checked: there, of a supported type, of the exact
// shape, all of its bytes in the file. Errors name the file and the tensor.
Result<ModelWeights> ReadModelWeights(const GgufFile& file, const ModelConfig& config);

// One tensor, checked the same way. Vectors have rows 1 and must be F32.
Result<TensorView> ReadMatrix(const GgufFile& file, const std::string& name, int64_t rows,
                              int64_t cols);
Result<TensorView> ReadVector(const GgufFile& file, const std::string& name, int64_t cols);

}  // namespace tidal

#endif  // TIDAL_MODEL_MODEL_READER_H_
