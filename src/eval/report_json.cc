#include "eval/report_json.h"

#include <limits>
#include <utility>

namespace tidal::report {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

Json RunJson(const char* kind, const ReportRun& run) {
  return {{"kind", kind},
          {"command", run.command},
          {"version", run.version},
          {"model", run.model},
          {"model_hash", run.model_hash},
          {"machine",
           {{"cpu", run.cpu}, {"isa", run.isa}, {"threads", run.threads}, {"cache", run.cache}}},
          {"started", run.started},
          {"seconds", run.seconds}};
}

Json EstimateJson(const Estimate& estimate) {
  return {{"value", estimate.value}, {"low", estimate.low}, {"high", estimate.high}};
}

Json SpeedJson(const PlanSpeed& speed) {
  return {{"context", speed.context},       {"tokens_per_s", speed.tokens_per_s},
          {"scan_bytes", speed.scan_bytes}, {"gather_bytes", speed.gather_bytes},
          {"full_bytes", speed.full_bytes}, {"weight_bytes", speed.weight_bytes}};
}

Json GuardJson(const RocCurve& guard) {
  Json points = Json::array();
  for (const RocPoint& point : guard.points)
    points.push_back({point.threshold, point.false_positive_rate, point.true_positive_rate});
  return {{"auc", guard.auc}, {"bad_kl", guard.bad_kl}, {"rows", guard.rows}, {"points", points}};
}

// Means of one window, which is what two runs are compared by.
struct WindowMeans {
  double kl = 0;
  double extra_nats = 0;
};

WindowMeans MeansOf(const PlanWindow& window) {
  WindowMeans means;
  for (const TokenLoss& token : window.tokens) {
    means.kl += static_cast<double>(token.kl);
    means.extra_nats += static_cast<double>(token.extra_nats);
  }
  const auto tokens = static_cast<double>(window.tokens.size());
  return {means.kl / tokens, means.extra_nats / tokens};
}

// The tokens of a set at the context; null where the plan has no such number.
Json BudgetAt(const AttentionPlan& plan, int32_t context) {
  if (plan.is_full()) return nullptr;
  const int32_t budget = plan.At(context).SizesAt(context).token_budget;
  return budget > 0 ? Json(budget) : Json(nullptr);
}

// By layer; null where none of its rows has a mass.
Json LayerMassJson(const std::vector<LayerMass>& masses) {
  Json list = Json::array();
  for (const LayerMass& mass : masses)
    list.push_back(mass.rows == 0 ? Json(nullptr)
                                  : Json(mass.sum / static_cast<double>(mass.rows)));
  return list;
}

Json AttentionJson(const AttentionStats& stats) {
  return {{"full_rows", stats.full_rows},
          {"sparse_rows", stats.sparse_rows},
          {"guard_rows", stats.guard_rows},
          {"tokens_full", stats.MeanTokensAttended(LayerRole::kFull)},
          {"tokens_selection", stats.MeanTokensAttended(LayerRole::kSelection)},
          {"tokens_reuse", stats.MeanTokensAttended(LayerRole::kReuse)},
          {"selected_mass", stats.MeanSelectedMass()},
          {"correction_runs", stats.correction.runs},
          {"correction_rows", stats.correction.rows},
          {"correction_kl", stats.correction.kl_mean}};
}

Json PlanJson(const EvalPlan& plan, int32_t context) {
  return {{"plan", plan.text},
          {"spelled_out", plan.plan.ToString()},
          {"preset", plan.plan.preset},
          {"budget", BudgetAt(plan.plan, context)}};
}

Json PlanLossJson(const PlanLoss& loss, int32_t context) {
  const LossSummary& summary = loss.summary;
  Json window_kl = Json::array();
  Json window_extra_nats = Json::array();
  for (const PlanWindow& window : loss.windows) {
    const WindowMeans means = MeansOf(window);
    window_kl.push_back(means.kl);
    window_extra_nats.push_back(means.extra_nats);
  }
  Json json = PlanJson(loss.plan, context);
  json["tokens"] = summary.tokens;
  json["kl"] = EstimateJson(summary.kl);
  json["kl_p99"] = EstimateJson(summary.kl_p99);
  json["kl_along"] = summary.kl_along;
  json["extra_nats"] = EstimateJson(summary.extra_nats);
  json["agreement"] = EstimateJson(summary.agreement);
  json["kl_over_first"] = EstimateJson(summary.kl_over_first);
  json["window_kl"] = window_kl;
  json["window_extra_nats"] = window_extra_nats;
  json["attention"] = AttentionJson(loss.attention);
  if (!loss.layer_mass.empty()) json["layer_mass"] = LayerMassJson(loss.layer_mass);
  if (summary.same_text) json["same_text"] = EstimateJson(*summary.same_text);
  if (loss.guard) json["guard"] = GuardJson(*loss.guard);
  if (loss.speed) json["speed"] = SpeedJson(*loss.speed);
  return json;
}

Json FreeRunTextsJson(const std::vector<FreeRunText>& texts) {
  Json list = Json::array();
  for (const FreeRunText& text : texts) {
    double sum = 0;
    for (const float kl : text.kl) sum += static_cast<double>(kl);
    list.push_back({{"tokens", text.tokens.size()},
                    {"reason", NameOf(text.reason)},
                    {"repetition", text.repetition},
                    {"kl", text.kl.empty() ? kNan : sum / static_cast<double>(text.kl.size())}});
  }
  return list;
}

Json CellJson(const TaskCell& cell) {
  const PairedCounts& paired = cell.paired;
  return {{"task", cell.task},
          {"length", cell.length},
          {"depth", cell.depth ? Json(*cell.depth) : Json(nullptr)},
          {"plan", cell.plan},
          {"cases", cell.cases},
          {"score", cell.score},
          {"right", cell.right},
          {"low", cell.interval.low},
          {"high", cell.interval.high},
          {"prompt_tokens", cell.prompt_tokens},
          {"paired",
           {{"both", paired.both},
            {"only_first", paired.only_first},
            {"only_this", paired.only_this},
            {"neither", paired.neither},
            {"p_value", paired.p_value},
            {"difference", EstimateJson(paired.difference)}}}};
}

// The scores of the cell's cases, by which two runs are compared case by case.
Json ScoresOf(const TaskCell& cell, const std::vector<TaskAnswer>& answers) {
  Json scores = Json::array();
  for (const TaskAnswer& answer : answers)
    if (answer.task == cell.task && answer.length == cell.length && answer.depth == cell.depth &&
        answer.plan == cell.plan)
      scores.push_back({answer.number, answer.score});
  return scores;
}

Json CellsJson(const std::vector<TaskCell>& cells) {
  Json list = Json::array();
  for (const TaskCell& cell : cells) list.push_back(CellJson(cell));
  return list;
}

}  // namespace

