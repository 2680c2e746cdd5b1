// Choices on a device against plain double-precision code.
#include "cuda/selection.h"

#include <gtest/gtest.h>
#include <set>
#include <string>

#include "cuda/selection_test_bed.h"

namespace tidal {
namespace {

class CudaSelectionTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!HasCudaDevice()) GTEST_SKIP() << "NOT TESTED: there is no CUDA device here";
  }
};

// Relative error of a product: float32 sums of some hundred terms; with the fast precision the
// query times the step is rounded to 11 bits, and probabilities are.
double EpsilonOf(const BedShape& shape) {
  return shape.precision == Precision::kF32 ? 0x1p-20 : 0x1p-10;
}

double MassOf(const ReferenceValues& ref, const BedSequence& sequence) {
  double mass = 0;
  for (size_t set = 0; set < sequence.positions.size(); ++set)
    for (const int32_t pos : sequence.positions[set])
      mass += ref.shares[set][static_cast<size_t>(pos)];
  return mass / static_cast<double>(sequence.positions.size());
}

// No unit that was left out is better than one that was taken, by more than rounding.
void ExpectBest(const Doubles& values, const std::vector<uint8_t>& always,
                const std::vector<uint8_t>& chosen, bool is_probability, double score_error) {
  double least = kInfinity;
  double most = -kInfinity;
  for (size_t i = 0; i < values.size(); ++i) {
    if (always[i] != 0) continue;
    if (chosen[i] != 0) least = std::min(least, values[i]);
    if (chosen[i] == 0) most = std::max(most, values[i]);
  }
  if (most == -kInfinity || least == kInfinity) return;  // all were taken, or none
  // A score off by e makes a probability off by a factor of e^e, of the value and of all others.
  const double slack =
      is_probability ? most * (std::exp(4 * score_error) - 1) + 1e-7 : 2 * score_error;
  EXPECT_LE(most, least + slack);
}

void CheckPages(const BedSequence& sequence, const ReferenceValues& ref, size_t set,
                const std::vector<uint8_t>& mask) {
  const ReferenceInput& in = sequence.input;
  const int32_t page = sequence.plan.page;
  const int32_t units = (in.kv_len + page - 1) / page;
  std::vector<uint8_t> always(static_cast<size_t>(units), 0);
  std::vector<uint8_t> chosen(static_cast<size_t>(units), 0);
  always.back() = 1;
  for (int32_t pos = 0; pos < in.kv_len; ++pos) {
    const auto unit = static_cast<size_t>(pos / page);
    always[unit] |= ref.always[static_cast<size_t>(pos)];
    chosen[unit] |= mask[static_cast<size_t>(pos)];
  }
  for (int32_t pos = 0; pos < in.kv_len; ++pos)
    ASSERT_EQ(mask[static_cast<size_t>(pos)], chosen[static_cast<size_t>(pos / page)]) << pos;
  const int32_t wanted = std::min(std::max(1, ref.budget / page), units);
  const auto count = std::accumulate(chosen.begin(), chosen.end(), 0);
  EXPECT_EQ(count, wanted);
  const auto num_always = std::accumulate(always.begin(), always.end(), 0);
  if (num_always >= wanted) {  // the first of those
    int32_t left = wanted;
    for (size_t unit = 0; unit < always.size(); ++unit) {
      const bool expected = always[unit] != 0 && left-- > 0;
      EXPECT_EQ(chosen[unit] != 0, expected) << unit;
    }
    return;
  }
  for (size_t unit = 0; unit < always.size(); ++unit) EXPECT_GE(chosen[unit], always[unit]) << unit;
  ExpectBest(ref.values[set], always, chosen,
             sequence.plan.merge != Merge::kScore && HasProbabilities(sequence.plan.scorer),
             ref.score_error);
}

