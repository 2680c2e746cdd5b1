// Attention plans on real models, row by row, against those of a PyTorch program that masks full
// attention (tests/data/oracle/*.plans.json: for 33 plans the log-probability of the next token
// after each decoded row, and the row's selected mass).

#include <cmath>
#include <fstream>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "engine_testing.h"

namespace tidal {
namespace {

struct PlanOracle {
  int32_t prefill = 0;
  std::vector<TokenId> tokens;  // prefilled, decoded, and one more
  struct Rows {
    std::string plan;
    std::vector<double> logprob;
    std::vector<double> selected_mass;  // NaN where there is none
  };
  std::vector<Rows> plans;
};

PlanOracle ReadOracle(const std::string& model) {
  std::ifstream file(TIDAL_SOURCE_DIR "/tests/data/oracle/" + model + ".plans.json");
  const auto json = nlohmann::ordered_json::parse(file);
  PlanOracle oracle{.prefill = json["prefill"], .tokens = json["tokens"], .plans = {}};
  for (const auto& [plan, logprob] : json["logprob"].items()) {
    PlanOracle::Rows rows{.plan = plan, .logprob = logprob, .selected_mass = {}};
    for (const auto& mass : json["selected_mass"][plan])
      rows.selected_mass.push_back(mass.is_null() ? NAN : mass.get<double>());
    oracle.plans.push_back(std::move(rows));
  }
  return oracle;
}

// Of the absolute differences of log-probabilities, and of the selected mass.
struct Bounds {
  double mean;
  double worst;
  double reuse_mean;  // plans whose later layers reuse few choices, or that keep a choice for rows
  double page_mean;   // where pages are scored, a near tie exchanges a whole page
  double share_mean;  // sets of few tokens by their share of the probability
  double share_worst;
  double mass_mean;
};
// Plain float32: what is left is the order of sums, and tokens with nearly equal scores that are
// chosen the other way round, which moves what a row attends by one token of little weight. A code
// of the index that lies between two falls either way, and stays so as long as its page lasts: the
// sets of twilight, a handful of tokens for a head, feel each of them (in double precision the
// reference of these tests is 0.0017 away on SmolLM2, the engine 0.006).
constexpr Bounds kF32{0.005, 0.1, 0.005, 0.05, 0.01, 0.2, 0.002};
// 8-bit activations, an f16 cache and a scan with 8-bit queries; full rows are 0.06 off on SmolLM2.
constexpr Bounds kFastSmollm2{0.1, INFINITY, 0.1, 0.25, 0.1, INFINITY, 0.02};
// Full rows are 0.03 off. Plans whose two layers choose a hundred tokens for all others, with none
// always kept, are chaotic on this model: keys rounded to f16 alone, with float32 everywhere else,
// move the paper's plan with 64 tokens by 0.145 (8-bit activations: 0.18), the worst plan by 0.23.
constexpr Bounds kFastQwen{0.1, INFINITY, 0.25, 0.25, 0.1, INFINITY, 0.02};

struct Difference {
  double sum = 0;
  double worst = 0;
  int64_t count = 0;
  void Add(double a, double b) {
    const double difference = std::abs(a - b);
    sum += difference;
    worst = std::isnan(difference) ? INFINITY : std::max(worst, difference);
    ++count;
  }
  double mean() const { return count == 0 ? 0 : sum / static_cast<double>(count); }
};

// An engine whose cache holds the prefilled tokens: each plan decodes after them.
class Decoder {
 public:
  Decoder(const std::string& path, Precision precision, int32_t index_bits,
          const PlanOracle& oracle)
      : oracle_(oracle) {
    const CacheType cache = precision == Precision::kF32 ? CacheType::kF32 : CacheType::kF16;
    EngineOptions options{.model_path = path,
                          .device = TestDevice(),
                          .ctx_size = 2048,
                          .precision = precision,
                          .k_cache_type = cache,
                          .v_cache_type = cache};
    options.index_layers = IndexLayers::kAll;
    options.index_bits = index_bits;
    options.ignore_sidecar = true;  // the reference program reads none, nor what is built in
    auto engine = Engine::Create(options, nullptr);
    EXPECT_TRUE(engine.ok()) << engine.status().message();
    engine_ = std::move(engine).value();
    sequence_ = engine_->OpenSequence().value();
    Request prefill;
    prefill.prompt.assign(oracle.tokens.begin(), oracle.tokens.begin() + oracle.prefill);
    prefill.max_tokens = 0;
    EXPECT_TRUE(engine_->Submit(sequence_, prefill).ok());
    RunToEnd(engine_.get());
  }

