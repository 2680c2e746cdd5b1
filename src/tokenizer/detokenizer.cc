#include <utility>

#include "tokenizer/tokenizer.h"
#include "tokenizer/utf8.h"

namespace tidal {

IncrementalDetokenizer::IncrementalDetokenizer(const Tokenizer& tokenizer, bool show_special)
    : tokenizer_(&tokenizer), show_special_(show_special) {}

std::string IncrementalDetokenizer::Push(TokenId id) {
  pending_ += tokenizer_->TokenBytes(id, show_special_);
  std::string text;
  DrainUtf8(&pending_, &text);
  return text;
}

std::string IncrementalDetokenizer::Finish() {
  const bool incomplete = !pending_.empty();
  pending_.clear();
  return std::string(incomplete ? kReplacementCharacter : "");
}

}  // namespace tidal
