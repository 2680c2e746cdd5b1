// An axis of a chart: where a value lies, and where its ticks are.
#ifndef TIDAL_EVAL_SVG_AXIS_H_
#define TIDAL_EVAL_SVG_AXIS_H_

#include <vector>

#include "eval/svg_chart.h"

namespace tidal {

class SvgAxis {
 public:
  // Shows `values` between the positions `from` and `to`. Values that the scale cannot show are
  // ignored; there may be none that it can (empty()).
  SvgAxis(AxisScale scale, const std::vector<double>& values, double from, double to);

  bool empty() const { return !(low_ <= high_); }
  bool Shows(double value) const;
  // REQUIRES: Shows(value). Values beyond the ends are moved to them.
  double At(double value) const;
  // Between three and nine, mostly.
  const std::vector<double>& ticks() const { return ticks_; }

 private:
  double Position(double value) const;  // on a linear scale
  void SetLinearTicks();
  void SetLogTicks();

  AxisScale scale_;
  double low_;  // positions of the ends
  double high_;
  double from_;
  double to_;
  std::vector<double> ticks_;
};

}  // namespace tidal

#endif  // TIDAL_EVAL_SVG_AXIS_H_
