#include "cli/arguments.h"

#include <algorithm>
#include <charconv>
#include <numeric>

#include <CLI/CLI.hpp>

namespace tidal {

CLI::App* AddCommand(CLI::App* root, const char* name, const char* description) {
  return root->add_subcommand(name, description);
}

void SetHeading(CLI::App* app, const char* heading) { app->option_defaults()->group(heading); }

void SetFooter(CLI::App* app, const char* footer) { app->footer(footer); }

void AddOption(CLI::App* app, const OptionText& text, TakeFn take) {
  CLI::Option* option = nullptr;
  if (text.arity == Arity::kOptional) {
    // Checks do not see a value that was left out; a function does.
    option = app->add_option_function<std::string>(
        text.names,
        [name = std::string(text.names), take](const std::string& given) {
          const Status status = take(name, given);
          if (!status.ok()) throw CLI::ValidationError(name, status.message());
        },
        text.help);
    option->expected(0, 1);
  } else {
    // Whole texts, one for each time the option is given.
    option = app->add_option_function<std::vector<std::string>>(
        text.names, [](const std::vector<std::string>&) {}, text.help);
    option->expected(1)->allow_extra_args(false);
    // The parser knows only this way to report an error: as the text that a check returns.
    option->check(CLI::Validator([flag = option->get_name(),
                                  take](std::string& given) { return take(flag, given).message(); },
                                 std::string()));
  }
  option->type_name(text.metavar);
  option->required(text.presence == Presence::kRequired);
  option->multi_option_policy(text.arity == Arity::kRepeated ? CLI::MultiOptionPolicy::TakeAll
                                                             : CLI::MultiOptionPolicy::TakeLast);
}

void AddText(CLI::App* app, const OptionText& text, std::string* value) {
  AddOption(app, text,
            [value, metavar = std::string(text.metavar)](const std::string& flag,
                                                         const std::string& given) -> Status {
              if (given.empty())
                return InvalidArgument("{} is given an empty text, expected {}", flag, metavar);
              *value = given;
              return OkStatus();
            });
}

void AddText(CLI::App* app, const OptionText& text, std::optional<std::string>* value) {
  AddOption(app, text, [value](const std::string&, const std::string& given) {
    *value = given;
    return OkStatus();
  });
}

void AddInt(CLI::App* app, const OptionText& text, int32_t* value, Range<int32_t> range) {
  AddOption(app, text, [value, range](const std::string& flag, const std::string& given) {
    TIDAL_ASSIGN_OR_RETURN(const int64_t number, ParseInt(flag, given, {range.low, range.high}));
    *value = static_cast<int32_t>(number);
    return OkStatus();
  });
}

void AddFloat(CLI::App* app, const OptionText& text, float* value, Range<float> range) {
  AddValue<float>(app, text, value, [range](const std::string& flag, const std::string& given) {
    return ParseFloat(flag, given, range);
  });
}

void AddFlag(CLI::App* app, const char* names, bool* value, const char* help) {
  app->add_flag(names, *value, help)->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
}

Result<int64_t> ParseInt(std::string_view flag, std::string_view text, Range<int64_t> range) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < range.low ||
      value > range.high) {
    return InvalidArgument("{} is \"{}\", expected a whole number from {} to {}", flag, text,
                           range.low, range.high);
  }
  return value;
}

Result<float> ParseFloat(std::string_view flag, std::string_view text, Range<float> range) {
  float value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  // Written so that NaN is out of every range.
  const bool in_range = value >= range.low && value <= range.high;
  if (error != std::errc() || end != text.data() + text.size() || !in_range) {
    return InvalidArgument("{} is \"{}\", expected a number from {} to {}", flag, text, range.low,
                           range.high);
  }
  return value;
}

std::vector<std::string> SplitAt(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (true) {
    const size_t end = text.find(separator);
    parts.emplace_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

Result<std::vector<int32_t>> ParseIntList(std::string_view flag, std::string_view text,
                                          Range<int32_t> range) {
  std::vector<int32_t> values;
  for (const std::string& part : SplitAt(text, ',')) {
    TIDAL_ASSIGN_OR_RETURN(const int64_t value, ParseInt(flag, part, {range.low, range.high}));
    values.push_back(static_cast<int32_t>(value));
  }
  return values;
}

std::vector<ShortName> MultiLetterNames() {
  return {{"-ctk", "--cache-type-k"},
          {"-ctv", "--cache-type-v"},
          {"-ub", "--ubatch-size"},
          {"-sys", "--system"}};
}

std::vector<std::string> ExpandShortNames(const CLI::App& command, std::vector<std::string> args) {
  const std::vector<ShortName> names = MultiLetterNames();
  bool is_value = false;
  for (std::string& arg : args) {
    if (is_value) {
      is_value = false;
      continue;
    }
    if (arg == "--") break;
    for (const ShortName& name : names)
      if (arg == name.short_name) arg = name.long_name;
    const CLI::Option* option = command.get_option_no_throw(arg);
    is_value = option != nullptr && option->get_items_expected_min() > 0;
  }
  return args;
}

std::string NearestName(std::string_view word, const std::vector<std::string>& names) {
  // Levenshtein's distance, a row at a time.
  const auto distance = [word](std::string_view name) {
    std::vector<size_t> row(name.size() + 1);
    std::iota(row.begin(), row.end(), size_t{0});
    for (size_t i = 0; i < word.size(); ++i) {
      size_t diagonal = row[0];
      row[0] = i + 1;
      for (size_t j = 0; j < name.size(); ++j) {
        const size_t substituted = diagonal + (word[i] == name[j] ? 0 : 1);
        diagonal = row[j + 1];
        row[j + 1] = std::min({row[j] + 1, row[j + 1] + 1, substituted});
      }
    }
    return row.back();
  };
  std::string nearest;
  size_t best = 3;  // further away it would be another word
  for (const std::string& name : names) {
    const size_t edits = distance(name);
    if (edits >= best || edits * 2 >= name.size()) continue;
    best = edits;
    nearest = name;
  }
  return nearest;
}

std::vector<std::string> OptionNames(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_snames()) names.push_back("-" + name);
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  return names;
}

}  // namespace tidal
