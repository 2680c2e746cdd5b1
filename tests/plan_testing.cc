#include "plan_testing.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <gtest/gtest.h>
#include <numeric>
#include <random>
#include <unistd.h>

#include "attention/plan_spec.h"
#include "engine/engine_device.h"
#include "engine_testing.h"

namespace tidal {

RandomTestModel::RandomTestModel(const GgufWriter& file) {
  const std::string path = testing::TempDir() + "/tidal_plan_" + std::to_string(::getpid()) + "_" +
                           std::to_string(reinterpret_cast<uintptr_t>(this)) + ".gguf";
  const Status written = file.WriteFile(path);
  EXPECT_TRUE(written.ok()) << written.message();
  Result<Model> model = Model::Load(path);
  std::filesystem::remove(path);  // the mapping stays
  EXPECT_TRUE(model.ok()) << model.status().message();
  model_ = std::make_unique<Model>(std::move(model).value());
  reference_ = std::make_unique<ReferenceModel>(*model_);
}

TestModelSpec SmallModel(int32_t num_layers, int32_t num_kv_heads, int32_t gqa_ratio,
                         int32_t head_dim, uint64_t seed) {
  TestModelSpec spec;
  spec.architecture = seed % 2 == 0 ? "llama" : "qwen2";
  spec.num_layers = num_layers;
  spec.model_dim = 64;
  spec.ffn_dim = 96;
  spec.num_heads = num_kv_heads * gqa_ratio;
  spec.num_kv_heads = num_kv_heads;
  spec.head_dim = head_dim;
  spec.trained_seq_len = 8192;
  spec.seed = seed;
  return spec;
}

AttentionPlan PlanFor(const ModelConfig& config, const std::string& text) {
  const PlanModel model{.num_layers = config.num_layers,
                        .num_heads = config.num_heads,
                        .num_kv_heads = config.num_kv_heads};
  const Result<PlanSpec> spec = PlanSpec::Parse(text);
  EXPECT_TRUE(spec.ok()) << spec.status().message();
  if (!spec.ok()) return {};
  Result<AttentionPlan> plan = spec->Resolve(model);
  EXPECT_TRUE(plan.ok()) << plan.status().message();
  return plan.ok() ? std::move(plan).value() : AttentionPlan();
}

// Turns slots back into positions.
class PlanHarness::Recorder : public StepObserver {
 public:
  Recorder(const PlanHarness& harness, const StepBatch& batch, std::vector<DecodedRow>* rows)
      : harness_(harness), batch_(batch), rows_(rows) {}

  void OnChosen(int32_t layer, int32_t sequence, bool fresh, float selected_mass,
                std::span<const SlotSet> sets) override {
    const StepSequence& entry = batch_.sequences[static_cast<size_t>(sequence)];
    const std::vector<PageId>& pages = harness_.pages(entry.owner);
    SeenSelection selection{layer, fresh, selected_mass, {}};
    for (const SlotSet& set : sets) {
      TokenMask mask(static_cast<size_t>(entry.kv_len), 0);
      for (const int32_t slot : std::span(set.slots, static_cast<size_t>(set.count))) {
        const auto page = std::find(pages.begin(), pages.end(), slot / kPageSize);
        const auto pos = (page - pages.begin()) * kPageSize + slot % kPageSize;
        ASSERT_LT(pos, entry.kv_len) << "slot " << slot << " is not of a visible token";
        EXPECT_EQ(mask[static_cast<size_t>(pos)], 0) << "position " << pos << " is there twice";
        mask[static_cast<size_t>(pos)] = 1;
      }
      selection.sets.push_back(std::move(mask));
    }
    (*rows_)[static_cast<size_t>(sequence)].selections.push_back(std::move(selection));
  }