  void Compare(const PlanOracle::Rows& rows, Difference* logprobs, Difference* masses) {
    const Result<PlanSpec> spec = PlanSpec::Parse(rows.plan);
    ASSERT_TRUE(spec.ok()) << spec.status().message();
    const Result<AttentionPlan> plan = engine_->ResolvePlan(*spec);
    ASSERT_TRUE(plan.ok()) << plan.status().message();
    Request request;
    request.prompt = oracle_.tokens;
    request.max_tokens = 0;
    request.attention = *plan;
    request.score_top = 0;
    request.score_prefill = request.score_from = oracle_.prefill;
    ASSERT_TRUE(engine_->Submit(sequence_, request).ok());
    size_t row = 0;
    for (const Event& event : RunToEnd(engine_.get())) {
      if (event.kind == Event::Kind::kFinished) {
        EXPECT_EQ(event.timings.reused_tokens, oracle_.prefill);
      }
      if (event.kind != Event::Kind::kScore || row == rows.logprob.size()) continue;
      ASSERT_EQ(event.done, oracle_.prefill + static_cast<int32_t>(row));
      logprobs->Add(static_cast<double>(event.logprob), rows.logprob[row]);
      if (std::isnan(rows.selected_mass[row])) {
        EXPECT_TRUE(std::isnan(event.selected_mass));
      } else {
        masses->Add(static_cast<double>(event.selected_mass), rows.selected_mass[row]);
      }
      ++row;
    }
    EXPECT_EQ(row, rows.logprob.size());
  }

 private:
  const PlanOracle& oracle_;
  std::unique_ptr<Engine> engine_;
  SequenceId sequence_ = 0;
};

void CheckPlans(const std::string& model, Precision precision, const Bounds& bounds) {
  const auto path = FindRealModel(model);
  if (!path) GTEST_SKIP() << model << " is not there";
  const PlanOracle oracle = ReadOracle(model);
  ASSERT_EQ(oracle.plans.size(), 33u);
  std::printf("%s, precision %s: differences of log-probabilities and of selected mass\n",
              model.c_str(), NameOf(precision));
  for (const int32_t bits : {4, 2}) {
    Decoder decoder(*path, precision, bits, oracle);
    for (const PlanOracle::Rows& rows : oracle.plans) {
      if ((rows.plan.find("index2") != std::string::npos) != (bits == 2)) continue;
      SCOPED_TRACE(rows.plan);
      Difference logprobs, masses;
      decoder.Compare(rows, &logprobs, &masses);
      std::printf("  mean %.5f worst %.4f, mass mean %.5f worst %.4f  %s\n", logprobs.mean(),
                  logprobs.worst, masses.mean(), masses.worst, rows.plan.c_str());
      const bool scores_pages = rows.plan.starts_with("quest");
      const bool by_share = rows.plan.starts_with("twilight");
      const bool reuses = rows.plan.find("select=") != std::string::npos ||
                          rows.plan.find("refresh=cos") != std::string::npos;
      EXPECT_LE(logprobs.mean(), scores_pages ? bounds.page_mean
                                 : by_share   ? bounds.share_mean
                                 : reuses     ? bounds.reuse_mean
                                              : bounds.mean);
      if (!scores_pages) {
        EXPECT_LE(logprobs.worst, by_share ? bounds.share_worst : bounds.worst);
      }
      EXPECT_LE(masses.mean(), bounds.mass_mean);
    }
  }
}

TEST(PlanOracle, Smollm2Float32) { CheckPlans("smollm2-135m", Precision::kF32, kF32); }
TEST(PlanOracle, Smollm2Fast) { CheckPlans("smollm2-135m", Precision::kFast, kFastSmollm2); }
TEST(PlanOracle, Qwen0_5BFloat32) { CheckPlans("qwen2.5-coder-0.5b", Precision::kF32, kF32); }
TEST(PlanOracle, Qwen0_5BFast) { CheckPlans("qwen2.5-coder-0.5b", Precision::kFast, kFastQwen); }

}  // namespace
}  // namespace tidal
