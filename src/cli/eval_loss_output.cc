#include "cli/eval_loss_output.h"

#include <cmath>
#include <fmt/format.h>

#include "cli/report.h"

namespace tidal {
namespace {

using Json = nlohmann::ordered_json;

// "0.0123 [0.0101, 0.0150]", without the interval where there is none.
std::string Text(const Estimate& estimate, int decimals) {
  const std::string value = fmt::format("{:.{}f}", estimate.value, decimals);
  if (std::isnan(estimate.low)) return value;
  return fmt::format("{} [{:.{}f}, {:.{}f}]", value, estimate.low, decimals, estimate.high,
                     decimals);
}

std::string SpeedText(const PlanSpeed& speed) {
  constexpr double kMegabyte = 1e6;
  return fmt::format("{:.1f} tokens/s, {:.2f} MB scanned, {:.2f} MB gathered, {:.2f} MB read whole",
                     speed.tokens_per_s, speed.scan_bytes / kMegabyte,
                     speed.gather_bytes / kMegabyte, speed.full_bytes / kMegabyte);
}

// {"value", "low", "high"}; the interval is null where there is none.
Json EstimateJson(const Estimate& estimate) {
  return {{"value", estimate.value}, {"low", estimate.low}, {"high", estimate.high}};
}

Json SpeedJson(const PlanSpeed& speed) {
  return {{"context", speed.context},       {"tokens_per_s", Rounded(speed.tokens_per_s, 3)},
          {"scan_bytes", speed.scan_bytes}, {"gather_bytes", speed.gather_bytes},
          {"full_bytes", speed.full_bytes}, {"weight_bytes", speed.weight_bytes}};
}

Json PlanJsonOf(const PlanLoss& plan) {
  const LossSummary& summary = plan.summary;
  Json json = {{"plan", plan.plan.text},
               {"tokens", summary.tokens},
               {"kl", EstimateJson(summary.kl)},
               {"kl_p99", EstimateJson(summary.kl_p99)},
               {"kl_along", summary.kl_along},
               {"extra_nats", EstimateJson(summary.extra_nats)},
               {"agreement", EstimateJson(summary.agreement)},
               {"kl_over_first", EstimateJson(summary.kl_over_first)}};
  if (summary.same_text) json["same_text"] = EstimateJson(*summary.same_text);
  if (plan.guard) {
    json["guard"] = {
        {"auc", plan.guard->auc}, {"bad_kl", plan.guard->bad_kl}, {"rows", plan.guard->rows}};
  }
  if (plan.speed) json["speed"] = SpeedJson(*plan.speed);
  json["attention"] = AttentionJson(plan.plan.plan, plan.attention);
  return json;
}

std::string PlanLines(const PlanLoss& plan) {
  const LossSummary& summary = plan.summary;
  std::string lines = fmt::format(
      "\n{}\n  KL to full      {}, 99th percentile {}\n  extra nats      {}\n  same top token  "
      "{}\n",
      plan.plan.text, Text(summary.kl, 4), Text(summary.kl_p99, 3), Text(summary.extra_nats, 4),
      Text(summary.agreement, 4));
  if (summary.same_text)
    lines += fmt::format("  same text       {} tokens\n", Text(*summary.same_text, 1));
  if (plan.guard)
    lines += fmt::format("  guard           AUC {:.3f} (0.5: selected mass tells nothing)\n",
                         plan.guard->auc);
  if (plan.speed) lines += "  speed           " + SpeedText(*plan.speed) + "\n";
  return lines;
}

}  // namespace

std::string LossTable(const std::string& model, const LossRequest& request,
                      const LossResult& result) {
  std::string table = fmt::format(
      "{}, texts: {}, windows: {}, each of {} prefilled and {} decoded tokens\n"
      "full attention    {} nats a token\n",
      model, result.documents.size(), result.windows.size(), request.prefill, request.decode,
      Text(result.full_nats, 4));
  if (result.full_speed) table += "                  " + SpeedText(*result.full_speed) + "\n";
  for (const PlanLoss& plan : result.plans) table += PlanLines(plan);
  return table;
}

nlohmann::ordered_json LossJson(const std::string& model, const LossRequest& request,
                                const LossResult& result) {
  Json json = {{"model", model},
               {"prefill", request.prefill},
               {"decode", request.decode},
               {"interrupted", result.interrupted},
               {"full_nats", EstimateJson(result.full_nats)}};
  if (result.full_speed) json["full_speed"] = SpeedJson(*result.full_speed);
  json["windows"] = Json::array();
  for (const LossWindow& window : result.windows)
    json["windows"].push_back({{"document", result.documents[static_cast<size_t>(window.document)]},
                               {"begin", window.begin},
                               {"full_nats", window.full_nats}});
  json["plans"] = Json::array();
  for (const PlanLoss& plan : result.plans) json["plans"].push_back(PlanJsonOf(plan));
  return json;
}

std::string FreeRunTable(const std::string& model, const FreeRunRequest& request,
                         const FreeRunResult& result) {
  std::string table =
      fmt::format("{}, windows: {}, each of {} prefilled and at most {} generated tokens\n", model,
                  result.windows.size(), request.prefill, request.generate);
  for (const FreeRunPlan& plan : result.plans) {
    table += fmt::format("\n{}\n  KL to full      {}\n  tokens          {}\n  repeated        {}\n",
                         plan.plan.text, Text(plan.kl, 4), Text(plan.length, 1),
                         Text(plan.repetition, 4));
  }
  return table;
}

nlohmann::ordered_json FreeRunJson(const std::string& model, const FreeRunRequest& request,
                                   const FreeRunResult& result) {
  Json json = {{"model", model},
               {"prefill", request.prefill},
               {"free_run", request.generate},
               {"interrupted", result.interrupted},
               {"plans", Json::array()}};
  for (const FreeRunPlan& plan : result.plans) {
    Json texts = Json::array();
    for (const FreeRunText& text : plan.texts) {
      texts.push_back({{"tokens", text.tokens.size()},
                       {"reason", NameOf(text.reason)},
                       {"repetition", text.repetition},
                       {"kl", text.kl}});
    }
    json["plans"].push_back({{"plan", plan.plan.text},
                             {"kl", EstimateJson(plan.kl)},
                             {"length", EstimateJson(plan.length)},
                             {"repetition", EstimateJson(plan.repetition)},
                             {"texts", std::move(texts)},
                             {"attention", AttentionJson(plan.plan.plan, plan.attention)}});
  }
  return json;
}

}  // namespace tidal
