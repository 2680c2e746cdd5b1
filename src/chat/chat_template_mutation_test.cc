// Damaged and hostile templates, made from those of the fixtures: each must render or be refused in
// one line, soon, and within the limits of steps, depth and output. The sanitizer builds run this
// too.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <gtest/gtest.h>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/mutate_for_test.h"
#include "chat/chat_template.h"

namespace tidal {
namespace {

using Json = nlohmann::ordered_json;

// Small, so that mutants come to them; what lies beneath is the same code for any limits.
constexpr TemplateLimits kLimits = {
    .max_steps = 100'000, .max_output_bytes = 1 << 18, .max_depth = 60};
constexpr auto kMaxTime = std::chrono::seconds(2);  // for one mutant; most take a millisecond

// Put in between tags: words of the language, and work, text and depth without an end.
constexpr std::string_view kInserted[] = {
    "{% endif %}",
    "{% endfor %}",
    "{% else %}",
    "{% endmacro %}",
    "{%- set messages = messages[1:] %}",
    "{% set ns = namespace(index=0) %}",
    "{{ loop.index }}",
    "{% break %}",
    "{% raw %}",
    "{#",
    "{{ caller() }}",
    "{{ undefined_name.x }}",
    "{{ 10**18 // 7 * 'ab' }}",
    "{{ 'x' * 10**6 }}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% for a in range(20) %}{% set messages = messages + messages %}{% endfor %}",
    "{% macro m(x) %}{{ m([x]) }}{% endmacro %}{{ m(1) }}",
    "{% for a in messages recursive %}{{ loop([messages]) }}{% endfor %}",
    "{% set v = namespace(v='ab') %}{% for a in range(64) %}{% set v.v = v.v ~ v.v %}{% endfor %}",
    "{{ [[[[[[messages]]]]]]|tojson(indent=999) }}",
    "{{ messages|map('map', 'map')|list }}",
    "{% filter indent(9999) %}",
    "{{ ((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((1",
    "\xff\xfe",
};

class TemplateMutator {
 public:
  TemplateMutator(std::vector<std::string> sources, uint32_t seed)
      : sources_(std::move(sources)), rng_(seed) {}

  // One to three changes of a template.
  std::string Next() {
    std::string text = Pick();
    for (size_t changes = 1 + Below(3); changes > 0; --changes) {
      const char mark = "{}%#[]()|.,'\"\\-+*~=0\n"[Below(21)];
      text = Below(2) == 0 ? ChangeBytes(std::move(text), 16, {&mark, 1}, &rng_) : ChangeTags(text);
      if (text.empty()) text = Pick();
    }
    return text;
  }

 private:
  size_t Below(size_t n) { return DrawBelow(n, &rng_); }
  const std::string& Pick() { return sources_[Below(sources_.size())]; }

  // The text in pieces, of which every second one is a tag or an output.
  static std::vector<std::string> Split(const std::string& text) {
    std::vector<std::string> pieces;
    for (size_t pos = 0; pos < text.size();) {
      size_t begin = text.find('{', pos);
      while (begin != std::string::npos && begin + 1 < text.size() && text[begin + 1] != '%' &&
             text[begin + 1] != '{')
        begin = text.find('{', begin + 1);
      const size_t close = begin == std::string::npos ? begin : text.find("}", begin + 2);
      if (close == std::string::npos) {
        pieces.push_back(text.substr(pos));
        break;
      }
      const size_t end = std::min(close + 1 + (text[begin + 1] == '{' ? 1 : 0), text.size());
      pieces.push_back(text.substr(pos, begin - pos));
      pieces.push_back(text.substr(begin, end - begin));
      pos = end;
    }
    return pieces;
  }

  std::string ChangeTags(const std::string& text) {
    std::vector<std::string> pieces = Split(text);
    const size_t at = Below(pieces.size());
    const auto place = pieces.begin() + static_cast<std::ptrdiff_t>(at);
    switch (Below(5)) {
      case 0:
        std::swap(*place, pieces[Below(pieces.size())]);
        break;
      case 1:
        pieces.erase(place);
        break;
      case 2:
        pieces.insert(place, std::string(pieces[Below(pieces.size())]));
        break;
      case 3: {  // the rest of another template
        const std::vector<std::string> other = Split(Pick());
        pieces.resize(at);
        pieces.insert(pieces.end(),
                      other.begin() + static_cast<std::ptrdiff_t>(Below(other.size())),
                      other.end());
        break;
      }
      default:
        pieces.insert(place, std::string(kInserted[Below(std::size(kInserted))]));
    }
    std::string joined;
    for (const std::string& piece : pieces) joined += piece;
    return joined;
  }

  std::vector<std::string> sources_;
  std::mt19937 rng_;
};

Json ReadFixture(const std::string& name) {
  std::ifstream file(TIDAL_SOURCE_DIR "/tests/data/chat/" + name);
  Json json = Json::parse(file, nullptr, /*allow_exceptions=*/false);
  EXPECT_TRUE(json.is_object()) << name;
  return json;
}

// How many mutants came to which end.
struct Ends {
  int rendered = 0;
  int refused = 0;
  int out_of_steps = 0;
  int too_deep = 0;
  int too_large = 0;
};

void CountEnd(const Result<std::string>& result, const std::string& source, Ends* ends) {
  if (result.ok()) {
    ++ends->rendered;
    EXPECT_LE(result->size(), static_cast<size_t>(kLimits.max_output_bytes)) << source;
    return;
  }
  ++ends->refused;
  const std::string& message = result.status().message();
  const StatusCode code = result.status().code();
  EXPECT_TRUE(code == StatusCode::kInvalidArgument || code == StatusCode::kUnsupported) << message;
  EXPECT_TRUE(std::ranges::none_of(message, [](char c) {
    return static_cast<unsigned char>(c) < ' ' || c == '\x7f';
  })) << message;
  EXPECT_NO_THROW(Json(message).dump()) << "no UTF-8: " << message;
  EXPECT_GT(message.size(), 15u) << message;
  EXPECT_LT(message.size(), 1000u) << message;
  const auto has = [&message](std::string_view part) {
    return message.find(part) != std::string::npos;
  };
  ends->out_of_steps += has("max_steps") ? 1 : 0;
  ends->too_deep += has("deep") || has("max_depth") ? 1 : 0;
  ends->too_large += has("bytes") || has("keeps more than") ? 1 : 0;
}

TEST(TemplateMutation, NoMutantDoesHarm) {
  constexpr int kMutants = 1200;
  std::vector<std::string> sources;
  for (const char* name : {"families.json", "models.json"}) {
    const Json fixture = ReadFixture(name);
    for (const Json& text : fixture["templates"]) sources.push_back(text.get<std::string>());
  }
  ASSERT_GE(sources.size(), 11u);
  const Json variables = ReadFixture("families.json")["variables"];
  std::vector<Json> conversations;
  for (const char* name : {"turns", "tools_called", "thinking", "documents", "content_parts"})
    conversations.push_back(variables[name]);
  TemplateMutator mutator(std::move(sources), 20241124);
  Ends ends;
  for (int i = 0; i < kMutants; ++i) {
    const std::string source = mutator.Next();
    SCOPED_TRACE(i);
    const auto begin = std::chrono::steady_clock::now();
    const Result<ChatTemplate> parsed = ChatTemplate::Parse(source, kLimits);
    if (parsed.ok()) {
      for (const Json& conversation : conversations)
        CountEnd(parsed->Render(conversation), source, &ends);
    } else {
      CountEnd(parsed.status(), source, &ends);
    }
    EXPECT_LT(std::chrono::steady_clock::now() - begin, kMaxTime) << source;
  }
  std::printf("%d rendered, %d refused: %d by steps, %d by depth, %d by size\n", ends.rendered,
              ends.refused, ends.out_of_steps, ends.too_deep, ends.too_large);
  EXPECT_GT(ends.rendered, kMutants / 4);
  EXPECT_GT(ends.refused, kMutants / 4);
  EXPECT_GT(ends.out_of_steps, 0);
  EXPECT_GT(ends.too_deep, 0);
  EXPECT_GT(ends.too_large, 0);
}

}  // namespace
}  // namespace tidal