void CheckMassBudget(const BedSequence& sequence, const ReferenceValues& ref, size_t set,
                     const std::vector<uint8_t>& mask) {
  const AttentionPlan& plan = sequence.plan;
  double have = 0;
  double least_value = kInfinity;
  int32_t size = 0;
  for (size_t pos = 0; pos < mask.size(); ++pos) {
    if (mask[pos] == 0) continue;
    ++size;
    have += ref.shares[set][pos];
    if (ref.always[pos] == 0) least_value = std::min(least_value, ref.values[set][pos]);
  }
  // What the token that was taken last adds: of those that may be the last by their value, the one
  // with the largest share (by maximum, values are not shares).
  double least = 0;
  for (size_t pos = 0; pos < mask.size(); ++pos) {
    const double limit = least_value + std::abs(least_value) * 4 * ref.score_error + 1e-7;
    if (mask[pos] != 0 && ref.always[pos] == 0 && ref.values[set][pos] <= limit)
      least = std::max(least, ref.shares[set][pos]);
  }
  const double slack = 4 * ref.score_error + 1e-5;
  const bool is_all = size == sequence.input.kv_len;
  const bool at_ceil = plan.ceil != 0 && size >= plan.ceil;
  if (!is_all && !at_ceil) {
    EXPECT_GE(have, plan.mass - slack);
    EXPECT_GE(size, plan.floor);
  }
  if (size == ref.num_always) return;  // nothing was added
  EXPECT_TRUE(plan.ceil == 0 || size <= plan.ceil) << size;
  EXPECT_TRUE(size <= plan.floor || have - least < plan.mass + slack) << have << " - " << least;
}

// The sets of a fresh choice.
void CheckSets(const BedSequence& sequence, const BedShape& shape) {
  ReferenceInput in = sequence.input;
  in.plan = &sequence.plan;
  const AttentionPlan& plan = sequence.plan;
  const ReferenceValues ref = ValuesOf(in, EpsilonOf(shape));
  ASSERT_EQ(static_cast<int32_t>(sequence.positions.size()), NumSetsOf(in));
  double tokens = 0;
  for (size_t set = 0; set < sequence.positions.size(); ++set) {
    SCOPED_TRACE("set " + std::to_string(set));
    const std::vector<int32_t>& positions = sequence.positions[set];
    ASSERT_FALSE(positions.empty());
    std::vector<uint8_t> mask(static_cast<size_t>(in.kv_len), 0);
    for (size_t i = 0; i < positions.size(); ++i) {
      ASSERT_GE(positions[i], 0) << i;
      ASSERT_LT(positions[i], in.kv_len) << i;
      ASSERT_TRUE(i == 0 || positions[i] > positions[i - 1]) << i;
      mask[static_cast<size_t>(positions[i])] = 1;
    }
    tokens += static_cast<double>(positions.size());
    const bool by_rank = plan.merge == Merge::kRank && HasProbabilities(plan.scorer);
    if (plan.page > 1 && plan.scorer != Scorer::kNone && !by_rank) {
      CheckPages(sequence, ref, set, mask);
      continue;
    }
    for (size_t pos = 0; pos < mask.size(); ++pos) ASSERT_GE(mask[pos], ref.always[pos]) << pos;
    if (plan.scorer == Scorer::kNone) {
      EXPECT_EQ(static_cast<int32_t>(positions.size()), ref.num_always);
      continue;
    }
    if (plan.mass > 0) {
      CheckMassBudget(sequence, ref, set, mask);
    } else {
      EXPECT_EQ(static_cast<int32_t>(positions.size()),
                std::max(std::min(ref.budget, in.kv_len), ref.num_always));
    }
    if (by_rank) {
      const std::vector<uint8_t> expected = RankedSet(in, ref, static_cast<int32_t>(set));
      int32_t others = 0;
      for (size_t pos = 0; pos < mask.size(); ++pos) others += mask[pos] != expected[pos] ? 1 : 0;
      // Near ties of scores change places; by float32 hardly any do.
      const int32_t allowed = shape.precision == Precision::kF32 ? 2 : 2 + ref.budget / 10;
      EXPECT_LE(others, allowed);
      continue;
    }
    ExpectBest(ref.values[set], ref.always, mask,
               HasProbabilities(plan.scorer) && plan.merge != Merge::kScore, ref.score_error);
  }
  EXPECT_FLOAT_EQ(sequence.report.tokens,
                  static_cast<float>(tokens / static_cast<double>(sequence.positions.size())));
  if (HasProbabilities(plan.scorer)) {
    EXPECT_NEAR(sequence.report.selected_mass, MassOf(ref, sequence), 4 * ref.score_error + 1e-5);
  } else {
    EXPECT_TRUE(std::isnan(sequence.report.selected_mass));
  }
}

