#include <algorithm>
#include <cmath>
#include <fmt/format.h>

#include "eval/html_text.h"
#include "eval/svg_chart.h"

namespace tidal {
namespace {

constexpr double kLeft = 58;
constexpr double kCellHeight = 26;
constexpr double kMaxCellWidth = 80;
constexpr double kWidth = 460;
constexpr double kBelow = 42;  // labels of the columns and their title
// The title of the rows, upright, has so much room to each side of its middle.
constexpr double kHalfRowTitle = 30;
// The text on a cell turns light where its ground is dark enough.
constexpr double kDarkShare = 0.55;

std::string Cell(double x, double y, double width, double value) {
  if (std::isnan(value)) return "";
  const double share = std::clamp(value, 0.0, 1.0);
  return fmt::format(
      R"(<rect class="heat" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" fill-opacity="{:.2f}"/>)"
      R"(<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="middle">{:.0f}</text>)",
      x + 1, y + 1, width - 2, kCellHeight - 2, 0.06 + 0.94 * share,
      share > kDarkShare ? "on-heat" : "off-heat", x + width / 2, y + kCellHeight / 2 + 4.5,
      100 * share);
}

}  // namespace

std::string SvgHeatMap(const HeatMap& map) {
  if (map.rows.empty() || map.columns.empty()) return "";
  const double cell_width =
      std::min((kWidth - kLeft - 4) / static_cast<double>(map.columns.size()), kMaxCellWidth);
  const double bottom = kCellHeight * static_cast<double>(map.rows.size());
  const double top = std::min(bottom / 2 - kHalfRowTitle, 0.0);  // below 0: a grid of a row or two
  std::string svg;
  for (size_t row = 0; row < map.rows.size(); ++row) {
    const double y = kCellHeight * static_cast<double>(row);
    svg += fmt::format(R"(<text class="tick" x="{}" y="{:.1f}" text-anchor="end">{}</text>)",
                       kLeft - 6, y + kCellHeight / 2 + 4, EscapeHtml(map.rows[row]));
    for (size_t column = 0; column < map.columns.size(); ++column)
      svg += Cell(kLeft + cell_width * static_cast<double>(column), y, cell_width,
                  map.values[row][column]);
  }
  for (size_t column = 0; column < map.columns.size(); ++column)
    svg += fmt::format(R"(<text class="tick" x="{:.1f}" y="{:.1f}" text-anchor="middle">{}</text>)",
                       kLeft + cell_width * (static_cast<double>(column) + 0.5), bottom + 16,
                       EscapeHtml(map.columns[column]));
  const double middle = kLeft + cell_width * static_cast<double>(map.columns.size()) / 2;
  svg += fmt::format(R"(<text class="axis" x="{:.1f}" y="{:.1f}" text-anchor="middle">{}</text>)",
                     middle, bottom + 35, EscapeHtml(map.column_title));
  svg += fmt::format(
      R"-(<text class="axis" transform="translate(13 {:.1f}) rotate(-90)" text-anchor="middle">{}</text>)-",
      bottom / 2, EscapeHtml(map.row_title));
  return fmt::format(
      R"(<figure><figcaption>{0}</figcaption><svg viewBox="0 {1} {2} {3}" role="img" aria-label="{0}">{4}</svg></figure>)",
      EscapeHtml(map.title), top, kWidth, bottom + kBelow - top, svg);
}

}  // namespace tidal
