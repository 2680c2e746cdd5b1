#include "tokenizer/bpe_vocab.h"

#include <spdlog/spdlog.h>
#include <string>

#include "gguf/printable.h"

namespace tidal {
namespace {

constexpr char kModel[] = "tokenizer.ggml.model";
constexpr char kPre[] = "tokenizer.ggml.pre";
constexpr char kTokens[] = "tokenizer.ggml.tokens";
constexpr char kTypes[] = "tokenizer.ggml.token_type";
constexpr char kMerges[] = "tokenizer.ggml.merges";
constexpr char kBos[] = "tokenizer.ggml.bos_token_id";
constexpr char kEos[] = "tokenizer.ggml.eos_token_id";
constexpr char kAddBos[] = "tokenizer.ggml.add_bos_token";

// Ends of a turn, of a message, and of what is filled in between a prefix and a suffix.
constexpr const char* kMoreEnds[] = {
    "tokenizer.ggml.eot_token_id",     "tokenizer.ggml.eom_token_id",
    "tokenizer.ggml.fim_pad_token_id", "tokenizer.ggml.fim_rep_token_id",
    "tokenizer.ggml.fim_sep_token_id",
};

Status RequireKey(const GgufFile& file, const char* key) {
  if (file.Has(key)) return OkStatus();
  return Corrupt("{}: the key {} is missing: a model file with a tokenizer has it", file.path(),
                 key);
}

Status ReadId(const GgufFile& file, const char* key, std::optional<uint64_t>* id) {
  if (!file.Has(key)) return OkStatus();
  TIDAL_ASSIGN_OR_RETURN(*id, file.GetUint(key));
  return OkStatus();
}

Status ReadOptionalKeys(const GgufFile& file, BpeVocab* vocab) {
  if (file.Has(kTypes)) {
    TIDAL_ASSIGN_OR_RETURN(vocab->types, file.GetIntArray(kTypes));
  }
  if (file.Has(kPre)) {
    TIDAL_ASSIGN_OR_RETURN(vocab->pre_tokenizer, file.GetString(kPre));
  } else {
    spdlog::warn(
        "{}: no key {}: the text is cut into words as for GPT-2, which this model may not "
        "be made for; convert the model again with a newer converter",
        file.path(), kPre);
    vocab->pre_tokenizer = "default";
  }
  TIDAL_RETURN_IF_ERROR(ReadId(file, kBos, &vocab->bos));
  TIDAL_RETURN_IF_ERROR(ReadId(file, kEos, &vocab->eos));
  for (const char* key : kMoreEnds) {
    std::optional<uint64_t> id;
    TIDAL_RETURN_IF_ERROR(ReadId(file, key, &id));
    if (id) vocab->more_ends.push_back(*id);
  }
  if (file.Has(kAddBos)) {
    TIDAL_ASSIGN_OR_RETURN(vocab->add_bos, file.GetBool(kAddBos));
  }
  return OkStatus();
}

}  // namespace

Result<BpeVocab> BpeVocabFromGguf(const GgufFile& file) {
  TIDAL_RETURN_IF_ERROR(RequireKey(file, kModel));
  TIDAL_ASSIGN_OR_RETURN(const std::string_view model, file.GetString(kModel));
  if (model != "gpt2") {
    return Unsupported("{}: {} is \"{}\"; supported is: gpt2 (byte-level BPE)", file.path(), kModel,
                       Printable(model));
  }
  TIDAL_RETURN_IF_ERROR(RequireKey(file, kTokens));
  TIDAL_RETURN_IF_ERROR(RequireKey(file, kMerges));
  BpeVocab vocab;
  TIDAL_ASSIGN_OR_RETURN(vocab.tokens, file.GetStringArray(kTokens));
  TIDAL_ASSIGN_OR_RETURN(vocab.merges, file.GetStringArray(kMerges));
  TIDAL_RETURN_IF_ERROR(ReadOptionalKeys(file, &vocab));
  return vocab;
}

}  // namespace tidal
