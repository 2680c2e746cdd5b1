// Charts as SVG inside an HTML figure. Colours are variables of the page's style (report_page.cc),
// so that a chart works on light and dark ground. Knows nothing of reports.
#ifndef TIDAL_EVAL_SVG_CHART_H_
#define TIDAL_EVAL_SVG_CHART_H_

#include <limits>
#include <string>
#include <vector>

namespace tidal {

inline constexpr double kNoValue = std::numeric_limits<double>::quiet_NaN();
// Series have the colours 0 to kChartColors - 1; from there on they repeat, dashed.
inline constexpr int kChartColors = 8;

struct ChartPoint {
  double x = 0;
  double y = 0;
  double low = kNoValue;  // of the interval around y; NaN: none is drawn
  double high = kNoValue;
  std::string label;  // shown when pointed at
};

struct ChartSeries {
  std::string name;
  int color = 0;
  bool joined = true;  // by lines, in the order of x
  bool dotted = true;  // has a dot at each point
  std::vector<ChartPoint> points;
};

enum class AxisScale { kLinear, kLog10, kLog2 };

struct ChartAxis {
  std::string title;
  AxisScale scale = AxisScale::kLinear;
};

// A dashed line across the chart.
struct ChartRule {
  double x = 0;
  std::string label;
};

struct Chart {
  std::string title;
  std::string note;  // below, may be empty
  ChartAxis x;
  ChartAxis y;
  std::vector<ChartSeries> series;
  std::vector<ChartRule> rules;
};

// Empty where there is no point to show. On a logarithmic axis what is not positive is left out,
// and said so.
std::string SvgChart(const Chart& chart);

// Rows of cells coloured by a share in [0, 1]; NaN: an empty cell.
struct HeatMap {
  std::string title;
  std::string row_title;
  std::string column_title;
  std::vector<std::string> rows;
  std::vector<std::string> columns;
  std::vector<std::vector<double>> values;  // [row][column]
};
std::string SvgHeatMap(const HeatMap& map);

}  // namespace tidal

#endif  // TIDAL_EVAL_SVG_CHART_H_
