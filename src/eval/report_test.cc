#include "eval/report.h"

#include <cmath>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <limits>

#include <nlohmann/json.hpp>

#include "eval/html_text.h"
#include "eval/svg_axis.h"
#include "eval/svg_chart.h"

namespace tidal {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using Json = nlohmann::ordered_json;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

ReportRun SomeRun(const std::string& command) {
  ReportRun run;
  run.command = command;
  run.version = "0.1.0";
  run.model = "tiny.gguf";
  run.model_hash = std::string(64, 'a');
  run.cpu = "A <fast> CPU";
  run.started = "2026-01-02T03:04:05Z";
  return run;
}

PlanLoss LossOf(const std::string& text, int budget, double kl) {
  PlanLoss loss;
  loss.plan.text = text;
  loss.plan.plan.preset = text.substr(0, text.find(':'));
  loss.plan.plan.reads_all = {0, 0};
  loss.plan.plan.selects = {1, 1};
  loss.plan.plan.budget = {TokenAmount::Unit::kTokens, static_cast<double>(budget)};
  loss.summary.tokens = 4;
  loss.summary.kl = {kl, kl / 2, kl * 2};
  loss.summary.kl_over_first = {0, kNan, kNan};
  const auto token = [](double value) {
    TokenLoss result;
    result.kl = static_cast<float>(value);
    return result;
  };
  loss.windows = {{{token(kl), token(3 * kl)}, {}}, {{token(0), token(kl)}, {}}};
  loss.guard = RocCurve{.bad_kl = 1, .auc = 0.75, .points = {{0, 0, 0}, {1, 1, 1}}, .rows = 4};
  loss.speed = PlanSpeed{.context = 4096,
                         .tokens_per_s = 20,
                         .scan_bytes = 1e6,
                         .gather_bytes = budget * 1e3,
                         .full_bytes = 0,
                         .weight_bytes = 1e8};
  return loss;
}

LossRequest RequestOf(int32_t prefill) {
  LossRequest request;
  request.prefill = prefill;
  request.decode = 2;
  return request;
}

LossResult Losses() {
  LossResult result;
  result.documents = {"a.txt", "b,\"c\".txt"};
  result.windows = {{0, 0, 2.5}, {1, 100, 2.0}};
  result.full_nats = {2.25, 2.0, 2.5};
  result.full_speed = PlanSpeed{.context = 4096, .tokens_per_s = 10, .full_bytes = 1e7};
  result.plans = {LossOf("tidal:budget=256", 256, 0.05), LossOf("tidal:budget=512", 512, 0.02),
                  LossOf("quest:budget=512", 512, 0.08)};
  return result;
}

TaskResult Tasks() {
  TaskResult result;
  result.plans = {"full", "tidal"};
  result.question = "prefill";
  for (const double depth : {0.0, 0.5})
    for (const int plan : {0, 1})
      result.cells.push_back({"niah_single_1",
                              4096,
                              depth,
                              plan,
                              2,
                              plan == 0 ? 1.0 : 0.5,
                              plan == 0 ? 2 : 1,
                              {0.1, 0.9},
                              {1, 1, 0, 0, 1, {plan == 0 ? 0.0 : -0.5, -1, 0}},
                              4000});
  result.totals.push_back(
      {"niah_single_1", 4096, std::nullopt, 1, 4, 0.5, 2, {0.1, 0.9}, {2, 2, 0, 0, 0.5}, 4000});
  result.answers.push_back({"niah_single_1", 4096, 0.5, 1, 1, 4000, "x", 0.5});
  return result;
}

FreeRunRequest FreeRunRequestOf() {
  FreeRunRequest request;
  request.documents = {{"a.txt", {}}};
  request.generate = 32;
  request.sampling.temperature = 0;
  return request;
}

FreeRunResult FreeRuns() {
  FreeRunResult result;
  result.windows = {{0, 64, 0}};
  FreeRunPlan plan;
  plan.plan = LossOf("tidal:correct=8", 256, 0).plan;
  plan.texts = {{{1, 2, 3}, FinishReason::kStop, {0.25F, 0.5F}, 0.5}};
  plan.attention.correction = {.runs = 2, .rows = 16, .kl_mean = 0.2, .kl_max = 1};
  plan.kl = {0.25, 0.125, 0.5};
  plan.length = {20, kNan, kNan};
  plan.repetition = {0.5, kNan, kNan};
  plan.kl_along = {0.25, kNan};
  result.plans = {plan};
  return result;
}

std::string FileNamed(const Report& report, const std::string& name) {
  for (const ReportFile& file : report.Files())
    if (file.name == name) return file.text;
  return "";
}

TEST(Report, HoldsWhatWasMeasured) {
  Report report;
  LossResult losses = Losses();
  losses.plans[0].layer_mass = {{1.8, 2}, {0, 0}};
  report.Add(SomeRun("tidal eval loss"), RequestOf(4096), losses);
  const Json json = Json::parse(FileNamed(report, "report.json"));
  const Json& run = json["runs"][0];
  EXPECT_EQ(json["format"], 1);
  EXPECT_EQ(run["command"], "tidal eval loss");
  EXPECT_EQ(run["machine"]["cpu"], "A <fast> CPU");
  EXPECT_EQ(run["windows"][1]["begin"], 100);
  const Json& plan = run["plans"][0];
  EXPECT_EQ(plan["budget"], 256);
  EXPECT_EQ(plan["kl"]["high"], 0.1);
  EXPECT_NEAR(plan["window_kl"][0].get<double>(), 0.1, 1e-6) << "the mean of 0.05 and 0.15";
  EXPECT_TRUE(plan["kl_over_first"]["low"].is_null()) << "JSON has no NaN";
  EXPECT_EQ(plan["layer_mass"].dump(), "[0.9,null]");
  EXPECT_EQ(plan["guard"]["auc"], 0.75);
}

TEST(Report, RunsAreAddedAndReplaced) {
  Report first;
  first.Add(SomeRun("one"), RequestOf(4096), Losses());
  Result<Report> report = Report::Parse("report.json", FileNamed(first, "report.json"));
  ASSERT_TRUE(report.ok()) << report.status().message();
  report->Add(SomeRun("two"), Tasks());
  report->Add(SomeRun("one"), RequestOf(8192), Losses());
  const Json runs = Json::parse(FileNamed(*report, "report.json"))["runs"];
  ASSERT_EQ(runs.size(), 2u);
  EXPECT_EQ(runs[0]["prefill"], 8192);
  EXPECT_EQ(runs[1]["kind"], "task");
  EXPECT_EQ(runs[1]["cells"][3]["scores"].dump(), "[[1,0.5]]");
}

TEST(Report, WhatIsNoReportIsRefused) {
  for (const char* text :
       {"", "[1]", "{}", R"({"format":2,"runs":[]})", R"({"format":1})", "{\"a"}) {
    const Result<Report> report = Report::Parse("dir/report.json", text);
    ASSERT_FALSE(report.ok()) << text;
    EXPECT_EQ(report.status().code(), StatusCode::kCorrupt);
    EXPECT_THAT(report.status().message(), HasSubstr("dir/report.json"));
  }
}

// Whatever an old file holds, the page and the tables are made of it without a stumble.
TEST(Report, OddRunsDoNoHarm) {
  const char* const kOdd = R"({"format":1,"runs":[1,null,"x",{},{"kind":"loss","plans":[1,{"plan":3,
      "kl":[],"guard":{"points":[1,[1],[1,"a",2]]},"layer_mass":["x"],"window_kl":{}}],
      "windows":[7,{"document":99},{"document":-1}],"documents":[5]},
      {"kind":"task","plans":[9],"cells":[{"plan":-3,"depth":1e300,"length":1},{"plan":7,"depth":0,
      "length":-1e18},{"plan":0}],"totals":[{"plan":1e30},4]}]})";
  const Result<Report> report = Report::Parse("r", kOdd);
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_THAT(FileNamed(*report, "report.html"), HasSubstr("</html>"));
}

