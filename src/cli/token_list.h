// Token ids in files of the user's.
#ifndef TIDAL_CLI_TOKEN_LIST_H_
#define TIDAL_CLI_TOKEN_LIST_H_

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "tokenizer/tokenizer.h"

namespace tidal {

// {"tokens":[1,2]}, [1,2], or numbers with spaces, commas or newlines between them. `where` names
// the source in errors, which are all kInvalidArgument.
Result<std::vector<TokenId>> ParseTokenList(std::string_view where, std::string_view text);

// kInvalidArgument naming the first id outside the vocabulary.
Status CheckTokens(std::string_view where, const std::vector<TokenId>& ids, int32_t vocab_size);

}  // namespace tidal

#endif  // TIDAL_CLI_TOKEN_LIST_H_
