#include "eval/svg_chart.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>

#include "eval/html_text.h"
#include "eval/svg_axis.h"

namespace tidal {
namespace {

// In units of the drawing, which is as wide as the figure: small, so that its text stays readable
// on a phone.
constexpr double kWidth = 460;
constexpr double kHeight = 310;
constexpr double kLeft = 58;
constexpr double kRight = kWidth - 14;
constexpr double kTop = 14;
constexpr double kBottom = kHeight - 48;
constexpr double kDotRadius = 4;

// Rounded: sums of steps are off in the last digits.
std::string TickLabel(double tick) { return fmt::format("{:.6g}", tick); }

class ChartDrawing {
 public:
  explicit ChartDrawing(const Chart& chart)
      : chart_(chart),
        x_(chart.x.scale, Values(&ChartDrawing::CollectX), kLeft, kRight),
        y_(chart.y.scale, Values(&ChartDrawing::CollectY), kBottom, kTop) {}

  std::string Draw();

 private:
  using Collect = void (ChartDrawing::*)(std::vector<double>*) const;
  std::vector<double> Values(Collect collect) const {
    std::vector<double> values;
    (this->*collect)(&values);
    return values;
  }
  void CollectX(std::vector<double>* values) const;
  void CollectY(std::vector<double>* values) const;

  bool Shows(const ChartPoint& point) const { return x_.Shows(point.x) && y_.Shows(point.y); }
  bool ShowsAnyOf(const ChartSeries& series) const {
    return std::any_of(series.points.begin(), series.points.end(),
                       [this](const ChartPoint& point) { return Shows(point); });
  }
  void DrawGrid();
  void DrawRules();
  void DrawSeries(const ChartSeries& series);
  void DrawInterval(const ChartPoint& point);
  std::string Legend() const;