TEST(Report, TextsAreEscaped) {
  Report report;
  LossResult losses = Losses();
  losses.plans[0].plan.text = "<script>alert(1)</script>\xff";
  losses.documents[0] = "=cmd()\nx";
  report.Add(SomeRun("tidal 'a&b' <i>"), RequestOf(64), losses);
  const std::string page = FileNamed(report, "report.html");
  EXPECT_THAT(page, Not(HasSubstr("<script")));
  EXPECT_THAT(page, HasSubstr("&lt;script&gt;alert(1)&lt;/script&gt;"));
  EXPECT_THAT(page, HasSubstr("tidal &#39;a&amp;b&#39; &lt;i&gt;"));
  const std::string windows = FileNamed(report, "windows.csv");
  EXPECT_THAT(windows, HasSubstr("\"'=cmd()\nx\""));
  EXPECT_THAT(windows, HasSubstr("\"b,\"\"c\"\".txt\""));
}

// "tidal" is the second method of the run and the first one with a guard.
TEST(Report, AMethodHasOneColourInAllPicturesOfThePage) {
  LossResult losses = Losses();
  losses.plans = {LossOf("streaming:budget=512", 512, 0.08), LossOf("tidal:budget=256", 256, 0.05)};
  losses.plans[0].guard.reset();
  losses.plans[1].layer_mass = {{1.8, 2}};
  Report report;
  report.Add(SomeRun("tidal eval loss"), RequestOf(4096), losses);
  const std::string page = FileNamed(report, "report.html");
  for (const char* name : {"tidal", "tidal:budget=256", "tidal:budget=256 (area 0.75)"})
    EXPECT_THAT(page, HasSubstr(fmt::format(R"(<li class="c1"><i></i>{}</li>)", name)));
  EXPECT_THAT(page, HasSubstr(R"(<li class="c2"><i></i>full</li>)"));
}

