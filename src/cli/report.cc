#include "cli/report.h"

#include <charconv>
#include <cmath>
#include <fmt/format.h>
#include <functional>
#include <sys/resource.h>

#include "base/system_memory.h"
#include "cli/model_options.h"

namespace tidal {

using Json = nlohmann::ordered_json;

namespace {

Json MassJson(double mass) { return std::isnan(mass) ? Json() : Json(Rounded(mass, 6)); }

// What sparse rows did, in rows of the table of --stats.
using AddRow = std::function<void(const char* what, const std::string& value)>;
void AddAttentionRows(const AttentionStats& stats, const AddRow& row) {
  if (stats.sparse_rows == 0) return;
  std::string attended;
  for (const LayerRole role : {LayerRole::kFull, LayerRole::kSelection, LayerRole::kReuse}) {
    if (stats.layers[static_cast<size_t>(role)] == 0) continue;
    attended += fmt::format("{}{} {:.1f}", attended.empty() ? "" : ", ", NameOf(role),
                            stats.MeanTokensAttended(role));
  }
  row("attended", attended + " tokens a layer");
  if (!std::isnan(stats.MeanSelectedMass())) {
    row("mass", fmt::format("{:.4f} selected on average, {:.4f} at least", stats.MeanSelectedMass(),
                            stats.LeastSelectedMass()));
  }
  row("rows",
      fmt::format(
          "{} sparse, {} full{}", stats.sparse_rows, stats.full_rows,
          stats.guard_rows == 0 ? "" : fmt::format(" ({} for the guard)", stats.guard_rows)));
  const CorrectionStats& correction = stats.correction;
  if (correction.rows == 0) return;
  row("replayed",
      fmt::format("{} rows in {} corrections, KL {:.3g} nats on average, {:.3g} at most",
                  correction.rows, correction.runs, correction.kl_mean, correction.kl_max));
}

}  // namespace

std::string DumpLine(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

Json ShortNumber(float value) {
  if (!std::isfinite(value)) return nullptr;
  // The shortest text of the float, read as a double, is printed as that text again.
  const std::string text = fmt::format("{}", value);
  double shortest = value;
  std::from_chars(text.data(), text.data() + text.size(), shortest);
  return shortest;
}

double Rounded(double value, int decimals) {
  const double scale = std::pow(10.0, decimals);
  return std::round(value * scale) / scale;
}

Json TopJson(std::span<const TokenLogprob> top) {
  Json list = Json::array();
  for (const TokenLogprob& entry : top)
    list.push_back(Json::array({entry.id, ShortNumber(entry.logprob)}));
  return list;
}

Json TimingsJson(double load_ms, const Timings& timings) {
  return {{"load_ms", Rounded(load_ms, 3)},
          {"prompt_n", timings.prompt_tokens},
          {"reused_n", timings.reused_tokens},
          {"prompt_ms", Rounded(timings.prompt_ms, 3)},
          {"predicted_n", timings.predicted_tokens},
          {"predicted_ms", Rounded(timings.predicted_ms, 3)}};
}

Json AttentionJson(const AttentionPlan& plan, const AttentionStats& stats) {
  Json tokens = Json::object();
  for (const LayerRole role : {LayerRole::kFull, LayerRole::kSelection, LayerRole::kReuse}) {
    const bool had_layers = stats.layers[static_cast<size_t>(role)] > 0;
    tokens[NameOf(role)] = had_layers ? Json(Rounded(stats.MeanTokensAttended(role), 3)) : Json();
  }
  const CorrectionStats& correction = stats.correction;
  Json kl;
  if (correction.rows > 0)
    kl = {{"mean", Rounded(correction.kl_mean, 9)}, {"max", Rounded(correction.kl_max, 9)}};
  return {{"plan", Json::parse(PlanJson(plan), nullptr, false)},
          {"tokens_attended", std::move(tokens)},
          {"selected_mass",
           {{"mean", MassJson(stats.MeanSelectedMass())},
            {"min", MassJson(stats.LeastSelectedMass())}}},
          {"steps", {{"full", stats.full_rows}, {"sparse", stats.sparse_rows}}},
          {"guard_rows", stats.guard_rows},
          {"correction",
           {{"runs", correction.runs}, {"rows", correction.rows}, {"kl", std::move(kl)}}}};
}

double TokensPerSecond(int64_t tokens, double ms) {
  return ms > 0 ? static_cast<double>(tokens) * 1000 / ms : 0;
}

double DecodeTokensPerSecond(const Timings& timings) {
  return TokensPerSecond(std::max(timings.predicted_tokens - 1, 0), timings.predicted_ms);
}

std::string StatsTable(const RunStats& stats) {
  const Engine& engine = *stats.engine;
  const ModelConfig& config = engine.model().config();
  const Timings& timings = stats.timings;
  const MemoryUse memory = engine.memory();
  const std::string name = config.name.empty() ? BaseName(engine.model().path()) : config.name;
  std::string table;
  const auto row = [&table](const char* what, const std::string& value) {
    table += fmt::format("{:<8}  {}\n", what, value);
  };
  row("model", fmt::format("{}, {}, {:.4g} M parameters", name, config.architecture,
                           static_cast<double>(engine.model().num_parameters()) / 1e6));
  const std::string where =
      engine.device_name().empty()
          ? fmt::format("{} threads, {}", engine.num_threads(), NameOf(engine.isa()))
          : engine.device_name();
  row("plan", fmt::format("{}; {}, seed {}", stats.plan.ToString(), where, stats.seed));
  row("load", fmt::format("{:>22.1f} ms", stats.load_ms));
  const int32_t computed = timings.prompt_tokens - timings.reused_tokens;
  std::string prompt = fmt::format("{:>6} tokens in {:>9.1f} ms  {:>8.1f} tokens/s", computed,
                                   timings.prompt_ms, TokensPerSecond(computed, timings.prompt_ms));
  if (timings.reused_tokens > 0)
    prompt += fmt::format("  ({} more were in the cache)", timings.reused_tokens);
  row("prompt", prompt);
  const int32_t steps = std::max(timings.predicted_tokens - 1, 0);
  row("decode", fmt::format("{:>6} tokens in {:>9.1f} ms  {:>8.1f} tokens/s", steps,
                            timings.predicted_ms, DecodeTokensPerSecond(timings)));
  AddAttentionRows(stats.attention, row);
  row("weights", fmt::format("{} in the file, {} repacked", FormatBytes(memory.file_bytes),
                             FormatBytes(memory.weight_bytes)));
  std::string cache =
      fmt::format("{} for {} tokens", FormatBytes(memory.kv_bytes), engine.ctx_size());
  if (memory.index_bytes > 0)
    cache += fmt::format(", {} for its key index", FormatBytes(memory.index_bytes));
  if (memory.set_bytes > 0) cache += fmt::format(", {} to choose", FormatBytes(memory.set_bytes));
  row("cache", cache);
  row("memory", fmt::format("{} at most", FormatBytes(PeakResidentBytes())));
  return table;
}

int64_t PeakResidentBytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<int64_t>(usage.ru_maxrss) * 1024;
}

}  // namespace tidal
