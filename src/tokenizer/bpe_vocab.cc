#include "tokenizer/bpe_vocab.h"

#include <algorithm>
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
constexpr char kAddEos[] = "tokenizer.ggml.add_eos_token";
// Of SentencePiece's vocabularies.
constexpr char kScores[] = "tokenizer.ggml.scores";
constexpr char kUnknown[] = "tokenizer.ggml.unknown_token_id";
constexpr char kSpacePrefix[] = "tokenizer.ggml.add_space_prefix";
constexpr char kDropsSpaces[] = "tokenizer.ggml.remove_extra_whitespaces";
constexpr char kNormalizer[] = "tokenizer.ggml.precompiled_charsmap";

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

Status RefuseTrue(const GgufFile& file, const char* key) {
  if (!file.Has(key)) return OkStatus();
  TIDAL_ASSIGN_OR_RETURN(const bool value, file.GetBool(key));
  if (!value) return OkStatus();
  return Unsupported("{}: {} is true, which is not supported", file.path(), key);
}

Status ReadByteLevel(const GgufFile& file, BpeVocab* vocab) {
  TIDAL_RETURN_IF_ERROR(RequireKey(file, kMerges));
  TIDAL_ASSIGN_OR_RETURN(vocab->merges, file.GetStringArray(kMerges));
  if (file.Has(kPre)) {
    TIDAL_ASSIGN_OR_RETURN(vocab->pre_tokenizer, file.GetString(kPre));
    return OkStatus();
  }
  spdlog::warn(
      "{}: no key {}: the text is cut into words as for GPT-2, which this model may not "
      "be made for; convert the model again with a newer converter",
      file.path(), kPre);
  vocab->pre_tokenizer = "default";
  return OkStatus();
}

// The id that the file gives, else the first token of that type.
Status ReadUnknown(const GgufFile& file, BpeVocab* vocab) {
  TIDAL_RETURN_IF_ERROR(ReadId(file, kUnknown, &vocab->unknown));
  if (vocab->unknown) return OkStatus();
  const auto found = std::ranges::find(vocab->types, static_cast<int64_t>(TokenType::kUnknown));
  if (found != vocab->types.end())
    vocab->unknown = static_cast<uint64_t>(found - vocab->types.begin());
  return OkStatus();
}

Status ReadSentencePiece(const GgufFile& file, BpeVocab* vocab) {
  vocab->spelling = TokenSpelling::kSentencePiece;
  TIDAL_RETURN_IF_ERROR(RequireKey(file, kScores));
  TIDAL_ASSIGN_OR_RETURN(vocab->scores, file.GetFloatArray(kScores));
  TIDAL_RETURN_IF_ERROR(ReadUnknown(file, vocab));
  TIDAL_RETURN_IF_ERROR(RefuseTrue(file, kDropsSpaces));
  if (file.Has(kNormalizer)) {
    return Unsupported("{}: {} is set; supported are tokenizers that leave the text as it is",
                       file.path(), kNormalizer);
  }
  bool has_prefix = true;
  if (file.Has(kSpacePrefix)) {
    TIDAL_ASSIGN_OR_RETURN(has_prefix, file.GetBool(kSpacePrefix));
  }
  vocab->sentence_piece.prefix = has_prefix ? SpacePrefix::kAlways : SpacePrefix::kNever;
  vocab->sentence_piece.strips_prefix = has_prefix;
  // Converters of these models leave the key out where the answer is yes.
  if (!vocab->add_bos) vocab->add_bos = vocab->bos.has_value();
  return OkStatus();
}

Status ReadOptionalKeys(const GgufFile& file, BpeVocab* vocab) {
  if (file.Has(kTypes)) {
    TIDAL_ASSIGN_OR_RETURN(vocab->types, file.GetIntArray(kTypes));
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
  return RefuseTrue(file, kAddEos);
}

}  // namespace

Result<BpeVocab> BpeVocabFromGguf(const GgufFile& file) {
  TIDAL_RETURN_IF_ERROR(RequireKey(file, kModel));
  TIDAL_ASSIGN_OR_RETURN(const std::string_view model, file.GetString(kModel));
  if (model != "gpt2" && model != "llama") {
    return Unsupported(
        "{}: {} is \"{}\"; supported are: gpt2 (byte-level BPE), llama (SentencePiece's BPE)",
        file.path(), kModel, Printable(model));
  }
  TIDAL_RETURN_IF_ERROR(RequireKey(file, kTokens));
  BpeVocab vocab;
  TIDAL_ASSIGN_OR_RETURN(vocab.tokens, file.GetStringArray(kTokens));
  TIDAL_RETURN_IF_ERROR(ReadOptionalKeys(file, &vocab));
  TIDAL_RETURN_IF_ERROR(model == "gpt2" ? ReadByteLevel(file, &vocab)
                                        : ReadSentencePiece(file, &vocab));
  return vocab;
}

}  // namespace tidal
