#include "plan_reference.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/float16.h"

namespace tidal {
namespace {

double Stored(double value, CacheType type) {
  const auto narrow = static_cast<float>(value);
  switch (type) {
    case CacheType::kF32:
      return static_cast<double>(narrow);
    case CacheType::kF16:
      return static_cast<double>(F16ToF32(F32ToF16(narrow)));
    case CacheType::kBF16:
      return static_cast<double>(Bf16ToF32(F32ToBf16(narrow)));
    case CacheType::kQ8_0:
    case CacheType::kF8e4m3:
      break;
  }
  TIDAL_CHECK(false, "the reference does not quantise its cache");
  return 0;
}

double Cosine(const std::vector<double>& a, const std::vector<double>& b) {
  double ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    ab += a[i] * b[i];
    aa += a[i] * a[i];
    bb += b[i] * b[i];
  }
  return ab / std::sqrt(aa * bb);
}

double MeanSize(const std::vector<TokenMask>& sets) {
  double tokens = 0;
  for (const TokenMask& set : sets) tokens += std::count(set.begin(), set.end(), 1);
  return tokens / static_cast<double>(sets.size());
}

const AttentionPlan& VariantAt(const AttentionPlan& plan, int32_t kv_len) {
  const AttentionPlan* variant = &plan;
  for (const auto& [first, other] : plan.variants) {
    if (first <= kv_len) variant = &other;
  }
  return *variant;
}

// Softmax over the members of `set` (null: all), times the values.
void AttendHead(const ReferenceKv& kv, int32_t kv_head, const double* q, int32_t kv_len,
                const TokenMask* set, double* out) {
  std::vector<double> scores = ScoresOf(kv, kv_head, q, kv_len);
  for (size_t pos = 0; set != nullptr && pos < scores.size(); ++pos) {
    if ((*set)[pos] == 0) scores[pos] = -INFINITY;
  }
  const std::vector<double> probs = Softmax(scores);
  for (int32_t pos = 0; pos < kv_len; ++pos) {
    const double prob = probs[static_cast<size_t>(pos)];
    const double* value = kv.Value(kv_head, pos);
    for (int32_t i = 0; prob != 0 && i < kv.head_dim; ++i) out[i] += prob * value[i];
  }
}

}  // namespace

PlanReference::PlanReference(const ReferenceModel* model, int32_t max_tokens, CacheType k_type,
                             CacheType v_type)
    : model_(model), k_type_(k_type), v_type_(v_type) {
  const ModelConfig& config = model->config();
  for (int32_t layer = 0; layer < config.num_layers; ++layer)
    kv_.emplace_back(config.num_kv_heads, config.head_dim, max_tokens);
}

std::vector<double> PlanReference::Prefill(std::span<const int32_t> tokens) {
  const bool dense = dense_len_ == kv_len();
  std::vector<double> x;
  for (const int32_t token : tokens) {
    x = Forward(token, kv_len(), nullptr, {}, {}, nullptr);
    tokens_.push_back(token);
  }
  if (dense) dense_len_ = kv_len();
  return model_->Logits(x);
}

ReferenceRow PlanReference::Decode(int32_t token, const AttentionPlan& any_plan,
                                   std::span<const int32_t> newlines,
                                   const Adjudicator& adjudicate) {
  const int32_t pos = kv_len();
  const AttentionPlan& plan = VariantAt(any_plan, pos + 1);
  if (plan.correct.when == Correction::When::kRows && pos - dense_len_ >= plan.correct.rows)
    Correct();
  ReferenceRow row;
  row.full = full_next_ || plan.selects.empty() || pos + 1 < plan.below;
  guarded_rows_ += full_next_ ? 1 : 0;
  full_next_ = false;
  if (row.full && dense_len_ == pos) ++dense_len_;
  const std::vector<double> x =
      Forward(token, pos, row.full ? nullptr : &plan, newlines, adjudicate, &row);
  tokens_.push_back(token);
  row.logits = model_->Logits(x);
  for (const ReferenceSelection& selection : row.selections) {
    row.selected_mass = &selection == &row.selections[0] || std::isnan(selection.mass)
                            ? selection.mass
                            : std::min(row.selected_mass, selection.mass);
  }
  full_next_ = !row.full && row.selected_mass < plan.guard;
  return row;
}

std::vector<std::vector<double>> PlanReference::Correct() {
  std::vector<std::vector<double>> logits;
  for (; dense_len_ < kv_len(); ++dense_len_) {
    const int32_t token = tokens_[static_cast<size_t>(dense_len_)];
    logits.push_back(model_->Logits(Forward(token, dense_len_, nullptr, {}, {}, nullptr)));
  }
  kept_.clear();
  return logits;
}

void PlanReference::Truncate(int32_t num_tokens) {
  tokens_.resize(static_cast<size_t>(num_tokens));
  dense_len_ = std::min(dense_len_, num_tokens);
  full_next_ = false;
  kept_.clear();
}

