#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "gguf/printable.h"
#include "tokenizer/hf_vocab.h"
#include "tokenizer/piece_speller.h"
#include "tokenizer/pre_tokenizer.h"

namespace tidal {
namespace {

// One step, or the steps of a "Sequence" under `list_key`; none where the key is absent or null.
struct Steps {
  std::vector<JsonFields> steps;
  bool Are(std::initializer_list<std::string_view> types) const {
    if (steps.size() != types.size()) return false;
    size_t i = 0;
    for (const std::string_view type : types) {
      if (TypeOf(steps[i++]) != type) return false;
    }
    return true;
  }
  std::string Text() const {
    std::string text;
    for (const JsonFields& step : steps) {
      text += text.empty() ? "" : ", ";
      text += Printable(TypeOf(step), 30);
    }
    return "[" + text + "]";
  }
  static std::string_view TypeOf(const JsonFields& step) {
    const JsonValue* type = step.Find("type");
    return type != nullptr && type->is_string() ? type->get_ref<const std::string&>()
                                                : std::string_view("?");
  }
};

Result<Steps> ReadSteps(const JsonFields& root, std::string_view key, std::string_view list_key) {
  constexpr size_t kMaxSteps = 16;
  Steps result;
  if (!root.Has(key)) return result;
  TIDAL_ASSIGN_OR_RETURN(const JsonFields step, root.Object(key));
  TIDAL_ASSIGN_OR_RETURN(const std::string_view type, step.Text("type"));
  if (type != "Sequence") {
    result.steps.push_back(step);
    return result;
  }
  TIDAL_ASSIGN_OR_RETURN(const JsonValue* const list, step.Array(list_key));
  if (list->size() > kMaxSteps) return step.WrongValue(list_key, "at most 16 steps");
  for (const JsonValue& element : *list) {
    TIDAL_ASSIGN_OR_RETURN(const JsonFields fields, JsonFields::Of(step.where(), element));
    TIDAL_ASSIGN_OR_RETURN(const std::string_view inner, fields.Text("type"));
    (void)inner;  // it is there
    result.steps.push_back(fields);
  }
  return result;
}

Status NotSupported(const JsonFields& root, std::string_view key, const Steps& steps,
                    std::string_view supported) {
  return Unsupported("{}: the {} is {}; supported are {}", root.where(), key, steps.Text(),
                     supported);
}

// Whether {"pattern": {kind: ...}} has that text.
Result<bool> HasPattern(const JsonFields& step, const char* kind, std::string_view text) {
  TIDAL_ASSIGN_OR_RETURN(const JsonFields pattern, step.Object("pattern"));
  TIDAL_ASSIGN_OR_RETURN(const std::string_view found, pattern.TextOr(kind, ""));
  return found == text;
}

// A Replace of each space by U+2581, or the other way round.
Status CheckReplace(const JsonFields& step, std::string_view from, std::string_view to) {
  TIDAL_ASSIGN_OR_RETURN(const bool matches, HasPattern(step, "String", from));
  TIDAL_ASSIGN_OR_RETURN(const std::string_view content, step.Text("content"));
  if (matches && content == to) return OkStatus();
  return Unsupported("{}: a Replace of another text than \"{}\" by \"{}\" is not supported",
                     step.where(), from, to);
}

Status ReadNormalizer(const JsonFields& root, BpeVocab* vocab) {
  TIDAL_ASSIGN_OR_RETURN(const Steps steps, ReadSteps(root, "normalizer", "normalizers"));
  if (steps.steps.empty()) return OkStatus();
  if (steps.Are({"NFC"})) {
    vocab->normalizes_nfc = true;
    return OkStatus();
  }
  const bool prepends = steps.Are({"Prepend", "Replace"});
  if (!prepends && !steps.Are({"Replace"})) {
    return NotSupported(root, "normalizer", steps, "NFC, Replace, and Prepend with Replace");
  }
  TIDAL_RETURN_IF_ERROR(CheckReplace(steps.steps.back(), " ", kSpacePiece));
  vocab->spelling = TokenSpelling::kSentencePiece;
  vocab->sentence_piece.prefix = prepends ? SpacePrefix::kAlways : SpacePrefix::kNever;
  if (!prepends) return OkStatus();
  TIDAL_ASSIGN_OR_RETURN(const std::string_view prefix, steps.steps[0].Text("prepend"));
  if (prefix == kSpacePiece) return OkStatus();
  return Unsupported("{}: prepend is \"{}\"; supported is \"{}\"", steps.steps[0].where(),
                     Printable(prefix), kSpacePiece);
}

Status ReadMetaspace(const JsonFields& step, BpeVocab* vocab) {
  TIDAL_ASSIGN_OR_RETURN(const std::string_view piece, step.TextOr("replacement", kSpacePiece));
  if (piece != kSpacePiece) {
    return Unsupported("{}: replacement is \"{}\"; supported is \"{}\"", step.where(),
                       Printable(piece), kSpacePiece);
  }
  // Older files say whether, not when.
  TIDAL_ASSIGN_OR_RETURN(const bool adds, step.BoolOr("add_prefix_space", true));
  TIDAL_ASSIGN_OR_RETURN(const std::string_view scheme,
                         step.TextOr("prepend_scheme", adds ? "always" : "never"));
  SentencePieceRules& rules = vocab->sentence_piece;
  if (scheme == "always") {
    rules.prefix = SpacePrefix::kUnlessThere;
  } else if (scheme == "first") {
    rules.prefix = SpacePrefix::kAtStartUnlessThere;
  } else if (scheme == "never") {
    rules.prefix = SpacePrefix::kNever;
  } else {
    return step.WrongValue("prepend_scheme", "\"always\", \"first\" or \"never\"");
  }
  TIDAL_ASSIGN_OR_RETURN(rules.splits_at_spaces, step.BoolOr("split", true));
  vocab->spelling = TokenSpelling::kSentencePiece;
  return OkStatus();
}

Status CheckByteLevel(const JsonFields& step, bool uses_regex) {
  TIDAL_ASSIGN_OR_RETURN(const bool prefix, step.BoolOr("add_prefix_space", true));
  TIDAL_ASSIGN_OR_RETURN(const bool regex, step.BoolOr("use_regex", true));
  if (!prefix && regex == uses_regex) return OkStatus();
  return Unsupported(
      "{}: ByteLevel has add_prefix_space {} and use_regex {}; supported here are "
      "false and {}",
      step.where(), prefix, regex, uses_regex);
}

// A Split by a regular expression that some family has.
Status ReadSplit(const JsonFields& step, BpeVocab* vocab) {
  TIDAL_ASSIGN_OR_RETURN(const JsonFields pattern, step.Object("pattern"));
  TIDAL_ASSIGN_OR_RETURN(const std::string_view regex, pattern.Text("Regex"));
  TIDAL_ASSIGN_OR_RETURN(const std::string_view behavior, step.TextOr("behavior", "Isolated"));
  TIDAL_ASSIGN_OR_RETURN(const bool inverted, step.BoolOr("invert", false));
  vocab->pre_tokenizer = PreTokenizer::NameOfPattern(regex);
  // The patterns match every character, so that removing what lies between, inverted, is the same.
  const bool isolated = behavior == "Isolated" && !inverted;
  const bool removed = behavior == "Removed" && inverted;
  if (!vocab->pre_tokenizer.empty() && (isolated || removed)) return OkStatus();
  return Unsupported(
      "{}: a Split ({}) by the pattern \"{}\" is not known; supported are those of "
      "GPT-2, Llama 3, Qwen2 and Mistral Nemo",
      step.where(), Printable(behavior, 20), Printable(regex, 120));
}

Status ReadPreTokenizer(const JsonFields& root, BpeVocab* vocab) {
  TIDAL_ASSIGN_OR_RETURN(const Steps steps, ReadSteps(root, "pre_tokenizer", "pretokenizers"));
  const bool is_sentence_piece = vocab->spelling == TokenSpelling::kSentencePiece;
  if (is_sentence_piece && steps.steps.empty()) return OkStatus();
  if (!is_sentence_piece && steps.Are({"Metaspace"}) && !vocab->normalizes_nfc)
    return ReadMetaspace(steps.steps[0], vocab);
  if (!is_sentence_piece && steps.Are({"ByteLevel"})) {
    vocab->pre_tokenizer = "gpt2";
    return CheckByteLevel(steps.steps[0], true);
  }
  if (!is_sentence_piece && steps.Are({"Split", "ByteLevel"})) {
    TIDAL_RETURN_IF_ERROR(ReadSplit(steps.steps[0], vocab));
    return CheckByteLevel(steps.steps[1], false);
  }
  if (!is_sentence_piece && steps.Are({"Digits", "ByteLevel"})) {
    TIDAL_ASSIGN_OR_RETURN(const bool single, steps.steps[0].BoolOr("individual_digits", false));
    if (single) {
      vocab->pre_tokenizer = "smollm";
      return CheckByteLevel(steps.steps[1], true);
    }
  }
  return NotSupported(root, "pre_tokenizer", steps,
                      "ByteLevel, Split with ByteLevel, individual Digits with ByteLevel, and "
                      "Metaspace");
}

// TemplateProcessing of a single text: at most one special token in front, nothing behind.
Status ReadTemplate(const JsonFields& step, BpeVocab* vocab) {
  TIDAL_ASSIGN_OR_RETURN(const JsonValue* const parts, step.Array("single"));
  const auto has = [&](size_t i, const char* key) {
    return i < parts->size() && (*parts)[i].is_object() && (*parts)[i].contains(key);
  };
  if (parts->size() == 1 && has(0, "Sequence")) return OkStatus();
  if (parts->size() != 2 || !has(0, "SpecialToken") || !has(1, "Sequence")) {
    return Unsupported("{}: the template adds {}; supported is one token in front of the text",
                       step.where(), ShortText(*parts));
  }
  TIDAL_ASSIGN_OR_RETURN(const JsonFields part, JsonFields::Of(step.where(), (*parts)[0]));
  TIDAL_ASSIGN_OR_RETURN(const JsonFields special, part.Object("SpecialToken"));
  TIDAL_ASSIGN_OR_RETURN(const std::string_view name, special.Text("id"));
  TIDAL_ASSIGN_OR_RETURN(const JsonFields tokens, step.Object("special_tokens"));
  TIDAL_ASSIGN_OR_RETURN(const JsonFields token, tokens.Object(name));
  TIDAL_ASSIGN_OR_RETURN(const JsonValue* const ids, token.Array("ids"));
  if (ids->size() != 1 || !ids->front().is_number_unsigned())
    return token.WrongValue("ids", "one id");
  vocab->bos = ids->front().get<uint64_t>();
  vocab->add_bos = true;
  return OkStatus();
}

Status ReadPostProcessor(const JsonFields& root, BpeVocab* vocab) {
  TIDAL_ASSIGN_OR_RETURN(const Steps steps, ReadSteps(root, "post_processor", "processors"));
  vocab->add_bos = false;
  for (const JsonFields& step : steps.steps) {
    if (Steps::TypeOf(step) == "ByteLevel") continue;
    if (Steps::TypeOf(step) != "TemplateProcessing" || vocab->add_bos == true) {
      return NotSupported(root, "post_processor", steps, "ByteLevel and one TemplateProcessing");
    }
    TIDAL_RETURN_IF_ERROR(ReadTemplate(step, vocab));
  }
  return OkStatus();
}

Status ReadDecoder(const JsonFields& root, BpeVocab* vocab) {
  constexpr std::string_view kSupported = "ByteLevel, or Replace, ByteFallback, Fuse and Strip";
  TIDAL_ASSIGN_OR_RETURN(const Steps steps, ReadSteps(root, "decoder", "decoders"));
  if (vocab->spelling == TokenSpelling::kByteAlphabet) {
    if (steps.steps.empty() || steps.Are({"ByteLevel"})) return OkStatus();
    return NotSupported(root, "decoder", steps, kSupported);
  }
  SentencePieceRules& rules = vocab->sentence_piece;
  rules.strips_prefix = steps.Are({"Metaspace"}) && rules.prefix != SpacePrefix::kNever;
  for (const JsonFields& step : steps.steps) {
    const std::string_view type = Steps::TypeOf(step);
    if (type == "Replace") {
      TIDAL_RETURN_IF_ERROR(CheckReplace(step, kSpacePiece, " "));
    } else if (type == "Strip") {
      TIDAL_ASSIGN_OR_RETURN(const std::string_view content, step.Text("content"));
      TIDAL_ASSIGN_OR_RETURN(const int64_t start, step.CountOr("start", 0, 1, 0));
      TIDAL_ASSIGN_OR_RETURN(const int64_t stop, step.CountOr("stop", 0, 0, 0));
      (void)stop;  // 0
      if (content != " ") return step.WrongValue("content", "a space");
      rules.strips_prefix = start == 1;
    } else if (type != "ByteFallback" && type != "Fuse" && type != "Metaspace") {
      return NotSupported(root, "decoder", steps, kSupported);
    }
  }
  return OkStatus();
}

}  // namespace

Status ReadHfPipeline(const JsonFields& root, BpeVocab* vocab) {
  TIDAL_RETURN_IF_ERROR(ReadNormalizer(root, vocab));
  TIDAL_RETURN_IF_ERROR(ReadPreTokenizer(root, vocab));
  TIDAL_RETURN_IF_ERROR(ReadPostProcessor(root, vocab));
  return ReadDecoder(root, vocab);
}

}  // namespace tidal