void ChooseAndCheck(SelectionBed* bed, BedSequence* sequence) {
  bed->Prepare(*sequence);
  bed->Choose({sequence});
  CheckSets(*sequence, bed->shape());
  EXPECT_EQ(sequence->report.fresh, 1);
}

TEST_F(CudaSelectionTest, EveryShapeTypeAndScorer) {
  constexpr int32_t kRatios[] = {1, 2, 4, 5, 7, 8, 10};
  int32_t which = 0;
  for (const int32_t head_dim : {64, 80, 96, 128, 256}) {
    for (const CacheType type :
         {CacheType::kF16, CacheType::kBF16, CacheType::kF32, CacheType::kF8e4m3}) {
      for (const int32_t bits : {0, 2, 4}) {
        for (const Precision precision : {Precision::kFast, Precision::kF32}) {
          const BedShape shape = {.num_kv_heads = 2,
                                  .gqa_ratio = kRatios[which++ % 7],
                                  .head_dim = head_dim,
                                  .type = type,
                                  .precision = precision,
                                  .index_bits = bits};
          SCOPED_TRACE("head_dim " + std::to_string(head_dim) + " type " + NameOf(type) + " bits " +
                       std::to_string(bits) + " ratio " + std::to_string(shape.gqa_ratio) + " " +
                       NameOf(precision));
          SelectionBed bed(shape, static_cast<uint32_t>(which));
          const Scorer scorer = bits == 0   ? Scorer::kExact
                                : bits == 4 ? Scorer::kIndex4
                                            : Scorer::kIndex2;
          BedSequence sequence =
              bed.Add(ChoosingPlan(2, scorer, SetScope::kShared, Merge::kMass, 64), 333);
          ChooseAndCheck(&bed, &sequence);
          if (HasFailure()) return;
        }
      }
    }
  }
}

TEST_F(CudaSelectionTest, EveryLengthAroundPagesAndBudget) {
  const BedShape shape = {.num_kv_heads = 1, .gqa_ratio = 3, .precision = Precision::kF32};
  SelectionBed bed(shape);
  BedSequence sequence =
      bed.Add(ChoosingPlan(2, Scorer::kIndex4, SetScope::kShared, Merge::kMass, 40), 1);
  bed.Prepare(sequence);
  for (int32_t kv_len = 1; kv_len <= 260; ++kv_len) {
    SCOPED_TRACE("kv_len " + std::to_string(kv_len));
    if (kv_len > 1) bed.Extend(kv_len, &sequence);
    bed.Choose({&sequence});
    CheckSets(sequence, shape);
    if (HasFailure()) return;
  }
}

struct PlanCase {
  const char* name;
  Scorer scorer;
  SetScope scope;
  Merge merge;
  int32_t page = 1;
  double mass = 0;
  double percent = 0;
  int32_t floor = 1;
  int32_t ceil = 0;
  int32_t sinks = 4;
  int32_t recent = 8;
};

AttentionPlan PlanOf(const PlanCase& c) {
  AttentionPlan plan = ChoosingPlan(2, c.scorer, c.scope, c.merge, 64);
  if (c.percent > 0) plan.budget = {TokenAmount::Unit::kPercent, c.percent};
  if (c.mass > 0) plan.budget = {TokenAmount::Unit::kTokens, 0};
  plan.mass = c.mass;
  plan.page = c.page;
  plan.floor = c.floor;
  plan.ceil = c.ceil;
  plan.sinks = c.sinks;
  plan.recent = {TokenAmount::Unit::kTokens, static_cast<double>(c.recent)};
  return plan;
}

