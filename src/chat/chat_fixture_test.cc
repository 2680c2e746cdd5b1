// Renders the fixtures of tests/data/chat, which hold what the Python package jinja2 gives
// (tools/make_chat_fixtures.py), and compares byte for byte.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "chat/chat_template.h"

namespace tidal {
namespace {

using Json = nlohmann::ordered_json;

// The time at which the fixtures were made.
constexpr TemplateTime kFixtureTime = {2024, 7, 4, 9, 5, 7};

Json ReadFixture(const std::filesystem::path& path) {
  std::ifstream file(path);
  Json json = Json::parse(file, nullptr, /*allow_exceptions=*/false);
  EXPECT_TRUE(json.is_object()) << path;
  return json;
}

std::string SourceOf(const Json& fixture, const Json& entry) {
  if (entry.contains("template")) return entry["template"].get<std::string>();
  return fixture["templates"][entry["template_name"].get<std::string>()].get<std::string>();
}

Result<std::string> RenderEntry(const Json& fixture, const Json& entry) {
  Result<ChatTemplate> parsed = ChatTemplate::Parse(SourceOf(fixture, entry));
  if (!parsed.ok()) return parsed.status();
  RenderOptions options;
  options.now = kFixtureTime;
  return parsed->Render(fixture["variables"][entry["variables"].get<std::string>()], options);
}

void CheckFixture(const std::filesystem::path& path) {
  const Json fixture = ReadFixture(path);
  int64_t compared = 0;
  for (const Json& entry : fixture["cases"]) {
    const Result<std::string> rendered = RenderEntry(fixture, entry);
    ++compared;
    const std::string source = SourceOf(fixture, entry);
    if (entry.contains("error")) {
      EXPECT_FALSE(rendered.ok()) << source << "\n-- expected an error, rendered --\n"
                                  << rendered.value();
      if (!rendered.ok()) {
        EXPECT_EQ(rendered.status().message().find('\n'), std::string::npos) << source;
      }
      continue;
    }
    ASSERT_TRUE(entry.contains("text"));
    EXPECT_TRUE(rendered.ok()) << source << "\n-- expected --\n"
                               << entry["text"].get<std::string>() << "\n-- error --\n"
                               << rendered.status().message();
    if (rendered.ok()) {
      EXPECT_EQ(rendered.value(), entry["text"].get<std::string>())
          << source << "\nvariables " << entry["variables"];
    }
  }
  EXPECT_GT(compared, 0) << path;
}

std::filesystem::path DataDir() {
  return std::filesystem::path(TIDAL_SOURCE_DIR) / "tests" / "data" / "chat";
}

TEST(ChatFixture, Models) { CheckFixture(DataDir() / "models.json"); }
TEST(ChatFixture, Families) { CheckFixture(DataDir() / "families.json"); }
TEST(ChatFixture, Snippets) { CheckFixture(DataDir() / "snippets.json"); }
TEST(ChatFixture, Random) { CheckFixture(DataDir() / "random.json"); }

// A larger file of the same form, made with --random, to compare more than the repository holds.
TEST(ChatFixture, ExtraFile) {
  const char* path = std::getenv("TIDAL_CHAT_FIXTURE");
  if (path == nullptr) GTEST_SKIP() << "TIDAL_CHAT_FIXTURE names no file";
  CheckFixture(path);
}

}  // namespace
}  // namespace tidal
