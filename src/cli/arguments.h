// Options of the command line: one way to declare them, so that values are checked and wrong ones
// are reported alike everywhere. The parser behind it (CLI11) is slow to compile, so only the files
// that look into it include it.
#ifndef TIDAL_CLI_ARGUMENTS_H_
#define TIDAL_CLI_ARGUMENTS_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace CLI {
class App;
}  // namespace CLI

namespace tidal {

// How often an option may have a value: once (of several given the last one counts), once or not at
// all, or once for each time it is given.
enum class Arity : uint8_t { kOne, kOptional, kRepeated };
enum class Presence : uint8_t { kOptional, kRequired };

// What an option is called and how it is explained. `metavar` is the name of its value in the help
// ("FILE", "N"); choices are written "a|b|c", from which shell completion takes them.
struct OptionText {
  const char* names;  // "-n,--predict"; without dashes: the argument that stands by itself
  const char* metavar;
  const char* help;
  Presence presence = Presence::kOptional;
  Arity arity = Arity::kOne;
};

// Takes the option's name and a text that was given. Its error, which names both, is what the user
// sees.
using TakeFn = std::function<Status(const std::string& flag, const std::string& text)>;

// A command, or the options of one, is declared with these. A heading of the help holds for the
// options that are added after it.
CLI::App* AddCommand(CLI::App* root, const char* name, const char* description);
void SetHeading(CLI::App* app, const char* heading);
void SetFooter(CLI::App* app, const char* footer);
void AddOption(CLI::App* app, const OptionText& text, TakeFn take);

template <typename T>
using ParseFn = std::function<Result<T>(const std::string& flag, const std::string& text)>;

template <typename T>
void AddValue(CLI::App* app, const OptionText& text, T* value, ParseFn<T> parse) {
  AddOption(app, text,
            [value, parse = std::move(parse)](const std::string& flag, const std::string& given) {
              TIDAL_ASSIGN_OR_RETURN(*value, parse(flag, given));
              return OkStatus();
            });
}

// Inclusive.
template <typename T>
struct Range {
  T low;
  T high;
};

// An empty text is refused: it is what a variable of a script leaves that was never set.
void AddText(CLI::App* app, const OptionText& text, std::string* value);
// The same where an empty text means something.
void AddText(CLI::App* app, const OptionText& text, std::optional<std::string>* value);
void AddInt(CLI::App* app, const OptionText& text, int32_t* value, Range<int32_t> range);
void AddFloat(CLI::App* app, const OptionText& text, float* value, Range<float> range);
void AddFlag(CLI::App* app, const char* names, bool* value, const char* help);

// Whole-text parsers. Errors name `flag`, the text and what is allowed.
Result<int64_t> ParseInt(std::string_view flag, std::string_view text, Range<int64_t> range);
Result<float> ParseFloat(std::string_view flag, std::string_view text, Range<float> range);
// "0,8192,16384"; at least one.
Result<std::vector<int32_t>> ParseIntList(std::string_view flag, std::string_view text,
                                          Range<int32_t> range);
std::vector<std::string> SplitAt(std::string_view text, char separator);

// Names of several letters after one dash, as llama.cpp has them ("-ctk"), which the parser does
// not take, and the long names that they stand for.
struct ShortName {
  std::string_view short_name;
  std::string_view long_name;
};
std::vector<ShortName> MultiLetterNames();
// Replaces them in the arguments of a command; what is the value of an option stays as it is.
std::vector<std::string> ExpandShortNames(const CLI::App& command, std::vector<std::string> args);

// The known option (or command) that `word` is likely a misspelling of; empty where none is near.
std::string NearestName(std::string_view word, const std::vector<std::string>& names);
// "-n", "--predict", ... of every option of `app`.
std::vector<std::string> OptionNames(const CLI::App& app);

}  // namespace tidal

#endif  // TIDAL_CLI_ARGUMENTS_H_
