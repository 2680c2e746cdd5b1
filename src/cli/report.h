// What commands report about a request: JSON objects of the command line's contract and the table
// of --stats.
#ifndef TIDAL_CLI_REPORT_H_
#define TIDAL_CLI_REPORT_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "engine/engine.h"

namespace tidal {

// One line and its newline. Bytes that are not UTF-8 become U+FFFD, numbers that JSON does not have
// become null.
std::string DumpLine(const nlohmann::ordered_json& value);

// The shortest decimal that reads back as `value`, as a JSON number; null for infinities and NaN.
nlohmann::ordered_json ShortNumber(float value);
// Rounded to `decimals` places, for measurements.
double Rounded(double value, int decimals);

// [[id, logprob], ...].
nlohmann::ordered_json TopJson(std::span<const TokenLogprob> top);
// {load_ms, prompt_n, reused_n, prompt_ms, predicted_n, predicted_ms}. Of prompt_n tokens reused_n
// were in the cache. The first of predicted_n tokens comes with the prompt, so predicted_ms holds
// predicted_n - 1 steps.
nlohmann::ordered_json TimingsJson(double load_ms, const Timings& timings);
// {plan, tokens_attended, selected_mass, steps, guard_rows, correction} of the decoded rows of a
// request.
nlohmann::ordered_json AttentionJson(const AttentionPlan& plan, const AttentionStats& stats);

// How many tokens a second; 0 where nothing was measured.
double TokensPerSecond(int64_t tokens, double ms);
// Of the decode steps.
double DecodeTokensPerSecond(const Timings& timings);

struct RunStats {
  const Engine* engine;
  double load_ms;
  Timings timings;
  AttentionPlan plan;
  AttentionStats attention;
  uint64_t seed;
};
// A short table: model, plan and what it read, speeds, memory. Ends with a newline.
std::string StatsTable(const RunStats& stats);

// The most memory that this process has held, in bytes.
int64_t PeakResidentBytes();

}  // namespace tidal

#endif  // TIDAL_CLI_REPORT_H_