 private:
  const PlanHarness& harness_;
  const StepBatch& batch_;
  std::vector<DecodedRow>* rows_;
};

PlanHarness::PlanHarness(const Model& model, const HarnessOptions& options)
    : vocab_size_(model.config().vocab_size), options_(options) {
  const auto pages_each = static_cast<int32_t>(CeilDiv(options.max_tokens, kPageSize));
  const int32_t num_pages = pages_each * options.max_sequences;
  EngineOptions engine;
  engine.device = TestDevice();
  engine.num_threads = options.num_threads;
  engine.isa = options.isa;
  engine.precision = options.precision;
  engine.k_cache_type = options.k_type;
  engine.v_cache_type = options.v_type;
  engine.max_sequences = options.max_sequences;
  KeyIndexChoice index;
  if (options.has_index) index.layers.assign(static_cast<size_t>(model.config().num_layers), 1);
  index.bits = options.index_bits;
  auto executor =
      CreateExecutor(engine, model, index, num_pages, options.max_batch_tokens, nullptr);
  EXPECT_TRUE(executor.ok()) << executor.status().message();
  executor_ = std::move(executor).value();
  transformer_ = std::make_unique<Transformer>(executor_.get(), model.config().num_layers,
                                               vocab_size_, options.max_sequences);
  std::vector<PageId> ids(static_cast<size_t>(num_pages));
  std::iota(ids.begin(), ids.end(), 0);
  std::mt19937 random(7);
  if (options.shuffled) std::shuffle(ids.begin(), ids.end(), random);
  for (int32_t i = 0; i < options.max_sequences; ++i)
    pages_.emplace_back(ids.begin() + i * pages_each, ids.begin() + (i + 1) * pages_each);
  kv_len_.resize(pages_.size(), 0);
  prepared_.resize(pages_.size(), nullptr);
}

std::vector<float> PlanHarness::Prefill(int32_t sequence, std::span<const int32_t> tokens) {
  std::vector<float> last;
  const auto chunk = static_cast<size_t>(options_.max_batch_tokens);
  int32_t& kv_len = kv_len_[static_cast<size_t>(sequence)];
  for (size_t begin = 0; begin < tokens.size(); begin += chunk) {
    const auto part = tokens.subspan(begin, std::min(chunk, tokens.size() - begin));
    const auto q_len = static_cast<int32_t>(part.size());
    batch_.Clear();
    batch_.observer = nullptr;
    batch_.tokens.assign(part.begin(), part.end());
    for (int32_t i = 0; i < q_len; ++i) batch_.positions.push_back(kv_len + i);
    batch_.sequences.push_back({.row_begin = 0,
                                .q_len = q_len,
                                .kv_len = kv_len + q_len,
                                .page_table = pages(sequence).data(),
                                .owner = sequence,
                                .plan = nullptr,
                                .state = sequence});
    batch_.logit_rows = {q_len - 1};
    const Status status = transformer_->Forward(batch_, [&](size_t, std::span<const float> logits) {
      last.assign(logits.begin(), logits.end());
    });
    EXPECT_TRUE(status.ok()) << status.message();
    kv_len += q_len;
  }
  return last;
}

void PlanHarness::Prepare(int32_t sequence, const AttentionPlan* plan) {
  const AttentionPlan*& prepared = prepared_[static_cast<size_t>(sequence)];
  if (plan == nullptr || plan == prepared) return;
  const Status status = executor_->PreparePlan(sequence, *plan);
  EXPECT_TRUE(status.ok()) << status.message();
  prepared = plan;
}

void PlanHarness::AddRow(const Row& row) {
  int32_t& kv_len = kv_len_[static_cast<size_t>(row.sequence)];
  const auto q_len = static_cast<int32_t>(row.more.size()) + 1;
  StepSequence entry{.row_begin = batch_.num_rows(),
                     .q_len = q_len,
                     .kv_len = kv_len + q_len,
                     .page_table = pages(row.sequence).data(),
                     .owner = row.sequence,
                     .state = row.sequence,
                     .forget_sets = row.forget_sets,
                     .wants_mass = true,
                     .keep = row.newlines.data(),
                     .num_keep = static_cast<int32_t>(row.newlines.size())};
  const AttentionPlan* plan = row.plan == nullptr ? nullptr : &row.plan->At(entry.kv_len);
  if (plan != nullptr && !plan->RunsFull(entry.kv_len)) entry.plan = plan;
  batch_.tokens.push_back(row.token);
  batch_.tokens.insert(batch_.tokens.end(), row.more.begin(), row.more.end());
  for (; kv_len < entry.kv_len; ++kv_len) batch_.positions.push_back(kv_len);
  batch_.logit_rows.push_back(batch_.num_rows() - 1);
  batch_.sequences.push_back(entry);
}

std::vector<DecodedRow> PlanHarness::RunDecode(const std::vector<Row>& rows, bool observe) {
  for (const Row& row : rows) Prepare(row.sequence, row.plan);
  std::vector<DecodedRow> decoded(rows.size());
  Recorder recorder(*this, batch_, &decoded);
  batch_.Clear();
  batch_.observer = observe ? &recorder : nullptr;
  for (const Row& row : rows) AddRow(row);
  const Status status = transformer_->Forward(batch_, [&](size_t i, std::span<const float> logits) {
    decoded[i].logits.assign(logits.begin(), logits.end());
  });
  EXPECT_TRUE(status.ok()) << status.message();
  const std::span<const RowReport> reports = executor_->reports();
  EXPECT_EQ(reports.size(), rows.size());
  for (size_t i = 0; i < rows.size(); ++i) decoded[i].report = reports[i];
  return decoded;
}

std::vector<DecodedRow> PlanHarness::Decode(const std::vector<Row>& rows) {
  return RunDecode(rows, true);
}

std::vector<DecodedRow> PlanHarness::DecodeUnseen(const std::vector<Row>& rows) {
  return RunDecode(rows, false);
}

void PlanHarness::Truncate(int32_t sequence, int32_t num_tokens) {
  kv_len_[static_cast<size_t>(sequence)] = num_tokens;
  prepared_[static_cast<size_t>(sequence)] = nullptr;
}

int32_t PlanHarness::SharePages(int32_t from, int32_t to, int32_t num_tokens) {
  const int32_t whole = num_tokens / kPageSize;
  std::copy_n(pages(from).begin(), whole, pages_[static_cast<size_t>(to)].begin());
  kv_len_[static_cast<size_t>(to)] = whole * kPageSize;
  return whole * kPageSize;
}

PlanTolerance F32Tolerance(const AttentionPlan& plan) {
  // A key that lies between two codes of the index may get either, which moves its score by
  // q * step / sqrt(head_dim): about 3 * 0.4 / 8 with 4 bits, five times that with 2.
  const double code = plan.scorer == Scorer::kIndex4 ? 1 : plan.scorer == Scorer::kIndex2 ? 5 : 0;
  return {.logits = kF32Logits, .mass = 1e-5 + 2e-3 * code, .score = 1e-4 + 0.15 * code};
}

double WorstDifference(const std::vector<float>& a, const std::vector<double>& b) {
  if (a.size() != b.size()) return INFINITY;
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(static_cast<double>(a[i]) - b[i]);
    worst = std::isnan(difference) ? INFINITY : std::max(worst, difference);
  }
  return worst;
}

