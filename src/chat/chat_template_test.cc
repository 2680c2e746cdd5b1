#include "chat/chat_template.h"

#include <gtest/gtest.h>
#include <thread>

#include <nlohmann/json.hpp>

namespace tidal {
namespace {

using Json = nlohmann::ordered_json;

Result<std::string> Render(const std::string& source, const Json& variables = Json::object(),
                           const RenderOptions& options = {}) {
  Result<ChatTemplate> parsed = ChatTemplate::Parse(source);
  if (!parsed.ok()) return parsed.status();
  return parsed->Render(variables, options);
}

std::string ErrorOf(const std::string& source, const Json& variables = Json::object()) {
  const Result<std::string> rendered = Render(source, variables);
  EXPECT_FALSE(rendered.ok()) << source;
  return rendered.ok() ? "" : rendered.status().message();
}

TEST(ChatTemplate, ErrorsNameThePlaceAndTheCause) {
  EXPECT_EQ(ErrorOf("a\n  {{ x.y }}"), "chat template: line 2, column 7: 'x' is undefined");
  EXPECT_EQ(
      ErrorOf("{% if x %}\n"),
      "chat template: line 1, column 11: expected '{% endif %}', found the end of the template");
  EXPECT_EQ(ErrorOf("{{ 1 + 'a' }}"),
            "chat template: line 1, column 6: expected operands that + can combine, found types "
            "int and str");
  EXPECT_EQ(ErrorOf("{{ raise_exception('no\ntool') }}"),
            "chat template: line 1, column 19: the template refuses this conversation: no\\ntool");
  EXPECT_EQ(ErrorOf("{% macro m() %}\n{{ 1 / 0 }}{% endmacro %}\n{{ m() }}"),
            "chat template: line 2, column 6: expected a divisor other than 0 for /, found 0");
}

TEST(ChatTemplate, UnsupportedConstructsSaySo) {
  for (const char* source : {"{% include 'x' %}", "{% extends 'x' %}", "{% import 'x' as y %}",
                             "{% from 'x' import y %}", "{% block b %}{% endblock %}",
                             "{% autoescape true %}{% endautoescape %}", "{{ 'x'|urlize }}",
                             "{{ ['x']|map('pprint')|list }}"}) {
    const Result<std::string> rendered = Render(source);
    ASSERT_FALSE(rendered.ok()) << source;
    EXPECT_EQ(rendered.status().code(), StatusCode::kUnsupported) << rendered.status().message();
  }
  // Only where it is reached.
  EXPECT_EQ(*Render("{% if false %}{{ 'x'|urlize }}{% endif %}ok"), "ok");
}

// Python has integers of any size; here they end at 64 bits, and that is an error, never a wrapped
// result.
TEST(ChatTemplate, IntegersBeyond64BitsAreErrors) {
  for (const char* source :
       {"{{ 9223372036854775807 + 1 }}", "{{ -9223372036854775807 - 2 }}",
        "{{ 3037000500 * 3037000500 }}", "{{ 2 ** 63 }}", "{{ 9223372036854775808 }}",
        "{{ (-9223372036854775807 - 1)|abs }}", "{{ -(-9223372036854775807 - 1) }}",
        "{{ (-9223372036854775807 - 1) // -1 }}", "{{ '9223372036854775808'|int }}",
        "{{ 1e19|int }}", "{{ [9223372036854775807, 1]|sum }}"}) {
    EXPECT_NE(ErrorOf(source).find("64 bits"), std::string::npos) << source;
  }
  EXPECT_EQ(*Render("{{ -9223372036854775807 - 1 }}"), "-9223372036854775808");
  EXPECT_EQ(*Render("{{ (-9223372036854775807 - 1) % -1 }}"), "0");
  EXPECT_FALSE(Render("{{ x }}", {{"x", 18446744073709551615u}}).ok());
  EXPECT_EQ(*Render("{{ range(9223372036854775805, 9223372036854775807)|list }}"),
            "[9223372036854775805, 9223372036854775806]");
  EXPECT_FALSE(Render("{{ range(-9223372036854775807, 9223372036854775807) }}").ok());
  EXPECT_EQ(
      *Render("{{ range(9223372036854775807, -9223372036854775807, -9223372036854775807)|list }}"),
      "[9223372036854775807, 0]");
}

TEST(ChatTemplate, InvalidUtf8PassesThrough) {
  const std::string bytes = "a\xFF\xC3(\xE2\x82z\xF0\x9F";
  EXPECT_EQ(*Render("{{ s }}{{ s|length }}", {{"s", bytes}}), bytes + "9");
  EXPECT_EQ(*Render("{{ s|upper|lower|trim }}{{ s[::-1][::-1] }}", {{"s", bytes}}), bytes + bytes);
  EXPECT_EQ(*Render("{{ s.split('(')[1] }}{{ s|list|join }}", {{"s", bytes}}),
            bytes.substr(4) + bytes);
}

TEST(ChatTemplate, VariablesHideGlobals) {
  EXPECT_EQ(*Render("{{ range }}", {{"range", "mine"}}), "mine");
  EXPECT_EQ(*Render("{{ messages[0].role }}", {{"messages", {{{"role", "user"}}}}}), "user");
}

TEST(ChatTemplate, TimeIsThatOfTheOptions) {
  RenderOptions options;
  options.now = TemplateTime{2026, 1, 2, 23, 4, 5};
  const std::string source = "{{ strftime_now('%A %d %B %Y %I:%M:%S %p %j %V') }}";
  EXPECT_EQ(*Render(source, Json::object(), options), "Friday 02 January 2026 11:04:05 PM 002 01");
  options.now->day = 32;
  EXPECT_FALSE(Render(source, Json::object(), options).ok());
  EXPECT_EQ(Render("{{ strftime_now('%Y') }}")->size(), 4u);
}

TEST(ChatTemplate, WrongVariables) {
  EXPECT_FALSE(Render("x", Json::array()).ok());
  EXPECT_FALSE(Render("x", nullptr).ok());
  EXPECT_FALSE(Render("x", {{"b", Json::binary({1, 2})}}).ok());
}

TEST(ChatTemplate, RendersAgainAndAtTheSameTime) {
  Result<ChatTemplate> parsed = ChatTemplate::Parse(
      "{% macro m(x) %}<{{ x }}>{% endmacro %}{% set ns = namespace(n=0) %}"
      "{% for i in range(200) %}{% set ns.n = ns.n + i %}{{ m('a' ~ i) }}{% endfor %}{{ ns.n }}");
  ASSERT_TRUE(parsed.ok());
  const ChatTemplate chat_template = std::move(parsed).value();
  const std::string expected = chat_template.Render(Json::object()).value();
  constexpr int kThreads = 4;
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 10; ++round) {
        EXPECT_EQ(chat_template.Render(Json::object()).value(), expected);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace tidal