constexpr PlanCase kPlanCases[] = {
    {"shared mass", Scorer::kIndex4, SetScope::kShared, Merge::kMass},
    {"shared max", Scorer::kExact, SetScope::kShared, Merge::kMax},
    {"kv mass", Scorer::kIndex4, SetScope::kKvHead, Merge::kMass},
    {"kv max", Scorer::kIndex4, SetScope::kKvHead, Merge::kMax},
    {"head score", Scorer::kExact, SetScope::kHead, Merge::kScore},
    {"head mass", Scorer::kIndex4, SetScope::kHead, Merge::kMass},
    {"head max", Scorer::kIndex4, SetScope::kHead, Merge::kMax},
    {"nothing always", Scorer::kExact, SetScope::kHead, Merge::kScore, 1, 0, 0, 1, 0, 0, 0},
    {"percent", Scorer::kExact, SetScope::kKvHead, Merge::kMass, 1, 0, 10},
    {"percent floor", Scorer::kExact, SetScope::kKvHead, Merge::kMass, 1, 0, 1, 100},
    {"mass 0.9", Scorer::kIndex4, SetScope::kShared, Merge::kMass, 1, 0.9},
    {"mass 0.5 head", Scorer::kIndex4, SetScope::kHead, Merge::kScore, 1, 0.5},
    {"mass floor", Scorer::kExact, SetScope::kKvHead, Merge::kMass, 1, 0.05, 0, 90},
    {"mass ceil", Scorer::kExact, SetScope::kKvHead, Merge::kMass, 1, 0.99, 0, 1, 33},
    {"mass max", Scorer::kExact, SetScope::kShared, Merge::kMax, 1, 0.7},
    {"mass all", Scorer::kExact, SetScope::kShared, Merge::kMass, 1, 1.5},
    {"rank shared", Scorer::kExact, SetScope::kShared, Merge::kRank},
    {"rank kv", Scorer::kIndex4, SetScope::kKvHead, Merge::kRank},
    {"page 4 mass", Scorer::kIndex4, SetScope::kShared, Merge::kMass, 4},
    {"page 16 max", Scorer::kExact, SetScope::kKvHead, Merge::kMax, 16},
    {"page 64 score", Scorer::kExact, SetScope::kHead, Merge::kScore, 64},
    {"page 100", Scorer::kExact, SetScope::kShared, Merge::kMass, 100},
    {"minmax 16", Scorer::kPagesMinMax, SetScope::kHead, Merge::kScore, 16},
    {"minmax 7 shared", Scorer::kPagesMinMax, SetScope::kShared, Merge::kScore, 7},
    {"minmax 1", Scorer::kPagesMinMax, SetScope::kKvHead, Merge::kScore, 1},
    {"meanstd 16", Scorer::kPagesMeanStd, SetScope::kHead, Merge::kScore, 16},
    {"meanstd 90 kv", Scorer::kPagesMeanStd, SetScope::kKvHead, Merge::kScore, 90},
    {"none", Scorer::kNone, SetScope::kShared, Merge::kMass},
    {"none head", Scorer::kNone, SetScope::kHead, Merge::kMass},
};

TEST_F(CudaSelectionTest, EveryScopeMergeAndBudget) {
  for (const Precision precision : {Precision::kF32, Precision::kFast}) {
    for (const PlanCase& c : kPlanCases) {
      const BedShape shape = {
          .num_kv_heads = 3, .gqa_ratio = 4, .precision = precision, .max_tokens = 1024};
      SelectionBed bed(shape, 7);
      for (const int32_t kv_len : {5, 64, 70, 200, 640, 1000}) {
        const AttentionPlan plan = PlanOf(c);
        SCOPED_TRACE(std::string(c.name) + " kv_len " + std::to_string(kv_len) + " " +
                     NameOf(precision));
        if (!plan.CheckAt(kv_len).ok()) continue;
        BedSequence sequence = bed.Add(plan, kv_len);
        ChooseAndCheck(&bed, &sequence);
        if (HasFailure()) return;
      }
    }
  }
}

TEST_F(CudaSelectionTest, KeptNewlines) {
  for (const PlanCase& c : {kPlanCases[0], kPlanCases[2], kPlanCases[10], kPlanCases[14],
                            kPlanCases[16], kPlanCases[18], kPlanCases[22]}) {
    SCOPED_TRACE(c.name);
    const BedShape shape = {.num_kv_heads = 2, .precision = Precision::kF32};
    SelectionBed bed(shape, 3);
    AttentionPlan plan = PlanOf(c);
    plan.keep_newlines = true;
    BedSequence sequence = bed.Add(plan, 400);
    for (int32_t pos = 397; pos >= 0; pos -= 11) sequence.input.keep.push_back(pos);
    ChooseAndCheck(&bed, &sequence);
  }
}

