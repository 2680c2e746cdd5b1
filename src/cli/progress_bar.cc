#include "cli/progress_bar.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>

namespace tidal {
namespace {

// Below this the eye sees a flicker, not a bar.
constexpr std::chrono::milliseconds kQuiet(250);
constexpr std::chrono::milliseconds kBetweenDrawings(100);
// What is left is a guess that is worth nothing at the very start.
constexpr double kMinFractionForEstimate = 0.02;

// A bar of `cells` characters: eighths of a block where the terminal has them.
std::string Bar(double fraction, int cells, bool utf8) {
  if (!utf8) {
    const int full = static_cast<int>(fraction * cells);
    std::string bar(static_cast<size_t>(full), '#');
    bar.resize(static_cast<size_t>(cells), '.');
    return "[" + bar + "]";
  }
  constexpr const char* kEighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  const int eighths = static_cast<int>(fraction * cells * 8);
  std::string bar = "▕";
  for (int i = 0; i < eighths / 8; ++i) bar += "█";
  bar += kEighths[eighths % 8];
  for (int i = (eighths + 7) / 8; i < cells; ++i) bar += " ";
  return bar + "▏";
}

}  // namespace

std::string FormatDuration(double seconds) {
  const auto total = static_cast<int64_t>(std::llround(std::clamp(seconds, 0.0, 1e9)));
  if (total < 3600) return fmt::format("{}:{:02}", total / 60, total % 60);
  return fmt::format("{}:{:02}:{:02}", total / 3600, total / 60 % 60, total % 60);
}

std::string ProgressLine(std::string_view label, double fraction, std::string_view detail,
                         int width, bool utf8) {
  fraction = std::clamp(fraction, 0.0, 1.0);
  const std::string percent = fmt::format("{:3.0f}%", std::floor(fraction * 100));
  // Label, detail and percentage with two spaces between them; the bar's ends take two cells.
  const int used = static_cast<int>(label.size() + percent.size() + detail.size()) + 6;
  constexpr int kMinCells = 5;
  constexpr int kMaxCells = 30;
  const int cells = std::min(kMaxCells, width - 1 - used - 2);
  std::string line(label);
  if (cells >= kMinCells) line += "  " + Bar(fraction, cells, utf8);
  line += "  " + percent;
  if (!detail.empty() && (cells >= kMinCells || used <= width - 1)) {
    line += "  ";
    line += detail;
  }
  if (cells < kMinCells)
    line.resize(std::min(line.size(), static_cast<size_t>(std::max(width - 1, 0))));
  return line;
}

ProgressBar::ProgressBar(const Console& console, std::string label)
    : console_(console),
      label_(std::move(label)),
      start_(Clock::now()),
      next_draw_(start_ + kQuiet) {}

void ProgressBar::Update(double fraction, std::string_view detail) {
  if (!console_.err_can_redraw()) return;
  const Clock::time_point now = Clock::now();
  if (now < next_draw_) return;
  next_draw_ = now + kBetweenDrawings;
  std::string text(detail);
  if (fraction >= kMinFractionForEstimate && fraction < 1) {
    const double elapsed = std::chrono::duration<double>(now - start_).count();
    if (!text.empty()) text += "  ";
    text += FormatDuration(elapsed * (1 - fraction) / fraction) + " left";
  }
  const int width = console_.Width(console_.streams().err_fd);
  // Back to the line's start, and what an older, longer line left behind is erased.
  console_.Tell("\r" + ProgressLine(label_, fraction, text, width, console_.utf8()) + "\x1b[K");
  drawn_ = true;
}

void ProgressBar::UpdateCount(int64_t done, int64_t total, std::string_view unit, int64_t already) {
  if (!console_.err_can_redraw() || total <= already) return;
  const double elapsed = std::chrono::duration<double>(Clock::now() - start_).count();
  const auto work = static_cast<double>(done - already);
  const double rate = elapsed > 0 ? work / elapsed : 0;
  Update(work / static_cast<double>(total - already),
         fmt::format("{}/{} {}  {:.{}f} {}/s", done, total, unit, rate, rate < 10 ? 1 : 0, unit));
}

void ProgressBar::Clear() {
  if (drawn_) console_.Tell("\r\x1b[K");
  drawn_ = false;
}

}  // namespace tidal
