// strftime for a UTC time in the C locale, whatever the process's locale is.
#include "engine/chat/filters.hpp"
#include "engine/chat/format.hpp"

#include <algorithm>
#include <array>

namespace millrace::jinja
{

namespace
{

constexpr std::array<const char *, 7> kDays = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                               "Thursday", "Friday", "Saturday"};
constexpr std::array<const char *, 12> kMonths = {"January",   "February", "March",    "April",
                                                  "May",       "June",     "July",     "August",
                                                  "September", "October",  "November", "December"};

struct Time {
  int64_t year;
  int month, day, hour, minute, second; ///< month and day from 1
  int weekday;                          ///< from Sunday, 0
  int year_day;                         ///< from 0
  int64_t unix_seconds;
};

bool
is_leap (int64_t year)
{
  return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

/// Proleptic Gregorian calendar, days counted from 1 March of year 0 in cycles of 400 years.
Time
break_down (int64_t unix_seconds)
{
  Time time{};
  time.unix_seconds = unix_seconds;
  int64_t days = unix_seconds / 86400, rest = unix_seconds % 86400;
  if (rest < 0) {
    rest += 86400;
    days--;
  }
  time.hour = static_cast<int> (rest / 3600);
  time.minute = static_cast<int> (rest / 60 % 60);
  time.second = static_cast<int> (rest % 60);
  time.weekday = static_cast<int> (((days + 4) % 7 + 7) % 7);
  const int64_t shifted = days + 719468;
  const int64_t era = (shifted >= 0 ? shifted : shifted - 146096) / 146097;
  const int64_t day_of_era = shifted - era * 146097;
  const int64_t year_of_era =
      (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
  const int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  const int64_t month = (5 * day_of_year + 2) / 153; // from March
  time.day = static_cast<int> (day_of_year - (153 * month + 2) / 5 + 1);
  time.month = static_cast<int> (month < 10 ? month + 3 : month - 9);
  time.year = year_of_era + era * 400 + (time.month <= 2);
  static constexpr int kBefore[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
  time.year_day = kBefore[time.month - 1] + time.day - 1 + (time.month > 2 && is_leap (time.year));
  return time;
}

/// ISO 8601 week number and the year that it belongs to.
std::pair<int, int64_t>
iso_week (const Time &time)
{
  const int weekday = (time.weekday + 6) % 7; // from Monday
  int week = (time.year_day - weekday + 10) / 7;
  const auto weeks_in = [] (int64_t year) {
    const auto shift = [] (int64_t y) { return (y + y / 4 - y / 100 + y / 400) % 7; };
    return shift (year) == 4 || shift (year - 1) == 3 ? 53 : 52;
  };
  if (week < 1)
    return {weeks_in (time.year - 1), time.year - 1};
  if (week > weeks_in (time.year))
    return {1, time.year + 1};
  return {week, time.year};
}

class TimeFormatter
{
public:
  explicit TimeFormatter (const Time &time)
      : time_ (time)
  {
  }

  std::string run (std::string_view format)
  {
    std::string out;
    for (size_t i = 0; i < format.size (); i++) {
      if (format[i] != '%' || i + 1 >= format.size ()) {
        out += format[i];
        continue;
      }
      const size_t start = i++;
      flag_ = 0;
      upper_ = false;
      while (i < format.size () && std::string_view ("-_0^#").find (format[i]) != std::string_view::npos) {
        if (format[i] == '^' || format[i] == '#')
          upper_ = true;
        else
          flag_ = format[i];
        i++;
      }
      width_ = 0;
      while (i < format.size () && format[i] >= '0' && format[i] <= '9') {
        width_ = width_ * 10 + (format[i++] - '0');
        check_width (width_);
      }
      std::string text;
      if (i < format.size () && convert (format[i], text)) {
        const auto width = static_cast<size_t> (width_);
        if (text.size () < width)
          text.insert (0, width - text.size (), flag_ == '0' ? '0' : ' ');
        if (upper_)
          std::transform (text.begin (), text.end (), text.begin (),
                          [] (char c) { return c >= 'a' && c <= 'z' ? static_cast<char> (c - 32) : c; });
        out += text;
      } else {
        out += format.substr (start, i + 1 - start); // glibc leaves what it does not know
      }
      spend (1);
    }
    return out;
  }

private:
  std::string padded (int64_t number, size_t digits, char fill = '0')
  {
    const char used = flag_ == '_' ? ' ' : flag_ == '0' ? '0' : fill;
    const size_t wanted = flag_ == '-' ? 0 : width_ > 0 ? static_cast<size_t> (width_) : digits;
    std::string text = std::to_string (number);
    if (text.size () < wanted)
      text.insert (0, wanted - text.size (), used);
    return text;
  }

  bool convert (char conversion, std::string &text)
  {
    const int hour12 = time_.hour % 12 == 0 ? 12 : time_.hour % 12;
    switch (conversion) {
    case 'a':
      text = std::string (kDays[static_cast<size_t> (time_.weekday)], 3);
      return true;
    case 'A':
      text = kDays[static_cast<size_t> (time_.weekday)];
      return true;
    case 'b':
    case 'h':
      text = std::string (kMonths[static_cast<size_t> (time_.month - 1)], 3);
      return true;
    case 'B':
      text = kMonths[static_cast<size_t> (time_.month - 1)];
      return true;
    case 'c':
      text = composed ("%a %b %e %H:%M:%S %Y");
      return true;
    case 'C':
      text = padded (time_.year / 100, 2);
      return true;
    case 'd':
      text = padded (time_.day, 2);
      return true;
    case 'D':
    case 'x':
      text = composed ("%m/%d/%y");
      return true;
    case 'e':
      text = padded (time_.day, 2, ' ');
      return true;
    case 'f':
      text = "000000";
      return true;
    case 'F':
      text = composed ("%Y-%m-%d");
      return true;
    case 'g':
      text = padded (iso_week (time_).second % 100, 2);
      return true;
    case 'G':
      text = padded (iso_week (time_).second, 1);
      return true;
    case 'H':
      text = padded (time_.hour, 2);
      return true;
    case 'I':
      text = padded (hour12, 2);
      return true;
    case 'j':
      text = padded (time_.year_day + 1, 3);
      return true;
    case 'k':
      text = padded (time_.hour, 2, ' ');
      return true;
    case 'l':
      text = padded (hour12, 2, ' ');
      return true;
    case 'm':
      text = padded (time_.month, 2);
      return true;
    case 'M':
      text = padded (time_.minute, 2);
      return true;
    case 'n':
      text = "\n";
      return true;
    case 'p':
      text = time_.hour < 12 ? "AM" : "PM";
      return true;
    case 'P':
      text = time_.hour < 12 ? "am" : "pm";
      return true;
    case 'r':
      text = composed ("%I:%M:%S %p");
      return true;
    case 'R':
      text = composed ("%H:%M");
      return true;
    case 's':
      text = std::to_string (time_.unix_seconds);
      return true;
    case 'S':
      text = padded (time_.second, 2);
      return true;
    case 't':
      text = "\t";
      return true;
    case 'T':
    case 'X':
      text = composed ("%H:%M:%S");
      return true;
    case 'u':
      text = padded (time_.weekday == 0 ? 7 : time_.weekday, 1);
      return true;
    case 'U':
      text = padded ((time_.year_day + 7 - time_.weekday) / 7, 2);
      return true;
    case 'V':
      text = padded (iso_week (time_).first, 2);
      return true;
    case 'w':
      text = padded (time_.weekday, 1);
      return true;
    case 'W':
      text = padded ((time_.year_day + 7 - (time_.weekday + 6) % 7) / 7, 2);
      return true;
    case 'y':
      text = padded (((time_.year % 100) + 100) % 100, 2);
      return true;
    case 'Y':
      text = padded (time_.year, 1);
      return true;
    case 'z':
    case 'Z': // a time without a zone, as datetime.now () gives it
      return true;
    case '%':
      text = "%";
      return true;
    default:
      return false;
    }
  }

  std::string composed (std::string_view format) const { return TimeFormatter (time_).run (format); }

  const Time &time_;
  char flag_ = 0;
  bool upper_ = false;
  int64_t width_ = 0;
};

} // namespace

std::string
format_time (std::string_view format, int64_t unix_seconds)
{
  // datetime's range; beyond it there is nothing that a template could mean
  const int64_t bounded = std::clamp<int64_t> (unix_seconds, -62135596800, 253402300799);
  const Time time = break_down (bounded);
  return TimeFormatter (time).run (format);
}

} // namespace millrace::jinja
