#include "tokenizer/hf_vocab.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "gguf/printable.h"

namespace tidal {
namespace {

constexpr int64_t kMaxTokenizerBytes = int64_t{48} << 20;
constexpr int64_t kMaxTokenId = int64_t{1} << 22;
// Ids without a token are filled up; a file with more of them than that is no vocabulary.
constexpr size_t kMaxHoles = size_t{1} << 16;

bool IsByteToken(std::string_view text) {
  return text.size() == 6 && text.starts_with("<0x") && text[5] == '>' &&
         text.substr(3, 2).find_first_not_of("0123456789ABCDEFabcdef") == std::string_view::npos;
}

Status RefuseText(const JsonFields& fields, std::string_view key) {
  TIDAL_ASSIGN_OR_RETURN(const std::string_view text, fields.TextOr(key, ""));
  if (text.empty()) return OkStatus();
  return Unsupported("{}: {} is \"{}\"; supported is none", fields.where(), key, Printable(text));
}

Status RefuseTrue(const JsonFields& fields, std::string_view key) {
  TIDAL_ASSIGN_OR_RETURN(const bool value, fields.BoolOr(key, false));
  if (!value) return OkStatus();
  return Unsupported("{}: {} is true, which is not supported", fields.where(), key);
}

// Ids under a key that is one id or a list of them.
Status AppendIds(const JsonFields& fields, std::string_view key, std::vector<uint64_t>* ids) {
  const JsonValue* value = fields.Find(key);
  if (value == nullptr) return OkStatus();
  const JsonValue list = value->is_array() ? *value : JsonValue::array({*value});
  for (const JsonValue& id : list) {
    if (!id.is_number_unsigned()) return fields.WrongValue(key, "a token's id, or a list of ids");
    ids->push_back(id.get<uint64_t>());
  }
  return OkStatus();
}

}  // namespace

Result<HfVocab> HfVocab::Read(const HfFolder& folder) {
  const std::string path = folder.FilePath("tokenizer.json");
  TIDAL_ASSIGN_OR_RETURN(const JsonValue json, ReadJsonFile(path, kMaxTokenizerBytes));
  HfVocab vocab(PrintablePath(path));
  TIDAL_ASSIGN_OR_RETURN(const JsonFields root, JsonFields::Of(vocab.where_, json));
  TIDAL_ASSIGN_OR_RETURN(const JsonFields model, root.Object("model"));
  TIDAL_RETURN_IF_ERROR(vocab.ReadModel(model));
  TIDAL_RETURN_IF_ERROR(vocab.ReadAddedTokens(root));
  TIDAL_RETURN_IF_ERROR(ReadHfPipeline(root, &vocab.vocab_));
  TIDAL_RETURN_IF_ERROR(vocab.FinishTypes());
  TIDAL_RETURN_IF_ERROR(vocab.ReadSpecialTokens(folder));
  return vocab;
}

Status HfVocab::ReadModel(const JsonFields& model) {
  TIDAL_ASSIGN_OR_RETURN(const std::string_view type, model.TextOr("type", "BPE"));
  if (type != "BPE") {
    return Unsupported("{}: type is \"{}\"; supported is BPE", model.where(), Printable(type));
  }
  TIDAL_RETURN_IF_ERROR(RefuseText(model, "continuing_subword_prefix"));
  TIDAL_RETURN_IF_ERROR(RefuseText(model, "end_of_word_suffix"));
  if (model.Has("dropout")) {
    return Unsupported("{}: dropout is set, so that tokens would be random; supported is none",
                       model.where());
  }
  SentencePieceRules& rules = vocab_.sentence_piece;
  TIDAL_ASSIGN_OR_RETURN(vocab_.ignores_merges, model.BoolOr("ignore_merges", false));
  TIDAL_ASSIGN_OR_RETURN(rules.byte_fallback, model.BoolOr("byte_fallback", false));
  TIDAL_ASSIGN_OR_RETURN(rules.fuses_unknown, model.BoolOr("fuse_unk", false));
  TIDAL_ASSIGN_OR_RETURN(unknown_text_, model.TextOr("unk_token", ""));
  has_bytes_ = rules.byte_fallback;
  TIDAL_RETURN_IF_ERROR(ReadTokens(model));
  return ReadMerges(model);
}

Status HfVocab::AddToken(std::string_view text, int64_t id, TokenType type,
                         const JsonFields& where) {
  const auto place = static_cast<size_t>(id);
  if (place >= vocab_.tokens.size()) {
    vocab_.tokens.resize(place + 1);
    vocab_.types.resize(place + 1);
  }
  if (!vocab_.tokens[place].empty() && vocab_.tokens[place] != text) {
    return Corrupt("{}: the id {} is of \"{}\" and of \"{}\"", where.where(), id,
                   Printable(vocab_.tokens[place]), Printable(text));
  }
  vocab_.tokens[place] = texts_.emplace_back(text);
  vocab_.types[place] = static_cast<int64_t>(type);
  return OkStatus();
}

Status HfVocab::ReadTokens(const JsonFields& model) {
  TIDAL_ASSIGN_OR_RETURN(const JsonFields tokens, model.Object("vocab"));
  for (const auto& [text, id] : tokens.object().items()) {
    if (text.empty() || !id.is_number_unsigned() || id.get<uint64_t>() >= kMaxTokenId) {
      return Corrupt("{}: the token \"{}\" has the id {}, expected a text with an id below {}",
                     tokens.where(), Printable(text), ShortText(id), kMaxTokenId);
    }
    TIDAL_RETURN_IF_ERROR(AddToken(text, id.get<int64_t>(), TokenType::kNormal, tokens));
  }
  return OkStatus();
}

Status HfVocab::ReadMerges(const JsonFields& model) {
  TIDAL_ASSIGN_OR_RETURN(const JsonValue* const merges, model.Array("merges"));
  for (const JsonValue& merge : *merges) {
    if (merge.is_string()) {
      vocab_.merges.push_back(texts_.emplace_back(merge.get_ref<const std::string&>()));
      continue;
    }
    // Newer files have pairs, which may hold spaces; none of the supported tokenizers' do.
    if (!merge.is_array() || merge.size() != 2 || !merge[0].is_string() || !merge[1].is_string()) {
      return Corrupt("{}: merge {} is {}, expected two tokens", model.where(), vocab_.merges.size(),
                     ShortText(merge));
    }
    vocab_.merges.push_back(
        texts_.emplace_back(merge[0].get<std::string>() + " " + merge[1].get<std::string>()));
  }
  return OkStatus();
}

Status HfVocab::ReadAddedTokens(const JsonFields& root) {
  if (!root.Has("added_tokens")) return OkStatus();
  TIDAL_ASSIGN_OR_RETURN(const JsonValue* const added, root.Array("added_tokens"));
  for (const JsonValue& value : *added) {
    TIDAL_ASSIGN_OR_RETURN(const JsonFields token,
                           JsonFields::Of(root.where() + ": added_tokens", value));
    TIDAL_ASSIGN_OR_RETURN(const std::string_view text, token.Text("content"));
    TIDAL_ASSIGN_OR_RETURN(const int64_t id, token.Count("id", 0, kMaxTokenId - 1));
    TIDAL_ASSIGN_OR_RETURN(const bool special, token.BoolOr("special", false));
    if (text.empty()) return token.WrongValue("content", "a text");
    for (const char* key : {"lstrip", "rstrip", "single_word"}) {
      TIDAL_RETURN_IF_ERROR(
          RefuseTrue(token, key).Annotate(fmt::format("token \"{}\"", Printable(text))));
    }
    TIDAL_RETURN_IF_ERROR(
        AddToken(text, id, special ? TokenType::kControl : TokenType::kUserDefined, token));
  }
  return OkStatus();
}

Status HfVocab::FinishTypes() {
  size_t holes = 0;
  for (size_t id = 0; id < vocab_.tokens.size(); ++id) {
    std::string_view& text = vocab_.tokens[id];
    int64_t& type = vocab_.types[id];
    if (text.empty()) {
      if (++holes > kMaxHoles)
        return Corrupt("{}: more than {} ids below {} have no token", where_, kMaxHoles, id);
      text = texts_.emplace_back(fmt::format("<|unused {}|>", id));
      type = static_cast<int64_t>(TokenType::kUnused);
    } else if (text == unknown_text_) {
      vocab_.unknown = id;
      type = static_cast<int64_t>(TokenType::kUnknown);
    } else if (has_bytes_ && vocab_.spelling == TokenSpelling::kSentencePiece &&
               IsByteToken(text)) {
      type = static_cast<int64_t>(TokenType::kByte);
    }
  }
  return OkStatus();
}

Result<uint64_t> HfVocab::IdOf(std::string_view text, const JsonFields& where,
                               std::string_view key) const {
  const auto found = std::ranges::find(vocab_.tokens, text);
  if (found != vocab_.tokens.end()) return static_cast<uint64_t>(found - vocab_.tokens.begin());
  return Corrupt("{}: {} is \"{}\", which is no token of {}", where.where(), key, Printable(text),
                 where_);
}

// A token's text, or an object with it under "content".
Status HfVocab::ReadNamedToken(const JsonFields& config, std::string_view key,
                               std::optional<uint64_t>* id) const {
  const JsonValue* value = config.Find(key);
  if (value == nullptr) return OkStatus();
  std::string_view text;
  if (value->is_object()) {
    TIDAL_ASSIGN_OR_RETURN(const JsonFields token, config.Object(key));
    TIDAL_ASSIGN_OR_RETURN(text, token.Text("content"));
  } else {
    TIDAL_ASSIGN_OR_RETURN(text, config.Text(key));
  }
  TIDAL_ASSIGN_OR_RETURN(*id, IdOf(text, config, key));
  return OkStatus();
}

Status HfVocab::ReadSpecialTokens(const HfFolder& folder) {
  const auto where = [&](const char* name) { return PrintablePath(folder.FilePath(name)); };
  std::vector<uint64_t> bos_ids;
  TIDAL_ASSIGN_OR_RETURN(const JsonFields model_config,
                         JsonFields::Of(where("config.json"), folder.config()));
  TIDAL_RETURN_IF_ERROR(AppendIds(model_config, "eos_token_id", &vocab_.more_ends));
  TIDAL_RETURN_IF_ERROR(AppendIds(model_config, "bos_token_id", &bos_ids));
  constexpr const char* kGeneration = "generation_config.json";
  TIDAL_ASSIGN_OR_RETURN(const std::optional<JsonValue> generation,
                         folder.ReadOptional(kGeneration));
  if (generation) {
    TIDAL_ASSIGN_OR_RETURN(const JsonFields fields,
                           JsonFields::Of(where(kGeneration), *generation));
    TIDAL_RETURN_IF_ERROR(AppendIds(fields, "eos_token_id", &vocab_.more_ends));
  }
  constexpr const char* kConfig = "tokenizer_config.json";
  TIDAL_ASSIGN_OR_RETURN(const std::optional<JsonValue> config, folder.ReadOptional(kConfig));
  if (!config) {
    if (!vocab_.bos && !bos_ids.empty()) vocab_.bos = bos_ids.front();
    if (!vocab_.more_ends.empty()) vocab_.eos = vocab_.more_ends.front();
    return OkStatus();
  }
  TIDAL_ASSIGN_OR_RETURN(const JsonFields fields, JsonFields::Of(where(kConfig), *config));
  // What the post-processor puts in front stays the BOS token.
  if (!vocab_.bos) TIDAL_RETURN_IF_ERROR(ReadNamedToken(fields, "bos_token", &vocab_.bos));
  TIDAL_RETURN_IF_ERROR(ReadNamedToken(fields, "eos_token", &vocab_.eos));
  TIDAL_RETURN_IF_ERROR(RefuseTrue(fields, "add_eos_token"));
  // The classes of Llama's tokenizers put this setting above the post-processor.
  TIDAL_ASSIGN_OR_RETURN(const std::string_view tokenizer_class,
                         fields.TextOr("tokenizer_class", ""));
  if (tokenizer_class.starts_with("Llama") && fields.Has("add_bos_token")) {
    TIDAL_ASSIGN_OR_RETURN(vocab_.add_bos, fields.BoolOr("add_bos_token", true));
  }
  return OkStatus();
}

}  // namespace tidal