// A sequence's sets do not depend on what else is in the batch, bit by bit.
void CheckBatch(const std::vector<int32_t>& cases, const std::vector<int32_t>& lengths,
                int32_t max_tokens) {
  const BedShape shape = {.num_kv_heads = 2,
                          .gqa_ratio = 4,
                          .max_tokens = max_tokens,
                          .max_sequences = static_cast<int32_t>(cases.size())};
  SelectionBed bed(shape, 11);
  std::vector<BedSequence> sequences;
  for (size_t i = 0; i < cases.size(); ++i) {
    const PlanCase& plan = kPlanCases[cases[i]];
    sequences.push_back(bed.Add(PlanOf(plan), lengths[i], static_cast<int32_t>(i)));
    bed.Prepare(sequences.back());
  }
  std::vector<BedSequence> alone = sequences;
  for (BedSequence& sequence : alone) {
    bed.Choose({&sequence});
    CheckSets(sequence, shape);
  }
  std::vector<BedSequence*> all;
  for (BedSequence& sequence : sequences) all.push_back(&sequence);
  bed.Choose(all);
  for (size_t i = 0; i < all.size(); ++i) {
    SCOPED_TRACE(i);
    EXPECT_EQ(alone[i].slots, sequences[i].slots);
    EXPECT_EQ(std::memcmp(&alone[i].report, &sequences[i].report, sizeof(DeviceChoiceReport)), 0);
  }
}

TEST_F(CudaSelectionTest, BatchOfDifferentPlans) {
  CheckBatch({0, 4, 22, 10, 16, 2}, {1500, 70, 640, 2000, 333, 900}, 2048);
}
// All by bins: fewer blocks for each set than alone.
TEST_F(CudaSelectionTest, BatchOfDifferentLengths) {
  CheckBatch({0, 0, 1, 2, 0, 5}, {9000, 65, 64, 3000, 5, 4097}, 9024);
}

TEST_F(CudaSelectionTest, RefreshByCosine) {
  const BedShape shape = {.num_kv_heads = 2, .precision = Precision::kF32};
  SelectionBed bed(shape, 5);
  AttentionPlan plan = PlanOf(kPlanCases[2]);
  plan.refresh_cosine = 0.9;
  BedSequence sequence = bed.Add(plan, 300);
  ChooseAndCheck(&bed, &sequence);
  const std::vector<std::vector<int32_t>> first = sequence.positions;

  // The same query: the kept sets and every token since, unmeasured.
  bed.Extend(303, &sequence);
  bed.Choose({&sequence});
  EXPECT_EQ(sequence.report.fresh, 0);
  EXPECT_TRUE(std::isnan(sequence.report.selected_mass));
  for (size_t set = 0; set < first.size(); ++set) {
    std::vector<int32_t> expected = first[set];
    for (int32_t pos = 300; pos < 303; ++pos) expected.push_back(pos);
    EXPECT_EQ(sequence.positions[set], expected);
  }
  // Measured.
  sequence.wants_mass = true;
  bed.Choose({&sequence});
  EXPECT_EQ(sequence.report.fresh, 0);
  ReferenceInput in = sequence.input;
  in.plan = &sequence.plan;
  const ReferenceValues ref = ValuesOf(in, EpsilonOf(shape));
  EXPECT_NEAR(sequence.report.selected_mass, MassOf(ref, sequence), 1e-4);
  sequence.wants_mass = false;
  // Another layer has its own.
  bed.Choose({&sequence}, 1);
  EXPECT_EQ(sequence.report.fresh, 1);
  // Forgotten.
  sequence.forget_sets = true;
  bed.Choose({&sequence});
  EXPECT_EQ(sequence.report.fresh, 1);
  CheckSets(sequence, shape);
  sequence.forget_sets = false;
  bed.Choose({&sequence});
  EXPECT_EQ(sequence.report.fresh, 0);
  // Another query.
  bed.NewQuery(&sequence);
  bed.Choose({&sequence});
  EXPECT_EQ(sequence.report.fresh, 1);
  CheckSets(sequence, shape);
}

