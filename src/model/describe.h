// What `tidal inspect` prints about a model file.
#ifndef TIDAL_MODEL_DESCRIBE_H_
#define TIDAL_MODEL_DESCRIBE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "gguf/gguf_file.h"
#include "model/model.h"

namespace tidal {

// What keys and values of one context take in one cache type.
struct CacheMemory {
  const char* type = nullptr;   // "f32", "f16", "bf16", "q8_0", "f8e4m3"
  int64_t bytes_per_token = 0;  // K and V of all layers
  int64_t total_bytes = 0;      // of all the tokens asked for
};

struct WeightTypeBytes {
  std::string type;     // "IQ4_NL"
  std::string kept_as;  // "Q8_0"; the same as `type` where it is not widened
  int64_t num_tensors = 0;
  int64_t bytes = 0;  // as kept in memory
};

// Per token 2 * num_layers * num_kv_heads * head_dim elements; q8_0 adds an f16 scale for every 32
// elements of a head (or what is left of them), f8e4m3 a bf16 scale for a head. Whole pages of the
// cache may round the total up by up to 63 tokens. REQUIRES: 0 <= num_tokens <= 2^27, so that no
// product overflows.
std::vector<CacheMemory> CacheMemoryOf(const ModelConfig& config, int64_t num_tokens);

// The weights that the model uses, by type, in the order of their first use.
std::vector<WeightTypeBytes> WeightBytesByType(const Model& model);

// The whole report: file, model, metadata, tensors, weights by type, and cache memory for
// `context_tokens` tokens (0: as many as the model was trained for). Every line is printable
// whatever the file holds. Error: kInvalidArgument, where context_tokens is negative or above 2^27.
Result<std::string> DescribeModel(const Model& model, int64_t context_tokens);
// The same as one JSON object of one line: path, format, gguf_version (of a GGUF file), num_files,
// file_bytes, model_hash, model {...}, metadata [{key, type, count, value}], tensors [{name, type,
// shape, bytes}], num_parameters, weight_bytes, weights_by_type [{type, kept_as, num_tensors,
// bytes}], context_tokens, cache [{type, bytes_per_token, total_bytes}]. `bytes` of a tensor is
// null where its type is not known; `value` is shortened as GgufEntry::text is.
Result<std::string> DescribeModelJson(const Model& model, int64_t context_tokens);

// Metadata and tensors alone, for a file or a folder that is no model this program runs.
std::string DescribeFile(const GgufFile& file);
std::string DescribeFileJson(const GgufFile& file);
std::string DescribeFolder(const HfFolder& folder);
std::string DescribeFolderJson(const HfFolder& folder);

}  // namespace tidal

#endif  // TIDAL_MODEL_DESCRIBE_H_
