#include "cli/bench_report.h"

#include <algorithm>
#include <fmt/format.h>
#include <fstream>

#include "cli/report.h"

namespace tidal {
namespace {

using Json = nlohmann::ordered_json;

constexpr LayerRole kRoles[] = {LayerRole::kFull, LayerRole::kSelection, LayerRole::kReuse};

// Medians over the repetitions; milliseconds and bytes are of one token.
struct Figures {
  double median, min, max;  // tokens/s
  double ms_per_token;
  double bytes_per_token;
  double gbps;
  ExecutorProfile parts;  // bytes are left out, since they are whole numbers there
  double attention_ms;
  double weight_bytes, scan_bytes, gather_bytes, full_bytes;
};

Figures FiguresOf(const BenchRow& row) {
  const auto medians = [](const std::vector<ExecutorProfile>& profiles, int32_t tokens) {
    return [&profiles, tokens](const auto& value_of) {
      std::vector<double> values;
      for (const ExecutorProfile& profile : profiles)
        values.push_back(static_cast<double>(value_of(profile)) / tokens);
      return MedianOf(std::move(values));
    };
  };
  const auto per_token = medians(row.profiles, row.tokens);
  const auto part = medians(row.part_profiles, row.part_tokens);
  const auto [min, max] = std::minmax_element(row.tokens_per_s.begin(), row.tokens_per_s.end());
  Figures figures{};
  figures.median = MedianOf(row.tokens_per_s);
  figures.min = *min;
  figures.max = *max;
  figures.ms_per_token = figures.median > 0 ? 1000 / figures.median : 0;
  figures.attention_ms = part([](const ExecutorProfile& p) { return p.attention_ms(); });
  for (double ExecutorProfile::*ms :
       {&ExecutorProfile::scan_ms, &ExecutorProfile::merge_ms, &ExecutorProfile::top_k_ms,
        &ExecutorProfile::gather_ms, &ExecutorProfile::full_ms})
    figures.parts.*ms = part([ms](const ExecutorProfile& p) { return p.*ms; });
  for (int role = 0; role < kNumLayerRoles; ++role)
    figures.parts.role_ms[role] =
        part([role](const ExecutorProfile& p) { return p.role_ms[role]; });
  figures.weight_bytes = per_token([](const ExecutorProfile& p) { return p.weight_bytes; });
  figures.scan_bytes = per_token([](const ExecutorProfile& p) { return p.scan_bytes; });
  figures.gather_bytes = per_token([](const ExecutorProfile& p) { return p.gather_bytes; });
  figures.full_bytes = per_token([](const ExecutorProfile& p) { return p.full_bytes; });
  figures.bytes_per_token = per_token([](const ExecutorProfile& p) { return p.bytes(); });
  figures.gbps = figures.bytes_per_token * figures.median / 1e9;
  return figures;
}

// A plan's text where there is room for `width` characters.
std::string Shortened(const std::string& text, size_t width) {
  return text.size() <= width ? text : text.substr(0, width - 3) + "...";
}

bool HasParts(const BenchRow& row) { return !row.part_profiles.empty(); }

// Wide enough for every plan's text, within reason.
size_t PlanWidth(const std::vector<BenchRow>& rows) {
  constexpr size_t kLeast = 10;
  constexpr size_t kMost = 32;
  size_t width = kLeast;
  for (const BenchRow& row : rows) width = std::max(width, row.plan.text.size());
  return std::min(width, kMost);
}

void AppendSpeeds(const BenchMachine& machine, const std::vector<BenchRow>& rows, size_t width,
                  std::string* table) {
  *table += fmt::format("{:<7} {:>6}  {:<{}} {:>9} {:>18} {:>9} {:>8} {:>9} {:>6} {:>6}\n", "test",
                        "depth", "plan", width, "tokens/s", "min .. max", "ms/token", "attn ms",
                        "MB/token", "GB/s", "limit");
  for (const BenchRow& row : rows) {
    const Figures figures = FiguresOf(row);
    const std::string share = fmt::format("{:.0f}%", 100 * figures.gbps / machine.read_gbps);
    const std::string attention = HasParts(row) ? fmt::format("{:.3f}", figures.attention_ms) : "-";
    *table +=
        fmt::format("{:<7} {:>6}  {:<{}} {:>9.1f} {:>18} {:>9.3f} {:>8} {:>9.1f} {:>6.1f} {:>6}\n",
                    row.test, row.depth, Shortened(row.plan.text, width), width, figures.median,
                    fmt::format("{:.1f} .. {:.1f}", figures.min, figures.max), figures.ms_per_token,
                    attention, figures.bytes_per_token / 1e6, figures.gbps, share);
  }
  *table +=
      "\ntokens/s is the median of the repetitions; attn ms is what of ms/token went into reading "
      "the\n"
      "cache; MB/token is what a token had to read, GB/s how fast that went, and limit the share "
      "of\n"
      "the machine's read speed.\n";
}

// Where the attention of decode tests went, for people who compare plans.
void AppendAttention(const std::vector<BenchRow>& rows, size_t width, std::string* table) {
  *table += fmt::format("\n{:<{}} {:<44}   {}\n", "attention, ms/token", width + 16, "by part",
                        "by layers that");
  *table += fmt::format("{:<7} {:>6}  {:<{}} {:>8} {:>8} {:>8} {:>8} {:>8}   {:>8} {:>8} {:>8}\n",
                        "test", "depth", "plan", width, "scan", "merge", "top-k", "gather", "full",
                        "read all", "choose", "reuse");
  for (const BenchRow& row : rows) {
    const Figures figures = FiguresOf(row);
    const ExecutorProfile& parts = figures.parts;
    *table += fmt::format(
        "{:<7} {:>6}  {:<{}} {:>8.3f} {:>8.3f} {:>8.3f} {:>8.3f} {:>8.3f}   {:>8.3f} {:>8.3f} "
        "{:>8.3f}\n",
        row.test, row.depth, Shortened(row.plan.text, width), width, parts.scan_ms, parts.merge_ms,
        parts.top_k_ms, parts.gather_ms, parts.full_ms, parts.role_ms[0], parts.role_ms[1],
        parts.role_ms[2]);
  }
  *table +=
      "\nscan scores keys, merge joins heads, gather attends the chosen tokens, full all of "
      "them.\n\nplans:\n";
  std::vector<std::string> told;
  for (const BenchRow& row : rows) {
    if (row.plan.plan.is_full() || std::find(told.begin(), told.end(), row.plan.text) != told.end())
      continue;
    told.push_back(row.plan.text);
    *table += fmt::format("  {} is {}\n", row.plan.text, row.plan.plan.ToString());
  }
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
  const double read_gbps = Rounded(machine.read_gbps, 3);
  Json list = Json::array();
  for (const BenchRow& row : rows) {
    const Figures figures = FiguresOf(row);
    const ExecutorProfile& parts = figures.parts;
    Json by_role = Json::object();
    for (const LayerRole role : kRoles)
      by_role[NameOf(role)] = Rounded(parts.role_ms[static_cast<size_t>(role)], 6);
    list.push_back(
        {{"test", row.test},
         {"depth", row.depth},
         {"sequences", row.sequences},
         {"attention", row.plan.text},
         {"plan", row.plan.plan.ToString()},
         {"tokens_per_s",
          {{"median", Rounded(figures.median, 3)},
           {"min", Rounded(figures.min, 3)},
           {"max", Rounded(figures.max, 3)}}},
         {"ms_per_token", Rounded(figures.ms_per_token, 6)},
         {"bytes_per_token", Rounded(figures.bytes_per_token, 0)},
         {"bytes",
          {{"weights", Rounded(figures.weight_bytes, 0)},
           {"scan", Rounded(figures.scan_bytes, 0)},
           {"gather", Rounded(figures.gather_bytes, 0)},
           {"full", Rounded(figures.full_bytes, 0)}}},
         {"gbps", Rounded(figures.gbps, 3)},
         {"read_gbps_limit", read_gbps},
         {"limit_ms_per_token", Rounded(figures.bytes_per_token / machine.read_gbps / 1e6, 6)}});
    if (!HasParts(row)) continue;
    list.back()["attention_ms"] = {{"scan", Rounded(parts.scan_ms, 6)},
                                   {"merge", Rounded(parts.merge_ms, 6)},
                                   {"top_k", Rounded(parts.top_k_ms, 6)},
                                   {"gather", Rounded(parts.gather_ms, 6)},
                                   {"full", Rounded(parts.full_ms, 6)}};
    list.back()["attention_ms_by_role"] = std::move(by_role);
  }
  return {{"machine",
           {{"cpu", machine.cpu},
            {"cores", machine.cores},
            {"threads", machine.threads},
            {"isa", machine.isa},
            {"device", machine.device.empty() ? "cpu" : machine.device},
            {"read_gbps", read_gbps}}},
          {"rows", std::move(list)}};
}

std::string BenchTable(const BenchMachine& machine, const std::string& model,
                       const std::vector<BenchRow>& rows) {
  std::string table =
      machine.device.empty()
          ? fmt::format("{}\n{}: {} cores, {} threads, {}, reads {:.1f} GB/s\n\n", model,
                        machine.cpu, machine.cores, machine.threads, machine.isa, machine.read_gbps)
          : fmt::format("{}\n{}: reads {:.1f} GB/s\n\n", model, machine.device, machine.read_gbps);
  const size_t width = PlanWidth(rows);
  AppendSpeeds(machine, rows, width, &table);
  // Prefill is full whatever the plan says.
  std::vector<BenchRow> decoded;
  std::copy_if(rows.begin(), rows.end(), std::back_inserter(decoded),
               [](const BenchRow& row) { return row.test.starts_with("tg"); });
  const bool any_sparse = std::any_of(decoded.begin(), decoded.end(),
                                      [](const BenchRow& row) { return !row.plan.plan.is_full(); });
  if (any_sparse) AppendAttention(decoded, width, &table);
  return table;
}

}  // namespace tidal