std::vector<double> PlanReference::Forward(int32_t token, int32_t pos, const AttentionPlan* plan,
                                           std::span<const int32_t> newlines,
                                           const Adjudicator& adjudicate, ReferenceRow* row) {
  const ModelConfig& config = model_->config();
  std::vector<double> x = model_->Embedding(token);
  for (int32_t layer = 0; layer < config.num_layers; ++layer) {
    const ReferenceModel::Projected projected = model_->Project(layer, x, pos);
    ReferenceKv& kv = kv_[static_cast<size_t>(layer)];
    for (int32_t i = 0; i < config.num_kv_heads * config.head_dim; ++i) {
      const int32_t kv_head = i / config.head_dim;
      const int32_t channel = i % config.head_dim;
      kv.Channel(kv_head, channel)[pos] = Stored(projected.k[static_cast<size_t>(i)], k_type_);
      kv.Value(kv_head, pos)[channel] = Stored(projected.v[static_cast<size_t>(i)], v_type_);
    }
    std::vector<const TokenMask*> sets(static_cast<size_t>(config.num_heads), nullptr);
    if (plan != nullptr) {
      const ChoiceInput input{.plan = plan,
                              .num_heads = config.num_heads,
                              .kv_len = pos + 1,
                              .q = projected.q.data(),
                              .kv = &kv,
                              .newlines = newlines};
      if (plan->selects[static_cast<size_t>(layer)] != 0)
        Select(*plan, input, layer, adjudicate, row);
      sets = SetsOfHeads(*plan, layer, *row);
    }
    LayerRole role = LayerRole::kFull;
    if (sets[0] != nullptr)
      role = row->selections.back().layer == layer ? LayerRole::kSelection : LayerRole::kReuse;
    if (row != nullptr) {
      row->tokens_attended[static_cast<int>(role)] +=
          role == LayerRole::kFull ? pos + 1 : MeanSize(row->selections.back().choice.sets);
      ++row->layers[static_cast<int>(role)];
    }
    std::vector<double> attended(projected.q.size(), 0.0);
    for (int32_t head = 0; head < config.num_heads; ++head) {
      const int64_t offset = int64_t{head} * config.head_dim;
      AttendHead(kv, head / config.gqa_ratio(), projected.q.data() + offset, pos + 1,
                 sets[static_cast<size_t>(head)], attended.data() + offset);
    }
    model_->AddAttention(layer, attended, &x);
    model_->AddFeedForward(layer, &x);
  }
  return x;
}

void PlanReference::Select(const AttentionPlan& plan, const ChoiceInput& input, int32_t layer,
                           const Adjudicator& adjudicate, ReferenceRow* row) {
  ReferenceSelection selection{
      .layer = layer, .fresh = true, .input = input, .choice = {}, .mass = 0};
  const int64_t q_dim = int64_t{input.num_heads} * input.kv->head_dim;
  const std::vector<double> q(input.q, input.q + q_dim);
  const auto kept = kept_.find(layer);
  const bool by_cosine = plan.refresh_cosine <= 1;
  const std::vector<std::vector<double>> scores = ScoresByScorer(input);
  if (by_cosine && kept != kept_.end() && Cosine(q, kept->second.q) >= plan.refresh_cosine) {
    selection.fresh = false;
    selection.choice.sets = kept->second.sets;
    for (TokenMask& set : selection.choice.sets) set.resize(static_cast<size_t>(input.kv_len), 1);
  } else {
    selection.choice = ChooseSets(input, scores);
  }
  if (adjudicate) {
    std::vector<TokenMask> sets = selection.choice.sets;
    adjudicate(selection, &sets);
    selection.choice.sets = std::move(sets);
  }
  selection.mass = SelectedMass(scores, selection.choice.sets);
  if (by_cosine) {
    KeptChoice& state = kept_[layer];
    state.sets = selection.choice.sets;
    if (selection.fresh) state.q = q;
  }
  selection.input.q = nullptr;
  selection.input.kv = nullptr;
  row->selections.push_back(std::move(selection));
}

std::vector<const TokenMask*> PlanReference::SetsOfHeads(const AttentionPlan& plan, int32_t layer,
                                                         const ReferenceRow& row) const {
  const auto num_heads = static_cast<size_t>(model_->config().num_heads);
  const auto gqa_ratio = static_cast<size_t>(model_->config().gqa_ratio());
  std::vector<const TokenMask*> of_heads(num_heads, nullptr);
  if (plan.reads_all[static_cast<size_t>(layer)] != 0) return of_heads;
  TIDAL_CHECK(!row.selections.empty(), "layer {} has no set to reuse", layer);
  const ReferenceSelection& latest = row.selections.back();
  const std::vector<TokenMask>& sets = latest.choice.sets;
  const bool reuses = latest.layer != layer;
  for (size_t head = 0; head < num_heads; ++head) {
    size_t set = head * sets.size() / num_heads;
    if (reuses && !plan.headmap.empty() && !plan.headmap[static_cast<size_t>(layer)].empty())
      set = static_cast<size_t>(plan.headmap[static_cast<size_t>(layer)][head / gqa_ratio]);
    of_heads[head] = &sets[set];
  }
  return of_heads;
}

}  // namespace tidal