Json LossRunJson(const ReportRun& run, const LossRequest& request, const LossResult& result) {
  Json json = RunJson("loss", run);
  json["prefill"] = request.prefill;
  json["decode"] = request.decode;
  json["windows_per_document"] = request.windows;
  json["seed"] = request.seed;
  json["interrupted"] = result.interrupted;
  json["documents"] = result.documents;
  json["windows"] = Json::array();
  for (const LossWindow& window : result.windows)
    json["windows"].push_back(
        {{"document", window.document}, {"begin", window.begin}, {"full_nats", window.full_nats}});
  json["full_nats"] = EstimateJson(result.full_nats);
  if (result.full_speed) json["full_speed"] = SpeedJson(*result.full_speed);
  json["plans"] = Json::array();
  for (const PlanLoss& plan : result.plans)
    json["plans"].push_back(PlanLossJson(plan, request.prefill + request.decode));
  return json;
}

Json FreeRunJson(const ReportRun& run, const FreeRunRequest& request, const FreeRunResult& result) {
  Json json = RunJson("free_run", run);
  json["prefill"] = request.prefill;
  json["generate"] = request.generate;
  json["windows_per_document"] = request.windows;
  json["temperature"] = request.sampling.temperature;
  json["seed"] = request.sampling.seed;
  json["interrupted"] = result.interrupted;
  json["documents"] = Json::array();
  for (const EvalDocument& document : request.documents) json["documents"].push_back(document.name);
  json["windows"] = Json::array();
  for (const LossWindow& window : result.windows)
    json["windows"].push_back({{"document", window.document}, {"begin", window.begin}});
  json["plans"] = Json::array();
  for (const FreeRunPlan& plan : result.plans) {
    Json entry = PlanJson(plan.plan, request.prefill + request.generate);
    entry["kl"] = EstimateJson(plan.kl);
    entry["length"] = EstimateJson(plan.length);
    entry["repetition"] = EstimateJson(plan.repetition);
    entry["kl_along"] = plan.kl_along;
    entry["texts"] = FreeRunTextsJson(plan.texts);
    entry["attention"] = AttentionJson(plan.attention);
    json["plans"].push_back(std::move(entry));
  }
  return json;
}

Json TaskRunJson(const ReportRun& run, const TaskResult& result) {
  Json json = RunJson("task", run);
  json["question"] = result.question;
  json["seed"] = result.seed;
  json["interrupted"] = result.interrupted;
  json["plans"] = result.plans;
  json["cells"] = CellsJson(result.cells);
  for (size_t i = 0; i < result.cells.size(); ++i)
    json["cells"][i]["scores"] = ScoresOf(result.cells[i], result.answers);
  json["totals"] = CellsJson(result.totals);
  return json;
}

const Json& At(const Json& object, const char* key) {
  static const Json kNull;
  if (!object.is_object()) return kNull;
  const auto found = object.find(key);
  return found == object.end() ? kNull : *found;
}

double Number(const Json& object, const char* key) {
  const Json& value = At(object, key);
  return value.is_number() ? value.get<double>() : kNan;
}

std::string Text(const Json& object, const char* key) {
  const Json& value = At(object, key);
  return value.is_string() ? value.get<std::string>() : std::string();
}

const Json& Array(const Json& object, const char* key) {
  static const Json kEmpty = Json::array();
  const Json& value = At(object, key);
  return value.is_array() ? value : kEmpty;
}

Estimate EstimateAt(const Json& object, const char* key) {
  const Json& estimate = At(object, key);
  return {Number(estimate, "value"), Number(estimate, "low"), Number(estimate, "high")};
}

double CacheBytes(const Json& speed) {
  return Number(speed, "scan_bytes") + Number(speed, "gather_bytes") + Number(speed, "full_bytes");
}

}  // namespace tidal::report