namespace {

// Tokens of one set that are not in the other.
std::vector<size_t> OnlyIn(const TokenMask& a, const TokenMask& b) {
  std::vector<size_t> only;
  for (size_t pos = 0; pos < a.size(); ++pos) {
    if (a[pos] != 0 && b[pos] == 0) only.push_back(pos);
  }
  return only;
}

// Sets may differ where what decides is nearly equal. Wherever tokens were taken the other way
// round, their values are.
void CheckSet(const TokenMask& seen, const TokenMask& expected, const std::vector<double>* values,
              const ReferenceSelection& selection, double tolerance) {
  const std::vector<size_t> missing = OnlyIn(expected, seen);
  const std::vector<size_t> extra = OnlyIn(seen, expected);
  const AttentionPlan& plan = *selection.input.plan;
  const std::string where = "layer " + std::to_string(selection.layer) + " at kv_len " +
                            std::to_string(selection.input.kv_len);
  ASSERT_NE(values, nullptr) << where << ": " << missing.size() << " tokens are missing, "
                             << extra.size() << " too many";
  if (plan.mass > 0) {
    // A share that is reached by a hair's breadth takes a token more or less.
    ASSERT_LE(missing.size() + extra.size(), 3u) << where;
  } else if (plan.page == 1) {
    ASSERT_EQ(missing.size(), extra.size()) << where;
  }
  const bool are_probabilities = plan.merge != Merge::kScore && HasMass(plan.scorer);
  for (const size_t a : missing) {
    for (const size_t b : extra) {
      const double scale =
          are_probabilities ? std::max((*values)[a], (*values)[b]) : 1 + std::abs((*values)[a]);
      ASSERT_LE(std::abs((*values)[a] - (*values)[b]), tolerance * scale)
          << where << ": " << b << " was taken, not " << a;
    }
  }
}

void CompareReports(const RowReport& report, const ReferenceRow& row, const AttentionPlan& plan,
                    double mass_tolerance) {
  if (std::isnan(row.selected_mass)) {
    EXPECT_TRUE(std::isnan(report.selected_mass));
  } else {
    EXPECT_NEAR(static_cast<double>(report.selected_mass), row.selected_mass, mass_tolerance);
  }
  for (int role = 0; role < kNumLayerRoles; ++role) {
    EXPECT_EQ(report.layers[role], row.layers[role]) << NameOf(static_cast<LayerRole>(role));
    if (!plan.headmap.empty()) continue;
    EXPECT_NEAR(report.tokens_attended[role], row.tokens_attended[role],
                1e-6 * (1 + row.tokens_attended[role]))
        << NameOf(static_cast<LayerRole>(role));
  }
}

}  // namespace