TEST(Report, ThePageSaysWhatIntervalsAreOver) {
  const auto page_of = [](const LossResult& losses) {
    Report report;
    report.Add(SomeRun("tidal eval loss"), RequestOf(4096), losses);
    return FileNamed(report, "report.html");
  };
  LossResult losses = Losses();
  std::string page = page_of(losses);
  EXPECT_THAT(page, HasSubstr("2 windows of 2 texts;"));
  EXPECT_THAT(page, HasSubstr("Intervals are 95 %, by text."));
  losses.documents.pop_back();
  losses.windows[1].document = 0;
  page = page_of(losses);
  EXPECT_THAT(page, HasSubstr("2 windows of 1 text;"));
  EXPECT_THAT(page, HasSubstr("Intervals are 95 %, by window."));
}

TEST(SvgHeatMap, AGridOfOneRowLeavesRoomForTheTitleOfRows) {
  HeatMap map{.title = "t", .row_title = "depth, %", .rows = {"0"}, .columns = {"1K"}};
  map.values = {{1.0}};
  EXPECT_THAT(SvgHeatMap(map), HasSubstr(R"(viewBox="0 -17 460 85")")) << "30 above and below 13";
  map.rows = {"0", "50", "100"};
  map.values = {{1.0}, {1.0}, {0.0}};
  EXPECT_THAT(SvgHeatMap(map), HasSubstr(R"(viewBox="0 0 460 120")"));
}

TEST(Report, ThePageNeedsNothingFromOutside) {
  Report report;
  LossResult losses = Losses();
  losses.plans[0].layer_mass = {{1.8, 2}, {0.5, 1}};
  report.Add(SomeRun("a"), RequestOf(4096), losses);
  report.Add(SomeRun("b"), Tasks());
  report.Add(SomeRun("c"), FreeRunRequestOf(), FreeRuns());
  const std::string page = FileNamed(report, "report.html");
  for (const char* outside : {"src=", "href=", "url(", "http:", "https:", "@import"})
    EXPECT_THAT(page, Not(HasSubstr(outside)));
  for (const char* title : {"Loss against bytes", "Loss against budget", "Selected mass per layer",
                            "Does selected mass tell bad tokens?", "Speed against context",
                            "niah_single_1, tidal", "Loss along text of its own"})
    EXPECT_THAT(page, HasSubstr(title));
}

TEST(Report, HoldsFreeRuns) {
  Report report;
  report.Add(SomeRun("tidal eval loss"), FreeRunRequestOf(), FreeRuns());
  const Json run = Json::parse(FileNamed(report, "report.json"))["runs"][0];
  EXPECT_EQ(run["kind"], "free_run");
  EXPECT_EQ(run["generate"], 32);
  EXPECT_EQ(run["documents"].dump(), R"(["a.txt"])");
  const Json& plan = run["plans"][0];
  EXPECT_EQ(plan["length"]["value"], 20);
  EXPECT_TRUE(plan["kl_along"][1].is_null());
  EXPECT_EQ(plan["texts"][0]["reason"], "stop");
  EXPECT_EQ(plan["texts"][0]["tokens"], 3);
  EXPECT_EQ(plan["texts"][0]["kl"], 0.375);
  EXPECT_EQ(plan["attention"]["correction_rows"], 16);
  EXPECT_THAT(FileNamed(report, "free_run.csv"),
              HasSubstr("tiny.gguf,4096,32,0,tidal:correct=8,0.25,0.125,0.5,20,,,0.5,,,16,0.2\n"));
}