  const Chart& chart_;
  SvgAxis x_;
  SvgAxis y_;
  std::string svg_;
  int hidden_points_ = 0;
};

void ChartDrawing::CollectX(std::vector<double>* values) const {
  for (const ChartSeries& series : chart_.series)
    for (const ChartPoint& point : series.points) values->push_back(point.x);
  for (const ChartRule& rule : chart_.rules) values->push_back(rule.x);
}

void ChartDrawing::CollectY(std::vector<double>* values) const {
  for (const ChartSeries& series : chart_.series)
    for (const ChartPoint& point : series.points)
      for (const double y : {point.y, point.low, point.high}) values->push_back(y);
}

void ChartDrawing::DrawGrid() {
  for (const double tick : y_.ticks()) {
    const double y = y_.At(tick);
    svg_ += fmt::format(R"(<line class="grid" x1="{}" y1="{:.1f}" x2="{}" y2="{:.1f}"/>)", kLeft, y,
                        kRight, y);
    svg_ += fmt::format(R"(<text class="tick" x="{}" y="{:.1f}" text-anchor="end">{}</text>)",
                        kLeft - 6, y + 4, TickLabel(tick));
  }
  double last_label = -HUGE_VAL;
  for (const double tick : x_.ticks()) {
    const double x = x_.At(tick);
    svg_ += fmt::format(R"(<line class="grid" x1="{:.1f}" y1="{}" x2="{:.1f}" y2="{}"/>)", x, kTop,
                        x, kBottom);
    const std::string label = TickLabel(tick);
    // Labels that would touch the one before are left out.
    const double half_width = 3.6 * static_cast<double>(label.size());
    if (x - half_width < last_label + 4) continue;
    last_label = x + half_width;
    svg_ += fmt::format(R"(<text class="tick" x="{:.1f}" y="{}" text-anchor="middle">{}</text>)", x,
                        kBottom + 17, label);
  }
  svg_ += fmt::format(R"(<text class="axis" x="{}" y="{}" text-anchor="middle">{}</text>)",
                      (kLeft + kRight) / 2, kHeight - 10, EscapeHtml(chart_.x.title));
  svg_ += fmt::format(
      R"-(<text class="axis" transform="translate(13 {}) rotate(-90)" text-anchor="middle">{}</text>)-",
      (kTop + kBottom) / 2, EscapeHtml(chart_.y.title));
}

void ChartDrawing::DrawRules() {
  for (const ChartRule& rule : chart_.rules) {
    if (!x_.Shows(rule.x)) continue;
    const double x = x_.At(rule.x);
    // Beside the line on the side that has more room.
    const bool is_right = x > (kLeft + kRight) / 2;
    svg_ += fmt::format(R"(<line class="rule" x1="{:.1f}" y1="{}" x2="{:.1f}" y2="{}"/>)", x, kTop,
                        x, kBottom);
    svg_ += fmt::format(R"(<text class="tick" x="{:.1f}" y="{}" text-anchor="{}">{}</text>)",
                        x + (is_right ? -5 : 5), kTop + 11, is_right ? "end" : "start",
                        EscapeHtml(rule.label));
  }
}

void ChartDrawing::DrawInterval(const ChartPoint& point) {
  if (!y_.Shows(point.high)) return;
  // A lower end that a logarithmic axis cannot show goes down to its end.
  const double low = y_.Shows(point.low) ? y_.At(point.low) : kBottom;
  const double high = y_.At(point.high);
  const double x = x_.At(point.x);
  svg_ += fmt::format(
      R"(<path class="bar" d="M{:.1f} {:.1f}V{:.1f}M{:.1f} {:.1f}h8M{:.1f} {:.1f}h8"/>)", x, low,
      high, x - 4, low, x - 4, high);
}

void ChartDrawing::DrawSeries(const ChartSeries& series) {
  std::vector<const ChartPoint*> shown;
  for (const ChartPoint& point : series.points) {
    if (Shows(point))
      shown.push_back(&point);
    else
      ++hidden_points_;
  }
  std::stable_sort(shown.begin(), shown.end(),
                   [](const ChartPoint* a, const ChartPoint* b) { return a->x < b->x; });
  svg_ += fmt::format(R"(<g class="c{}{}">)", series.color % kChartColors,
                      series.color >= kChartColors ? " dashed" : "");
  if (series.joined && shown.size() > 1) {
    std::string path;
    for (const ChartPoint* point : shown)
      path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? 'M' : 'L', x_.At(point->x),
                          y_.At(point->y));
    svg_ += fmt::format(R"(<path class="line" d="{}"/>)", path);
  }
  for (const ChartPoint* point : shown) {
    DrawInterval(*point);
    if (!series.dotted) continue;
    svg_ += fmt::format(R"(<circle cx="{:.1f}" cy="{:.1f}" r="{}"><title>{}</title></circle>)",
                        x_.At(point->x), y_.At(point->y), kDotRadius, EscapeHtml(point->label));
  }
  svg_ += "</g>";
}

std::string ChartDrawing::Legend() const {
  std::string html = "<ul class=\"legend\">";
  for (const ChartSeries& series : chart_.series) {
    if (!ShowsAnyOf(series)) continue;
    html += fmt::format(R"(<li class="c{}{}"><i></i>{}</li>)", series.color % kChartColors,
                        series.color >= kChartColors ? " dashed" : "", EscapeHtml(series.name));
  }
  return html + "</ul>";
}

std::string ChartDrawing::Draw() {
  const bool has_points =
      std::any_of(chart_.series.begin(), chart_.series.end(),
                  [this](const ChartSeries& series) { return ShowsAnyOf(series); });
  if (!has_points) return "";
  DrawGrid();
  DrawRules();
  for (const ChartSeries& series : chart_.series) DrawSeries(series);
  std::string note = EscapeHtml(chart_.note);
  if (hidden_points_ > 0)
    note += fmt::format(
        "{}{} not shown: not above 0 on a logarithmic axis, or not measured.",
        note.empty() ? "" : " ",
        hidden_points_ == 1 ? "One point is" : fmt::format("{} points are", hidden_points_));
  return fmt::format(
      R"(<figure><figcaption>{0}</figcaption><svg viewBox="0 0 {1} {2}" role="img" aria-label="{0}">{3}</svg>{4}{5}</figure>)",
      EscapeHtml(chart_.title), kWidth, kHeight, svg_, Legend(),
      note.empty() ? "" : fmt::format("<p class=\"note\">{}</p>", note));
}

}  // namespace

std::string SvgChart(const Chart& chart) { return ChartDrawing(chart).Draw(); }

}  // namespace tidal
