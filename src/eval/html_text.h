// Text for HTML, SVG and CSV.
#ifndef TIDAL_EVAL_HTML_TEXT_H_
#define TIDAL_EVAL_HTML_TEXT_H_

#include <string>
#include <string_view>

namespace tidal {

// For element content and quoted attributes. Control characters, which HTML does not allow, become
// U+FFFD.
std::string EscapeHtml(std::string_view text);

// A CSV field: in quotes where it needs them. What a spreadsheet would run as a formula gets an
// apostrophe in front.
std::string CsvField(std::string_view text);

// At most `digits` significant digits, "–" for NaN, no exponent for what is of ordinary size.
std::string ShortFigure(double value, int digits = 3);

}  // namespace tidal

#endif  // TIDAL_EVAL_HTML_TEXT_H_