void CompareWithReference(const DecodedRow& decoded, const AttentionPlan& plan, int32_t token,
                          const PlanTolerance& tolerance, PlanReference* reference,
                          PlanComparison* comparison, std::span<const int32_t> newlines) {
  size_t next = 0;
  const auto adjudicate = [&](const ReferenceSelection& selection, std::vector<TokenMask>* sets) {
    ASSERT_LT(next, decoded.selections.size()) << "layer " << selection.layer << " did not choose";
    const SeenSelection& seen = decoded.selections[next++];
    ASSERT_EQ(seen.layer, selection.layer);
    ASSERT_EQ(seen.fresh, selection.fresh) << "layer " << selection.layer;
    ASSERT_EQ(seen.sets.size(), sets->size());
    for (size_t set = 0; set < sets->size(); ++set) {
      ++comparison->sets;
      if (seen.sets[set] == (*sets)[set]) continue;
      ++comparison->sets_that_differ;
      const bool has_values = set < selection.choice.values.size();
      CheckSet(seen.sets[set], (*sets)[set], has_values ? &selection.choice.values[set] : nullptr,
               selection, tolerance.score);
    }
    *sets = seen.sets;
  };
  const ReferenceRow row = reference->Decode(token, plan, newlines, adjudicate);
  EXPECT_EQ(next, decoded.selections.size());
  for (size_t i = 0; i < row.selections.size() && i < decoded.selections.size(); ++i) {
    const double mass = row.selections[i].mass;
    const auto seen = static_cast<double>(decoded.selections[i].mass);
    if (std::isnan(mass)) {
      EXPECT_TRUE(std::isnan(seen));
      continue;
    }
    EXPECT_NEAR(seen, mass, tolerance.mass) << "layer " << row.selections[i].layer;
    comparison->worst_mass = std::max(comparison->worst_mass, std::abs(seen - mass));
  }
  CompareReports(decoded.report, row, plan, tolerance.mass);
  const double worst = WorstDifference(decoded.logits, row.logits);
  EXPECT_LE(worst, tolerance.logits);
  comparison->worst_logit = std::max(comparison->worst_logit, worst);
}

void DecodeAndCompare(PlanHarness* harness, int32_t sequence, const AttentionPlan& plan,
                      std::span<const int32_t> tokens, const PlanTolerance& tolerance,
                      PlanReference* reference, PlanComparison* comparison) {
  for (const int32_t token : tokens) {
    SCOPED_TRACE("row at " + std::to_string(harness->kv_len(sequence)));
    const DecodedRow decoded = harness->Decode(sequence, token, &plan);
    CompareWithReference(decoded, plan, token, tolerance, reference, comparison);
  }
}

void ExpectSameLogits(const std::vector<float>& a, const std::vector<float>& b) {
  if (TestDevice() == "cpu") {
    EXPECT_EQ(a, b);
    return;
  }
  ASSERT_EQ(a.size(), b.size());
  float largest = 0;
  for (const float x : b) largest = std::max(largest, std::abs(x));
  const float tolerance = largest / 256;
  for (size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], tolerance) << "token " << i;
}

}  // namespace tidal