// Equal keys: equal probabilities, of which the first are taken.
TEST_F(CudaSelectionTest, TiesGoToTheSmallerPosition) {
  for (const int32_t cases : {0, 4, 16}) {
    for (const int32_t kv_len : {256, 3000}) {
      const BedShape shape = {.num_kv_heads = 1, .gqa_ratio = 2, .max_tokens = 3008};
      SelectionBed bed(shape, 9);
      AttentionPlan plan = PlanOf(kPlanCases[cases]);
      plan.scorer = Scorer::kExact;
      BedSequence sequence = bed.Add(plan, kv_len);
      std::fill(sequence.input.q.begin(), sequence.input.q.end(), 0.0f);
      bed.Prepare(sequence);
      bed.Choose({&sequence});
      std::vector<int32_t> expected(56);
      std::iota(expected.begin(), expected.end(), 0);
      for (int32_t pos = kv_len - 8; pos < kv_len; ++pos) expected.push_back(pos);
      for (const std::vector<int32_t>& positions : sequence.positions)
        EXPECT_EQ(positions, expected);
    }
  }
}

TEST_F(CudaSelectionTest, LongContext) {
  const BedShape shape = {
      .num_kv_heads = 2, .gqa_ratio = 4, .max_tokens = 100032, .max_sequences = 2};
  SelectionBed bed(shape, 13);
  for (const PlanCase& c : {kPlanCases[0], kPlanCases[2], kPlanCases[10], kPlanCases[16]}) {
    SCOPED_TRACE(c.name);
    BedSequence sequence = bed.Add(PlanOf(c), 40000);
    ChooseAndCheck(&bed, &sequence);
  }
}

TEST_F(CudaSelectionTest, LongestContext) {
  const BedShape shape = {.num_kv_heads = 1, .max_tokens = 262144, .max_sequences = 1};
  SelectionBed bed(shape, 17);
  AttentionPlan plan = PlanOf(kPlanCases[0]);
  plan.budget = {TokenAmount::Unit::kTokens, 1024};
  BedSequence sequence = bed.Add(plan, 262144);
  ChooseAndCheck(&bed, &sequence);
}

TEST_F(CudaSelectionTest, LaunchKeyTellsLaunchesApart) {
  const BedShape shape = {};
  SelectionBed bed(shape);
  std::set<uint64_t> keys;
  for (const int32_t c : {0, 2, 4, 16, 22, 27}) {
    const AttentionPlan plan = PlanOf(kPlanCases[c]);
    StepBatch batch;
    batch.sequences.push_back({.plan = &plan});
    keys.insert(bed.selection().LaunchKey(batch));
    batch.sequences[0].kv_len = 100;
    keys.insert(bed.selection().LaunchKey(batch));
  }
  EXPECT_EQ(keys.size(), 6u);
}

TEST_F(CudaSelectionTest, TooMuchMemoryIsAnErrorThatNamesIt) {
  StepUpload upload;
  CudaSelectionOptions options;
  options.num_layers = 4096;
  options.num_heads = 64;
  options.num_kv_heads = 8;
  options.head_dim = 64;
  options.max_tokens = 262144;
  options.upload = &upload;
  std::unique_ptr<CudaSelection> selection = CudaSelection::Create(options).value();
  AttentionPlan plan = ChoosingPlan(4096, Scorer::kExact, SetScope::kHead, Merge::kScore, 64);
  plan.refresh_cosine = 0.9;
  const Status status = selection->Prepare(0, plan);
  EXPECT_EQ(status.code(), StatusCode::kOutOfMemory);
  EXPECT_NE(status.message().find("free"), std::string::npos) << status.message();
  plan.refresh_cosine = 2;
  EXPECT_TRUE(selection->Prepare(0, plan).ok());
  options.head_dim = 72;
  EXPECT_EQ(CudaSelection::Create(options).status().code(), StatusCode::kUnsupported);
}

}  // namespace
}  // namespace tidal
