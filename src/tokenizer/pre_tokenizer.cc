#include "tokenizer/pre_tokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <algorithm>
#include <cstdint>
#include <pcre2.h>

#include "base/check.h"
#include "gguf/printable.h"
#include "tokenizer/utf8.h"

namespace tidal {
namespace {

// The patterns as they are published. Their \s and \S are Unicode's White_Space (see
// WithUnicodeSpaces).
constexpr char kGpt2[] =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr char kLlamaBpe[] = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)"
                             R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr char kQwen2[] = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|)"
                          R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr char kTekken[] =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|)"
    R"(\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
// Published as two steps: digits are split off one by one, and the rest is cut as by GPT-2. In one
// pattern, a digit is like the end of the text for the rule that leaves the last of several spaces
// to the next word.
constexpr char kSmolLm[] =
    R"(\p{N}|'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?![^\s\p{N}])|\s+)";

// PCRE2's own \s has U+180E as well, which is no White_Space since Unicode 6.3.
std::string WithUnicodeSpaces(std::string_view pattern) {
  constexpr std::string_view kSpaces =
      R"(\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029})"
      R"(\x{202f}\x{205f}\x{3000})";
  std::string result;
  bool in_class = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] == '[') in_class = true;
    if (pattern[i] == ']') in_class = false;
    const std::string_view escape = pattern.substr(i, 2);
    if (escape == R"(\s)" && in_class) {
      result += kSpaces;
    } else if (escape == R"(\s)" || escape == R"(\S)") {
      result.append(escape == R"(\s)" ? "[" : "[^").append(kSpaces).append("]");
    } else {
      result += pattern[i];
      continue;
    }
    ++i;
  }
  return result;
}

struct Family {
  const char* name;
  const char* pattern;
  bool ignores_merges = false;
  bool adds_bos = false;
};

constexpr Family kFamilies[] = {
    {.name = "gpt2", .pattern = kGpt2},
    {.name = "gpt-2", .pattern = kGpt2},
    {.name = "default", .pattern = kGpt2},
    {.name = "llama-bpe", .pattern = kLlamaBpe, .ignores_merges = true, .adds_bos = true},
    {.name = "llama3", .pattern = kLlamaBpe, .ignores_merges = true, .adds_bos = true},
    {.name = "llama-v3", .pattern = kLlamaBpe, .ignores_merges = true, .adds_bos = true},
    {.name = "qwen2", .pattern = kQwen2},
    {.name = "deepseek-r1-qwen", .pattern = kQwen2},
    {.name = "smollm", .pattern = kSmolLm},
    {.name = "tekken", .pattern = kTekken, .ignores_merges = true, .adds_bos = true},
};

std::string KnownNames() {
  std::string names;
  for (const Family& family : kFamilies) {
    if (!names.empty()) names += ", ";
    names += family.name;
  }
  return names;
}

}  // namespace

void PreTokenizer::FreeCode::operator()(pcre2_code* code) const { pcre2_code_free(code); }

void PreTokenizer::FreeContext::operator()(pcre2_match_context* context) const {
  pcre2_match_context_free(context);
}

std::string_view PreTokenizer::NameOfPattern(std::string_view pattern) {
  const auto* family = std::ranges::find(
      kFamilies, pattern, [](const Family& f) { return std::string_view(f.pattern); });
  return family == std::end(kFamilies) ? "" : family->name;
}

Result<PreTokenizer> PreTokenizer::Create(std::string_view name, Jit jit) {
  const auto* family = std::ranges::find(kFamilies, name, &Family::name);
  if (family == std::end(kFamilies)) {
    return Unsupported("the pre-tokenizer \"{}\" is not known; supported are: {}", Printable(name),
                       KnownNames());
  }
  PreTokenizer result;
  result.ignores_merges_ = family->ignores_merges;
  result.adds_bos_ = family->adds_bos;
  const std::string pattern = WithUnicodeSpaces(family->pattern);
  int error = 0;
  PCRE2_SIZE error_offset = 0;
  result.code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                   PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &error, &error_offset,
                                   nullptr));
  if (!result.code_) {
    return Unsupported(
        "the PCRE2 library refuses the pattern of \"{}\" (error {} at offset {}); it must be built "
        "with Unicode",
        name, error, error_offset);
  }
  result.context_.reset(pcre2_match_context_create(nullptr));
  TIDAL_CHECK(result.context_ != nullptr, "out of memory");
  // One word can be as long as the text, and each of its spaces be one step back.
  pcre2_set_match_limit(result.context_.get(), UINT32_MAX);
  // Where the system forbids to make code, PCRE2 interprets the pattern: slower, with the same
  // words.
  if (jit == Jit::kWherePossible) pcre2_jit_compile(result.code_.get(), PCRE2_JIT_COMPLETE);
  return result;
}

void WordScanner::FreeMatchData::operator()(pcre2_match_data* match) const {
  pcre2_match_data_free(match);
}

WordScanner::WordScanner(const PreTokenizer& pre_tokenizer)
    : pre_tokenizer_(pre_tokenizer), match_(pcre2_match_data_create(1, nullptr)) {
  TIDAL_CHECK(match_ != nullptr, "out of memory");
}

size_t WordScanner::WordEnd(std::string_view text, size_t pos) {
  const auto match = [&](uint32_t options) {
    return pcre2_match(pre_tokenizer_.code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()),
                       text.size(), pos, PCRE2_NO_UTF_CHECK | options, match_.get(),
                       pre_tokenizer_.context_.get());
  };
  // The interpreter needs no stack that could be too small.
  if (match(0) > 0 || match(PCRE2_NO_JIT) > 0) {
    return pcre2_get_ovector_pointer(match_.get())[1];
  }
  // Only a limit of the library leads here: every character is in some alternative of each pattern.
  return pos + ReadUtf8(text.substr(pos)).length;
}

}  // namespace tidal
