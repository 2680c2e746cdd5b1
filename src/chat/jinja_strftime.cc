#include "chat/jinja_strftime.h"

#include <chrono>

namespace tidal::jinja {
namespace {

constexpr std::string_view kMonths[] = {"January",   "February", "March",    "April",
                                        "May",       "June",     "July",     "August",
                                        "September", "October",  "November", "December"};
constexpr std::string_view kDays[] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                      "Thursday", "Friday", "Saturday"};

std::chrono::year_month_day DateOf(const TemplateTime& time) {
  return {std::chrono::year(time.year), std::chrono::month(static_cast<unsigned>(time.month)),
          std::chrono::day(static_cast<unsigned>(time.day))};
}

struct Calendar {
  int weekday = 0;   // 0 is Sunday
  int year_day = 0;  // 0 is the first of January
  int iso_year = 0;
  int iso_week = 0;
};

Calendar CalendarOf(const TemplateTime& time) {
  using std::chrono::days;
  using std::chrono::sys_days;
  const auto first_of = [](int year) {
    return sys_days(std::chrono::year(year) / std::chrono::January / 1);
  };
  const sys_days date = DateOf(time);
  Calendar calendar;
  calendar.weekday = static_cast<int>(std::chrono::weekday(date).c_encoding());
  calendar.year_day = static_cast<int>((date - first_of(time.year)).count());
  // An ISO week belongs to the year of its Thursday.
  const sys_days thursday = date + days(3 - (calendar.weekday + 6) % 7);
  calendar.iso_year = static_cast<int>(std::chrono::year_month_day(thursday).year());
  calendar.iso_week = static_cast<int>((thursday - first_of(calendar.iso_year)).count()) / 7 + 1;
  return calendar;
}

// A number padded to a width with '0' or ' ', or as `flag` asks: '-' not at all, '_' with spaces,
// '0' with zeros.
std::string Padded(int value, int width, char padding, char flag) {
  if (flag == '-') return std::to_string(value);
  if (flag == '_') padding = ' ';
  if (flag == '0') padding = '0';
  return padding == '0' ? fmt::format("{:0{}}", value, width) : fmt::format("{:{}}", value, width);
}

// The text of one field; nothing for one that does not exist.
std::string FormatOne(const TemplateTime& time, char field, char flag) {
  const Calendar calendar = CalendarOf(time);
  const int hour12 = time.hour % 12 == 0 ? 12 : time.hour % 12;
  const std::string_view month = kMonths[time.month - 1];
  const std::string_view day = kDays[calendar.weekday];
  switch (field) {
    case 'a':
      return std::string(day.substr(0, 3));
    case 'A':
      return std::string(day);
    case 'b':
    case 'h':
      return std::string(month.substr(0, 3));
    case 'B':
      return std::string(month);
    case 'c':
      return FormatTime(time, "%a %b %e %H:%M:%S %Y");
    case 'C':
      return Padded(time.year / 100, 2, '0', flag);
    case 'd':
      return Padded(time.day, 2, '0', flag);
    case 'D':
    case 'x':
      return FormatTime(time, "%m/%d/%y");
    case 'e':
      return Padded(time.day, 2, ' ', flag);
    case 'f':
      return "000000";  // microseconds, which a TemplateTime does not have
    case 'F':
      return FormatTime(time, "%Y-%m-%d");
    case 'g':
      return Padded(calendar.iso_year % 100, 2, '0', flag);
    case 'G':
      return std::to_string(calendar.iso_year);
    case 'H':
      return Padded(time.hour, 2, '0', flag);
    case 'I':
      return Padded(hour12, 2, '0', flag);
    case 'j':
      return Padded(calendar.year_day + 1, 3, '0', flag);
    case 'k':
      return Padded(time.hour, 2, ' ', flag);
    case 'l':
      return Padded(hour12, 2, ' ', flag);
    case 'm':
      return Padded(time.month, 2, '0', flag);
    case 'M':
      return Padded(time.minute, 2, '0', flag);
    case 'n':
      return "\n";
    case 'p':
      return time.hour < 12 ? "AM" : "PM";
    case 'P':
      return time.hour < 12 ? "am" : "pm";
    case 'r':
      return FormatTime(time, "%I:%M:%S %p");
    case 'R':
      return FormatTime(time, "%H:%M");
    case 'S':
      return Padded(time.second, 2, '0', flag);
    case 't':
      return "\t";
    case 'T':
    case 'X':
      return FormatTime(time, "%H:%M:%S");
    case 'u':
      return std::to_string(calendar.weekday == 0 ? 7 : calendar.weekday);
    case 'U':
      return Padded((calendar.year_day + 7 - calendar.weekday) / 7, 2, '0', flag);
    case 'V':
      return Padded(calendar.iso_week, 2, '0', flag);
    case 'w':
      return std::to_string(calendar.weekday);
    case 'W':
      return Padded((calendar.year_day + 7 - (calendar.weekday + 6) % 7) / 7, 2, '0', flag);
    case 'y':
      return Padded(time.year % 100, 2, '0', flag);
    case 'Y':
      return std::to_string(time.year);
    case '%':
      return "%";
    default:
      return "";
  }
}

constexpr std::string_view kFields = "aAbBcCdDeFfgGhHIjklmMnpPrRStTuUVwWxXyY%";

}  // namespace

bool IsValidTime(const TemplateTime& time) {
  return time.year >= 1 && time.year <= 9999 && time.month >= 1 && time.month <= 12 &&
         time.day >= 1 && DateOf(time).ok() && time.hour >= 0 && time.hour < 24 &&
         time.minute >= 0 && time.minute < 60 && time.second >= 0 && time.second <= 60;
}

std::string FormatTime(const TemplateTime& time, std::string_view format) {
  std::string out;
  for (size_t pos = 0; pos < format.size();) {
    if (format[pos] != '%' || pos + 1 == format.size()) {
      out.push_back(format[pos++]);
      continue;
    }
    const char next = format[pos + 1];
    const bool has_flag = (next == '-' || next == '_' || next == '0') && pos + 2 < format.size();
    const char flag = has_flag ? next : '\0';
    const size_t length = has_flag ? 3 : 2;
    const char field = format[pos + length - 1];
    if (kFields.find(field) != std::string_view::npos) {
      out += FormatOne(time, field, flag);
    } else if (field != 'z' && field != 'Z') {
      out += format.substr(pos, length);
    }
    pos += length;
  }
  return out;
}

}  // namespace tidal::jinja