TEST(Report, PicturesHaveOnePlanOfEachMethod) {
  Report report;
  LossResult losses = Losses();
  for (PlanLoss& plan : losses.plans) plan.layer_mass = {{0.5, 1}};
  report.Add(SomeRun("a"), RequestOf(4096), losses);
  const std::string page = FileNamed(report, "report.html");
  EXPECT_THAT(page, HasSubstr("tidal:budget=256, layer 0: 0.500"));
  EXPECT_THAT(page, HasSubstr("quest:budget=512, layer 0: 0.500"));
  EXPECT_THAT(page, Not(HasSubstr("tidal:budget=512, layer 0")));
}

TEST(Report, FilesAreThoseThatHaveLines) {
  Report report;
  report.Add(SomeRun("b"), Tasks());
  std::vector<std::string> names;
  for (const ReportFile& file : report.Files()) names.push_back(file.name);
  EXPECT_THAT(names, ElementsAre("report.json", "tasks.csv", "report.html"));
  EXPECT_THAT(FileNamed(report, "tasks.csv"),
              HasSubstr("tiny.gguf,prefill,niah_single_1,4096,0.5,tidal,2,0.5,1,0.1,0.9,1,1,0,0,1,"
                        "-0.5,-1,0,4000\n"));
}

TEST(HtmlText, FiguresAreShortAndHonest) {
  EXPECT_EQ(ShortFigure(0), "0");
  EXPECT_EQ(ShortFigure(1234567), "1234567");
  EXPECT_EQ(ShortFigure(12.345), "12.3");
  EXPECT_EQ(ShortFigure(0.98765), "0.988");
  EXPECT_EQ(ShortFigure(0.0123456), "0.0123");
  EXPECT_EQ(ShortFigure(0.001), "0.00100");
  EXPECT_EQ(ShortFigure(-2.5e-7), "-2.5e-07");
  EXPECT_EQ(ShortFigure(kNan), "–");
  EXPECT_EQ(ShortFigure(-HUGE_VAL), "-∞");
}

TEST(SvgAxis, PlacesValuesAndTicks) {
  const SvgAxis linear(AxisScale::kLinear, {0, 10}, 0, 105);
  EXPECT_NEAR(linear.At(10), 100, 1e-9) << "0 to 10 and 5 % beyond";
  EXPECT_THAT(linear.ticks(), ElementsAre(0, 5, 10));
  const SvgAxis binary(AxisScale::kLog2, {128, 1024, -1, kNan}, 0, 330);
  EXPECT_THAT(binary.ticks(), ElementsAre(128, 256, 512, 1024));
  EXPECT_NEAR(binary.At(256) - binary.At(128), 100, 1e-9);
  EXPECT_FALSE(binary.Shows(0));
  EXPECT_TRUE(SvgAxis(AxisScale::kLog10, {0, -5, kNan}, 0, 1).empty());
  const SvgAxis decades(AxisScale::kLog10, {0.001, 1000}, 0, 1);
  EXPECT_GE(decades.ticks().size(), 3u);
  EXPECT_LE(decades.ticks().size(), 9u);
}

TEST(SvgChart, SaysWhatItCannotShow) {
  Chart chart;
  chart.y.scale = AxisScale::kLog10;
  chart.series.push_back({.name = "s", .points = {{.x = 1, .y = 0.1}, {.x = 2, .y = 0}}});
  chart.series.push_back({.name = "nothing", .points = {{.x = 1, .y = 0}}});
  EXPECT_THAT(SvgChart(chart), HasSubstr("2 points are not shown"));
  EXPECT_THAT(SvgChart(chart), Not(HasSubstr("nothing")));
  chart.series.pop_back();
  EXPECT_THAT(SvgChart(chart), HasSubstr("One point is not shown"));
  chart.series[0].points.erase(chart.series[0].points.begin());
  EXPECT_EQ(SvgChart(chart), "");
}

}  // namespace
}  // namespace tidal
