#include "cli/bench_report.h"

#include <algorithm>
#include <fmt/format.h>
#include <fstream>

#include "cli/report.h"

namespace tidal {
namespace {

using Json = nlohmann::ordered_json;

struct Figures {
  double median, min, max;  // tokens/s
  double ms_per_token;
  double gbps;
  double attention_ms;  // per token
};

Figures FiguresOf(const BenchRow& row) {
  const auto [min, max] = std::minmax_element(row.tokens_per_s.begin(), row.tokens_per_s.end());
  Figures figures{};
  figures.median = MedianOf(row.tokens_per_s);
  figures.min = *min;
  figures.max = *max;
  figures.ms_per_token = figures.median > 0 ? 1000 / figures.median : 0;
  figures.gbps = row.bytes_per_token * figures.median / 1e9;
  figures.attention_ms = MedianOf(row.attention_ms);
  return figures;
}

}  // namespace

std::string CpuName() {
  std::ifstream info("/proc/cpuinfo");
  constexpr std::string_view kKey = "model name";
  for (std::string line; std::getline(info, line);) {
    const size_t colon = line.find(": ");
    if (line.starts_with(kKey) && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown";
}

Json BenchJson(const BenchMachine& machine, const std::vector<BenchRow>& rows) {
  Json list = Json::array();
  for (const BenchRow& row : rows) {
    const Figures figures = FiguresOf(row);
    const double attention_ms = Rounded(figures.attention_ms, 6);
    list.push_back(
        {{"test", row.test},
         {"depth", row.depth},
         {"attention", row.plan.text},
         {"plan", row.plan.plan.ToString()},
         {"tokens_per_s",
          {{"median", Rounded(figures.median, 3)},
           {"min", Rounded(figures.min, 3)},
           {"max", Rounded(figures.max, 3)}}},
         {"ms_per_token", Rounded(figures.ms_per_token, 6)},
         {"bytes_per_token", Rounded(row.bytes_per_token, 0)},
         {"gbps", Rounded(figures.gbps, 3)},
         {"read_gbps_limit", Rounded(machine.read_gbps, 3)},
         {"attention_ms",
          {{"scan", 0.0}, {"merge", 0.0}, {"top_k", 0.0}, {"gather", 0.0}, {"full", attention_ms}}},
         {"attention_ms_by_role", {{"full", attention_ms}}}});
  }
  return {{"machine",
           {{"cpu", machine.cpu},
            {"cores", machine.cores},
            {"threads", machine.threads},
            {"isa", machine.isa},
            {"read_gbps", Rounded(machine.read_gbps, 3)}}},
          {"rows", std::move(list)}};
}

std::string BenchTable(const BenchMachine& machine, const std::string& model,
                       const std::vector<BenchRow>& rows) {
  std::string table =
      fmt::format("{}\n{}: {} cores, {} threads, {}, reads {:.1f} GB/s\n\n", model, machine.cpu,
                  machine.cores, machine.threads, machine.isa, machine.read_gbps);
  table += fmt::format("{:<7} {:>6}  {:<10} {:>9} {:>18} {:>9} {:>8} {:>9} {:>6} {:>6}\n", "test",
                       "depth", "plan", "tokens/s", "min .. max", "ms/token", "attn ms", "MB/token",
                       "GB/s", "limit");
  for (const BenchRow& row : rows) {
    const Figures figures = FiguresOf(row);
    table += fmt::format(
        "{:<7} {:>6}  {:<10} {:>9.1f} {:>18} {:>9.3f} {:>8.3f} {:>9.1f} {:>6.1f} {:>5.0f}%\n",
        row.test, row.depth, row.plan.text, figures.median,
        fmt::format("{:.1f} .. {:.1f}", figures.min, figures.max), figures.ms_per_token,
        figures.attention_ms, row.bytes_per_token / 1e6, figures.gbps,
        machine.read_gbps > 0 ? 100 * figures.gbps / machine.read_gbps : 0);
  }
  table +=
      "\ntokens/s is the median of the repetitions; attn ms is what of ms/token went into reading "
      "the\n"
      "cache; MB/token is what a token had to read, GB/s how fast that went, and limit the share "
      "of\n"
      "the machine's read speed.\n";
  return table;
}

}  // namespace tidal
