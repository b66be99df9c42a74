// Numbers of bytes, and of other things, as people read them.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>

namespace millrace
{

/// Three digits and a prefix, in steps of `step`: "999", "1.02k", "45.6M".
inline std::string
scaled_text (double value, double step, const char *const (&units)[6])
{
  size_t unit = 0;
  for (; value >= step - 0.5 && unit < 5; ++unit)
    value /= step;
  char text[32];
  std::snprintf (text, sizeof text, "%.*f%s",
                 unit == 0 || value >= 99.95 ? 0
                 : value >= 9.995            ? 1
                                             : 2,
                 value, units[unit]);
  return text;
}

/// "1.50 GiB": powers of 1024, as memory is counted.
inline std::string
size_text (uint64_t bytes)
{
  static constexpr const char *kUnits[6] = {" B", " KiB", " MiB", " GiB", " TiB", " PiB"};
  return scaled_text (static_cast<double> (bytes), 1024, kUnits);
}

/// "7.24B": powers of 1000, as parameters are counted.
inline std::string
count_text (uint64_t count)
{
  static constexpr const char *kUnits[6] = {"", "K", "M", "B", "T", "Q"};
  return scaled_text (static_cast<double> (count), 1000, kUnits);
}

} // namespace millrace
