#include "cli/bench_run.h"

#include <algorithm>
#include <fmt/format.h>
#include <utility>

#include "cli/progress_bar.h"
#include "cli/report.h"
#include "cli/run_request.h"
#include "sampler/random.h"

namespace tidal {
namespace {

constexpr uint64_t kTokenSeed = 20240607;
constexpr int32_t kWarmUpTokens = 4;
constexpr int32_t kPartTokens = 16;

class Bench {
 public:
  Bench(const Console& console, Engine* engine, const BenchSettings& settings,
        const InterruptScope& interrupt)
      : console_(console), engine_(engine), settings_(settings), interrupt_(interrupt) {}

  Result<std::vector<BenchRow>> Run();

 private:
  enum class Test : uint8_t { kPrefill, kDecode };
  struct Case {
    Test test;
    int32_t tokens;
    BenchRow row;
  };

  std::vector<Case> CasesAt(int32_t depth) const;
  Status Fill(int32_t depth);
  Status WarmUp(const Case& test_case);
  Status Measure(Case* test_case);
  Status TimeParts(Case* test_case);
  Result<Timings> Submit(const Request& request, int32_t num_sequences, StepProfile* profile);
  std::vector<TokenId> FreshPrompt(int32_t depth, int32_t count);
  TokenId RandomToken();

