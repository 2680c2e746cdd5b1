// Hostile templates: each must end soon, with an error or a small result, on a stack and in memory
// that are bounded.
#include <functional>
#include <gtest/gtest.h>
#include <pthread.h>

#include <nlohmann/json.hpp>

#include "chat/chat_template.h"

namespace tidal {
namespace {

using Json = nlohmann::ordered_json;

std::string Repeat(const std::string& unit, int count) {
  std::string out;
  out.reserve(unit.size() * static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) out += unit;
  return out;
}

Result<std::string> Render(const std::string& source, const Json& variables = Json::object(),
                           TemplateLimits limits = {}) {
  Result<ChatTemplate> parsed = ChatTemplate::Parse(source, limits);
  if (!parsed.ok()) return parsed.status();
  return parsed->Render(variables);
}

void ExpectError(const std::string& source, const std::string& part, TemplateLimits limits = {}) {
  const Result<std::string> rendered = Render(source, Json::object(), limits);
  ASSERT_FALSE(rendered.ok()) << source.substr(0, 200) << " gave " << rendered->substr(0, 200);
  EXPECT_NE(rendered.status().message().find(part), std::string::npos)
      << source.substr(0, 200) << " gave " << rendered.status().message().substr(0, 300);
}

#ifdef __SANITIZE_ADDRESS__
constexpr size_t kStackBytes = 4 << 20;  // the sanitizer's frames are several times as large
#else
constexpr size_t kStackBytes = 1 << 20;
#endif

void RunOnSmallStack(const std::function<void()>& body) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  ASSERT_EQ(pthread_attr_setstacksize(&attributes, kStackBytes), 0);
  pthread_t thread;
  const auto run = [](void* argument) -> void* {
    (*static_cast<const std::function<void()>*>(argument))();
    return nullptr;
  };
  ASSERT_EQ(pthread_create(&thread, &attributes, run, const_cast<std::function<void()>*>(&body)),
            0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
}

TEST(TemplateLimits, DeepSource) {
  RunOnSmallStack([] {
    constexpr int kMany = 60'000;
    for (const char* unit : {"(", "[", "{", "{1:", "not ", "-", "- ", "x[", "f(", "x.y(", "1 if (",
                             "a and (", "x is eq [", "x|f(", "[(", "a ** -(", "1 if 1 else "}) {
      ExpectError("{{ " + Repeat(unit, kMany), "levels deep");
    }
    for (const char* unit :
         {"{% if x %}", "{% for x in y %}", "{% macro m() %}", "{% filter upper %}", "{% set x %}",
          "{% with %}", "{% call f() %}", "{% generation %}"}) {
      ExpectError(Repeat(unit, 20'000), "levels deep");
    }
    ExpectError("{% set " + Repeat("(", kMany), "levels deep");
    ExpectError("{{ x" + Repeat(" if y", kMany) + " }}", "levels deep");
  });
}

// The deepest that limits can be set to.
TEST(TemplateLimits, DeepestSource) {
  RunOnSmallStack([] {
    TemplateLimits limits;
    limits.max_depth = 1'000'000;
    for (const char* unit :
         {"(", "[", "{1:", "not ", "-", "x[", "f(", "1 or 1 and not 1 in 1 + 1 ~ 1 * 1 ** -f("}) {
      ExpectError("{{ " + Repeat(unit, 20'000), "more than 200 levels deep", limits);
    }
    const int deepest = 190;
    EXPECT_TRUE(
        Render("{{ " + Repeat("[", deepest) + Repeat("]", deepest) + " }}", Json::object(), limits)
            .ok());
    EXPECT_TRUE(Render(Repeat("{% if 1 %}", deepest) + "x" + Repeat("{% endif %}", deepest),
                       Json::object(), limits)
                    .ok());
    ExpectError("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "deep", limits);
    ExpectError("{% macro m() %}{% call m() %}{{ caller() }}{% endcall %}{% endmacro %}{{ m() }}",
                "deep", limits);
    ExpectError(
        "{% for x in [1] recursive %}{% for y in [1] %}{% filter upper %}{% set z %}{{ loop([1]) }}"
        "{% endset %}{{ z }}{% endfilter %}{% endfor %}{% endfor %}",
        "running loop", limits);
    ExpectError(
        "{% for x in [1] recursive %}{% filter upper %}{% set z %}{{ loop([1]) }}"
        "{% endset %}{{ z }}{% endfilter %}{% endfor %}",
        "deep", limits);
  });
}

TEST(TemplateLimits, LongFlatSource) {
  RunOnSmallStack([] {
    const auto expect_text = [](const std::string& source, const std::string& text) {
      const Result<std::string> rendered = Render(source);
      ASSERT_TRUE(rendered.ok()) << rendered.status().message();
      EXPECT_EQ(*rendered, text);
    };
    constexpr int kMany = 100'000;
    expect_text("{{ 1" + Repeat("+1", kMany) + " }}", "100001");
    expect_text("{{ 1" + Repeat(" or 1", kMany) + " }}", "1");
    expect_text("{{ 1" + Repeat(" == 1", kMany) + " }}", "True");
    expect_text("{{ 'a'" + Repeat("|e", kMany) + " }}", "a");
    expect_text("{{ 'a'" + Repeat(" 'a'", kMany) + " }}", Repeat("a", kMany + 1));
    expect_text("{% if 0 %}" + Repeat("{% elif 0 %}", 50'000) + "{% endif %}", "");
    expect_text(Repeat("{# x #}", 50'000) + Repeat("{% raw %}{{{% endraw %}", 20'000),
                Repeat("{{", 20'000));
    ExpectError("{{ x" + Repeat(".a", kMany) + " }}", "'x' is undefined");
    ExpectError("{{ '" + Repeat("a", 900'000), "expected a quote");
    ExpectError("{# " + Repeat("-#", 400'000), "'#}'");
    ExpectError("{% raw %}" + Repeat("{% endraw ", 90'000), "endraw");
    ExpectError(Repeat("{{ x }}", 200'000), "bytes");
  });
}

TEST(TemplateLimits, EndlessWork) {
  const std::string kSteps = "max_steps";
  TemplateLimits limits;
  limits.max_steps = 200'000;  // the default is as sure, and slower under a sanitizer
  ExpectError("{% for i in range(10**18) %}{% endfor %}", "range");
  ExpectError("{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
              kSteps, limits);
  ExpectError(
      "{% for i in range(99999) %}{% for j in 'ab'|list|map('upper') if 0 %}{% endfor %}"
      "{% set x = range(99999)|sum %}{% endfor %}",
      kSteps, limits);
  ExpectError("{% for i in range(9999) %}{{ range(9999)|sort(reverse=true)|first }}{% endfor %}",
              kSteps, limits);
  ExpectError("{% for i in range(9999) %}{{ ('ab' * 4000000).find('bb') }}{% endfor %}", kSteps,
              limits);
  ExpectError(
      "{% set s = 'ab' * 4000000 %}{% for i in range(99999) %}{{ s == 'a' ~ s }}{% endfor %}",
      kSteps, limits);
  ExpectError("{% for i in [1, [1]] recursive %}{{ loop([1, [2]]) }}{% endfor %}", "max_depth");
  ExpectError("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "max_depth");
  ExpectError(
      "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}",
      "max_depth");
  ExpectError("{% macro m() %}{% call m() %}{{ caller() }}{% endcall %}{% endmacro %}{{ m() }}",
              "max_depth");
  ExpectError("{% macro m(x=m()) %}{% endmacro %}{{ m() }}", "max_depth");
}

TEST(TemplateLimits, MacroTreesEndByDepth) {
  // Each level of the text nests as deep as it may, and calls itself there.
  const std::string nested = Repeat("{% if [[1]] %}", 40) + "{{ m() }}" + Repeat("{% endif %}", 40);
  RunOnSmallStack([&] {
    ExpectError("{% macro m() %}" + nested + "{% endmacro %}{{ m() }}", "deep");
    ExpectError("{% macro m() %}{{ " + Repeat("(1 + [", 45) + "m()" + Repeat("])", 45) +
                    " }}{% endmacro %}{{ m() }}",
                "deep");
  });
}

// The same checks as with the default, and quicker.
TemplateLimits SmallTexts() {
  TemplateLimits limits;
  limits.max_output_bytes = 1 << 20;
  return limits;
}

TEST(TemplateLimits, LargeText) {
  const std::string kBytes = "bytes";
  const TemplateLimits limits = SmallTexts();
  const std::string doubling = "{% set ns = namespace(s='ab') %}{% for i in range(99) %}";
  ExpectError(doubling + "{% set ns.s = ns.s + ns.s %}{% endfor %}", kBytes, limits);
  ExpectError(doubling + "{% set ns.s = ns.s ~ ns.s %}{% endfor %}", kBytes, limits);
  ExpectError(doubling + "{% set ns.s = ns.s|replace('a', 'aaaa') %}{% endfor %}", kBytes, limits);
  ExpectError(doubling + "{% set ns.s = [ns.s, ns.s]|join(ns.s) %}{% endfor %}", kBytes, limits);
  ExpectError(doubling + "{% set ns.s = '%s%s' % (ns.s, ns.s) %}{% endfor %}", kBytes, limits);
  ExpectError(doubling + "{% set ns.s = '{0}{0}'.format(ns.s) %}{% endfor %}", kBytes, limits);
  ExpectError(doubling + "{% set ns.s = ns.s|tojson|tojson %}{% endfor %}", kBytes, limits);
  ExpectError(doubling + "{% set ns.s %}{{ ns.s }}{{ ns.s }}{% endset %}{% endfor %}", kBytes,
              limits);
  ExpectError(doubling + "{{ ns.s }}{% set ns.s = ns.s * 3 %}{% endfor %}", kBytes, limits);
  for (const char* huge : {"'x' * 10**12",
                           "10**18 * 'xy'",
                           "[1] * 10**12",
                           "'%999999999d' % 1",
                           "'%.999999999f' % 1",
                           "'%99999999999999999999d' % 1",
                           "'%*d' % (10**9, 1)",
                           "'{:999999999}'.format(1)",
                           "'{:.999999999f}'.format(1.5)",
                           "'x'|center(10**18)",
                           "'x'.center(10**18, '🙂')",
                           "'x'.ljust(10**18)",
                           "'x'.rjust(2**62, '🙂')",
                           "'x'.zfill(10**18)",
                           "'a\nb'|indent(10**15)",
                           "[[1]]|tojson(indent=10**15)",
                           "'\t'.expandtabs(10**15)",
                           "[1]|batch(10**15, 0)|list",
                           "[1]|batch(10**7, 0)|list",
                           "'x'|replace('', 'y' * 560000)",
                           "('x' * 560000)|replace('', 'yy')",
                           "range(99999)|map('center', 999)|list",
                           "[1]|slice(10**15)|list",
                           "range(99999)|map('batch', 9)|list",
                           "('x' * 560000)|list",
                           "('x ' * 560000).split()",
                           "('\n' * 560000).splitlines()",
                           "(('y' * 560000),) * 9 ~ ''",
                           "('<' * 560000)|e",
                           "('é' * 300000)|urlencode",
                           "('ŉ' * 380000)|upper"}) {
    const Result<std::string> rendered =
        Render("{{ " + std::string(huge) + " }}", Json::object(), limits);
    EXPECT_FALSE(rendered.ok()) << huge;
  }
}

TEST(TemplateLimits, ManyLiveValues) {
  const std::string kKeeps = "keeps more than";
  const TemplateLimits limits = SmallTexts();
  ExpectError(
      "{% set ns = namespace(l=[]) %}{% for i in range(99999) %}"
      "{% set ns.l = [ns.l, 'x' * 62000 ~ i] %}{% endfor %}",
      kKeeps, limits);
  ExpectError(
      "{% set ns = namespace(l=[]) %}{% for i in range(99) %}"
      "{% set ns.l = ns.l + ['x' * 300000 ~ i] %}{% endfor %}",
      kKeeps, limits);
  // Macros keep the scope they were made in.
  ExpectError(
      "{% for i in range(99999) %}{% set s = 'x' * 62000 ~ i %}{% macro m() %}{% endmacro %}{% "
      "endfor %}",
      kKeeps, limits);
  ExpectError(
      "{% macro m(n) %}{% set s %}{{ 'x' * 560000 }}{{ m(n + 1) }}{% endset %}{% endmacro %}{{ "
      "m(0) }}",
      kKeeps, limits);
  ExpectError(
      "{% set ns = namespace(t=(1, 2)) %}{% for i in range(40) %}{% set ns.t = (ns.t, ns.t) %}{% "
      "endfor %}"
      "{{ {ns.t: 1} }}",
      "max_steps");
}

// Values that share their parts: small, but endless if each path is walked.
TEST(TemplateLimits, SharedValues) {
  const std::string build =
      "{% set a = namespace(v=[1]) %}{% set b = namespace(v=[1]) %}{% for i in range(60) %}"
      "{% set a.v = [a.v, a.v] %}{% set b.v = [b.v, b.v] %}{% endfor %}";
  for (const char* use :
       {"{{ a.v == b.v }}", "{{ a.v < b.v }}", "{{ a.v in [b.v] }}", "{{ a.v }}",
        "{{ a.v|tojson }}", "{{ [a.v]|unique|list }}{{ a.v|string }}", "{{ [a.v, b.v]|sort }}",
        "{{ [a.v].index(b.v) }}", "{{ '%r' % (a.v,) }}", "{{ a.v ~ '' }}"}) {
    EXPECT_FALSE(Render(build + use).ok()) << use;
  }
}

TEST(TemplateLimits, DeepValues) {
  RunOnSmallStack([] {
    const std::string build = "{% set ns = namespace(v=0) %}{% for i in range(99999) %}";
    for (const char* wrap : {"[ns.v]", "(ns.v,)", "{'k': ns.v}", "[ns.v]|reverse", "[ns.v].copy",
                             "dict(k=ns.v).items()", "[[ns.v]]|map('list')", "{'k': ns.v}.get"}) {
      ExpectError(build + "{% set ns.v = " + wrap + " %}{% endfor %}", "levels deep");
    }
    ExpectError(
        "{% set ns = namespace(v=0) %}{% for i in range(99999) %}{% for j in [ns.v] %}"
        "{% set ns.v = loop %}{% endfor %}{% endfor %}",
        "levels deep");
    // Namespaces may form chains and cycles of any length; they are only not printed.
    const std::string chain =
        "{% set ns = namespace() %}{% for i in range(50000) %}{% set ns.v = namespace(v=ns.v) %}{% "
        "endfor %}";
    EXPECT_TRUE(Render(chain).ok());
    ExpectError(chain + "{{ ns }}", "namespace");
    ExpectError("{% set ns = namespace() %}{% set ns.v = [ns] %}{{ ns }}", "namespace");
    EXPECT_TRUE(
        Render("{% set a = namespace() %}{% set b = namespace(a=a) %}{% set a.b = [b, a] %}").ok());
    // A loop that is told of itself.
    EXPECT_TRUE(Render("{% for x in [1, 2] %}{{ loop.changed([loop]) }}{% endfor %}").ok());
    // Filters that apply filters.
    // What is never read may fail unseen, but not overflow the stack.
    EXPECT_TRUE(Render("{{ 'a'|map(" + Repeat("'map',", 5'000) + " 'upper')|list|length }}").ok());
  });
}

TEST(TemplateLimits, DeepVariables) {
  RunOnSmallStack([] {
    Json deep = Json::parse(Repeat("[", 50'000) + Repeat("]", 50'000));
    const Result<std::string> rendered = Render("x", {{"messages", std::move(deep)}});
    ASSERT_FALSE(rendered.ok());
    EXPECT_NE(rendered.status().message().find("levels deep"), std::string::npos);
  });
}

// A loop variable that outlives its loop, and macros that outlive their scope.
TEST(TemplateLimits, Survivors) {
  EXPECT_EQ(*Render("{% set ns = namespace() %}{% for x in [1, 2, 3] if x %}{% set ns.l = loop "
                    "%}{% break %}{% endfor %}"
                    "{{ ns.l.index }}{{ ns.l.last }}{{ ns.l.length }}"),
            "1True1");
  EXPECT_EQ(
      *Render("{% set ns = namespace() %}{% for x in [1, 2] %}{% set y = x * 10 %}"
              "{% macro m() %}{{ y }}{% endmacro %}{% set ns.m = m %}{% endfor %}{{ ns.m() }}"),
      "20");
  ExpectError(
      "{% set ns = namespace() %}{% for x in [[1]] recursive %}{% set ns.l = loop %}{% endfor %}{{ "
      "ns.l([1]) }}",
      "running loop");
}

TEST(TemplateLimits, OwnLimits) {
  TemplateLimits limits;
  limits.max_output_bytes = 10;
  EXPECT_TRUE(Render("{{ '12345' * 2 }}", Json::object(), limits).ok());
  EXPECT_FALSE(Render("{{ '12345' * 2 }}x", Json::object(), limits).ok());
  limits = {};
  limits.max_steps = 50;
  EXPECT_FALSE(Render("{% for i in range(50) %}{% endfor %}", Json::object(), limits).ok());
  limits = {};
  limits.max_depth = 4;
  EXPECT_TRUE(Render("{{ [[1]] }}", Json::object(), limits).ok());
  EXPECT_FALSE(Render("{{ [[[[1]]]] }}", Json::object(), limits).ok());
}

}  // namespace
}  // namespace tidal
