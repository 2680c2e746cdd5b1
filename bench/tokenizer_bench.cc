// Megabytes a second of Tokenizer::Tokenize for several kinds of text, and the time to make a
// tokenizer from its file, for each model in TIDAL_MODELS_DIR (default: models/ in the source
// folder). Runs on one core.
#include <algorithm>
#include <benchmark/benchmark.h>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace tidal {
namespace {

namespace fs = std::filesystem;

constexpr size_t kTextBytes = 1'000'000;
constexpr size_t kLongBytes = 10'000'000;

// The files of this project that end like that, up to kTextBytes, again from the start where they
// are fewer.
std::string ProjectText(const std::string& extension) {
  std::vector<fs::path> paths;
  for (const char* folder : {"src", "docs", "tests"}) {
    for (const auto& entry :
         fs::recursive_directory_iterator(fs::path(TIDAL_SOURCE_DIR) / folder)) {
      if (entry.path().extension() == extension) paths.push_back(entry.path());
    }
  }
  std::sort(paths.begin(), paths.end());
  std::string text;
  for (const fs::path& path : paths) {
    std::ifstream file(path, std::ios::binary);
    text.append(std::istreambuf_iterator<char>(file), {});
  }
  if (text.empty()) return text;
  while (text.size() < kTextBytes) text += text;
  text.resize(kTextBytes);
  return text;
}

// Common Chinese characters in random order, with a comma or a full stop after every 12.
std::string ChineseText() {
  std::mt19937 rng(1);
  std::string text;
  for (size_t i = 0; text.size() < kTextBytes; ++i) {
    const uint32_t c = i % 12 == 11 ? (i % 5 == 0 ? 0x3002 : 0xFF0C) : 0x4E00 + rng() % 0x1000;
    text += {static_cast<char>(0xE0 | (c >> 12)), static_cast<char>(0x80 | ((c >> 6) & 0x3F)),
             static_cast<char>(0x80 | (c & 0x3F))};
  }
  return text;
}

std::string RandomText(size_t bytes, int first, int count) {
  std::mt19937 rng(2);
  std::string text(bytes, '\0');
  for (char& c : text)
    c = static_cast<char>(first + static_cast<int>(rng() % static_cast<uint32_t>(count)));
  return text;
}

void Tokenize(benchmark::State& state, const Tokenizer& tokenizer, const std::string& text) {
  size_t num_tokens = 0;
  for (auto unused : state) {
    num_tokens = tokenizer.Tokenize(text).size();
    benchmark::DoNotOptimize(num_tokens);
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * text.size()));
  state.counters["bytes_per_token"] =
      static_cast<double>(text.size()) / static_cast<double>(num_tokens);
}

void Load(benchmark::State& state, const GgufFile& file) {
  for (auto unused : state) {
    auto tokenizer = Tokenizer::FromGguf(file);
    benchmark::DoNotOptimize(tokenizer);
  }
}

struct Text {
  const char* name;
  std::string bytes;
};

// The benchmarks of one model; what they use lives as long as the program.
bool RegisterModel(const fs::path& path, const std::vector<Text>& texts) {
  auto opened = GgufFile::Open(path.string());
  if (!opened.ok()) {
    fprintf(stderr, "%s\n", opened.status().message().c_str());
    return false;
  }
  auto file = std::make_shared<GgufFile>(std::move(opened).value());
  auto made = Tokenizer::FromGguf(*file);
  if (!made.ok()) {
    fprintf(stderr, "%s\n", made.status().message().c_str());
    return false;
  }
  const std::shared_ptr<Tokenizer> tokenizer = std::move(made).value();
  const std::string prefix = path.stem().string() + "/";
  benchmark::RegisterBenchmark((prefix + "load").c_str(), [file](benchmark::State& state) {
    Load(state, *file);
  })->Unit(benchmark::kMillisecond);
  for (const Text& text : texts) {
    benchmark::RegisterBenchmark((prefix + text.name).c_str(), [tokenizer,
                                                                &text](benchmark::State& state) {
      Tokenize(state, *tokenizer, text.bytes);
    })->Unit(benchmark::kMillisecond);
  }
  return true;
}

int Main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  const std::vector<Text> texts = {
      {"english", ProjectText(".md")},
      {"code", ProjectText(".cc")},
      {"chinese", ChineseText()},
      {"random_bytes", RandomText(kTextBytes, 0, 256)},
      {"10MB_one_letter", std::string(kLongBytes, 'a')},
      {"10MB_spaces", std::string(kLongBytes, ' ')},
      {"10MB_newlines", std::string(kLongBytes, '\n')},
      {"10MB_digits", std::string(kLongBytes, '7')},
      {"10MB_random_letters", RandomText(kLongBytes, 'a', 26)},
      {"10MB_random_bytes", RandomText(kLongBytes, 0, 256)},
  };
  const char* folder = std::getenv("TIDAL_MODELS_DIR");
  bool any = false;
  std::error_code error;
  for (const auto& entry :
       fs::directory_iterator(folder != nullptr ? folder : TIDAL_SOURCE_DIR "/models", error)) {
    if (entry.path().extension() == ".gguf") any |= RegisterModel(entry.path(), texts);
  }
  if (!any) {
    fprintf(stderr, "no usable *.gguf in the folder that TIDAL_MODELS_DIR names, or in models/\n");
    return 1;
  }
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace
}  // namespace tidal

int main(int argc, char** argv) { return tidal::Main(argc, argv); }