  const Console& console_;
  Engine* engine_;
  const BenchSettings& settings_;
  const InterruptScope& interrupt_;
  std::vector<SequenceId> sequences_;
  std::vector<TokenId> filling_;  // what the cache holds in front of every test
  TokenId last_first_ = kNoToken;
  uint64_t num_random_ = 0;
};

TokenId Bench::RandomToken() {
  const double u = UniformDraw(kTokenSeed, num_random_++);
  return static_cast<TokenId>(u * engine_->model().config().vocab_size);
}

// The filling up to `depth` and `count` new tokens. The first of these differs from the one of the
// test before, so that the cache has exactly `depth` tokens in common with the prompt.
std::vector<TokenId> Bench::FreshPrompt(int32_t depth, int32_t count) {
  std::vector<TokenId> prompt(filling_.begin(), filling_.begin() + depth);
  for (int32_t i = 0; i < count; ++i) {
    TokenId token = RandomToken();
    if (i == 0) {
      while (token == last_first_) token = RandomToken();
      last_first_ = token;
    }
    prompt.push_back(token);
  }
  return prompt;
}

std::vector<Bench::Case> Bench::CasesAt(int32_t depth) const {
  std::vector<Case> cases;
  const auto add = [&](Test test, const char* name, int32_t tokens) {
    if (tokens == 0) return;
    for (const BenchPlan& plan : settings_.plans) {
      BenchRow row;
      row.test = fmt::format("{}{}", name, tokens);
      row.depth = depth;
      row.plan = plan;
      row.sequences = test == Test::kDecode ? settings_.sequences : 1;
      row.tokens = tokens * row.sequences;
      cases.push_back({test, tokens, std::move(row)});
    }
  };
  for (const int32_t tokens : settings_.prompt_tokens) add(Test::kPrefill, "pp", tokens);
  for (const int32_t tokens : settings_.decode_tokens) add(Test::kDecode, "tg", tokens);
  return cases;
}

// Runs the request on the first num_sequences sequences; the timings are those of the slowest.
// `profile` gets the cost of the prefill where nothing is generated, and of the decode steps alone
// otherwise.
Result<Timings> Bench::Submit(const Request& request, int32_t num_sequences, StepProfile* profile) {
  std::vector<SequenceRequest> requests;
  for (int32_t i = 0; i < num_sequences; ++i) {
    requests.push_back({sequences_[static_cast<size_t>(i)], request});
    requests.back().request.ignore_eos = true;
    requests.back().request.sampling.temperature = 0;
  }
  bool decoding = false;
  engine_->TakeProfile();
  const auto on_event = [&](const Event& event) {
    // The first tokens of all sequences come with one step.
    if (event.kind == Event::Kind::kToken && !decoding) {
      decoding = true;
      engine_->TakeProfile();
    }
    return OkStatus();
  };
  TIDAL_ASSIGN_OR_RETURN(const std::vector<RequestResult> results,
                         RunRequests(engine_, std::move(requests), &interrupt_, on_event));
  Timings timings;
  for (const RequestResult& result : results) {
    if (result.reason == FinishReason::kCancelled)
      return Cancelled("the benchmark was interrupted");
    timings.prompt_ms = std::max(timings.prompt_ms, result.timings.prompt_ms);
    timings.predicted_ms = std::max(timings.predicted_ms, result.timings.predicted_ms);
  }
  *profile = engine_->TakeProfile();
  return timings;
}

Status Bench::Fill(int32_t depth) {
  while (static_cast<int32_t>(filling_.size()) < depth) filling_.push_back(RandomToken());
  if (depth == 0) return OkStatus();
  Request request;
  request.prompt.assign(filling_.begin(), filling_.begin() + depth);
  request.max_tokens = 0;
  const auto sequences = static_cast<int32_t>(sequences_.size());
  ProgressBar bar(console_, fmt::format("Filling the cache to {}", depth));
  for (int32_t i = 0; i < sequences; ++i) {
    const auto on_event = [&](const Event& event) {
      if (event.kind == Event::Kind::kPrefill)
        bar.UpdateCount(i * int64_t{depth} + event.done, sequences * int64_t{depth}, "tokens",
                        event.timings.reused_tokens);
      return OkStatus();
    };
    TIDAL_ASSIGN_OR_RETURN(
        const RequestResult result,
        RunRequest(engine_, sequences_[static_cast<size_t>(i)], request, &interrupt_, on_event));
    if (result.reason == FinishReason::kCancelled)
      return Cancelled("the benchmark was interrupted");
  }
  return OkStatus();
}

// The first use of weights and threads is slower than any later one, and on a device so are the
// first steps of each plan: they are not counted.
Status Bench::WarmUp(const Case& test_case) {
  Case discarded = test_case;
  discarded.tokens = std::min(discarded.tokens, kWarmUpTokens);
  return Measure(&discarded);
}

Status Bench::Measure(Case* test_case) {
  BenchRow& row = test_case->row;
  const int32_t tokens = test_case->tokens;
  const bool prefills = test_case->test == Test::kPrefill;
  Request request;
  request.attention = row.plan.plan;
  // A decode test has a prompt of one token, whose step also gives the first of its tokens: one
  // more is asked for than steps are counted.
  request.prompt = FreshPrompt(row.depth, prefills ? tokens : 1);
  request.max_tokens = prefills ? 0 : tokens + 1;
  StepProfile profile;
  TIDAL_ASSIGN_OR_RETURN(const Timings timings, Submit(request, row.sequences, &profile));
  const double ms = prefills ? timings.prompt_ms : timings.predicted_ms;
  row.tokens_per_s.push_back(TokensPerSecond(row.tokens, ms));
  row.profiles.push_back(profile.executor);
  return OkStatus();
}

// What a decode test's time is spent on: a device tells it of slower steps only.
Status Bench::TimeParts(Case* test_case) {
  BenchRow& row = test_case->row;
  if (engine_->device_name().empty()) {
    row.part_profiles = row.profiles;
    row.part_tokens = row.tokens;
    return OkStatus();
  }
  if (test_case->test == Test::kPrefill) return OkStatus();
  Case timed = *test_case;
  timed.tokens = std::min(timed.tokens, kPartTokens);
  engine_->SetPartTiming(PartTiming::kAlways);
  const Status status = Measure(&timed);
  engine_->SetPartTiming(PartTiming::kWhereFree);
  TIDAL_RETURN_IF_ERROR(status);
  row.part_profiles = {timed.row.profiles.back()};
  row.part_tokens = timed.tokens * row.sequences;
  return OkStatus();
}

Result<std::vector<BenchRow>> Bench::Run() {
  while (static_cast<int32_t>(sequences_.size()) < settings_.sequences) {
    TIDAL_ASSIGN_OR_RETURN(const SequenceId sequence, engine_->OpenSequence());
    sequences_.push_back(sequence);
  }
  std::vector<BenchRow> rows;
  bool is_warm = false;
  for (const int32_t depth : settings_.depths) {
    std::vector<Case> cases = CasesAt(depth);
    TIDAL_RETURN_IF_ERROR(Fill(depth));
    const auto work = static_cast<double>(cases.size()) * settings_.repetitions;
    int done = 0;
    ProgressBar bar(console_, fmt::format("Measuring at depth {}", depth));
    for (const Case& test_case : cases)
      if (!is_warm) TIDAL_RETURN_IF_ERROR(WarmUp(test_case));
    is_warm = true;
    for (int32_t repetition = 0; repetition < settings_.repetitions; ++repetition) {
      for (Case& test_case : cases) {
        TIDAL_RETURN_IF_ERROR(Measure(&test_case));
        bar.Update(++done / work, test_case.row.test);
      }
    }
    for (Case& test_case : cases) {
      TIDAL_RETURN_IF_ERROR(TimeParts(&test_case));
      rows.push_back(std::move(test_case.row));
    }
  }
  return rows;
}

}  // namespace

int64_t NeededCtxSize(const BenchSettings& settings) {
  const auto most = [](const std::vector<int32_t>& values) {
    return values.empty() ? 0 : int64_t{*std::max_element(values.begin(), values.end())};
  };
  // Of a decode test: its prompt of one token, the token that this gives, and those it measures.
  constexpr int64_t kDecodeExtra = 2;
  return most(settings.depths) +
         std::max(most(settings.prompt_tokens), most(settings.decode_tokens) + kDecodeExtra);
}

double MedianOf(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

Result<std::vector<BenchRow>> RunBench(const Console& console, Engine* engine,
                                       const BenchSettings& settings,
                                       const InterruptScope& interrupt) {
  return Bench(console, engine, settings, interrupt).Run();
}

}  // namespace tidal
