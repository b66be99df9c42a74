// Characters that Unicode 15, 15.1 and 16 added, by general category and, in lower case, by script.
//
// The reference library knows Unicode 16; PCRE2 10.42 knows 14 and ICU 72 knows 15. A newer library has these
// characters already and loses nothing. Source: the Unicode 16 tables of the reference's regular expression
// library (Oniguruma 6.9.10) compared with Unicode 14; lower case mappings from UnicodeData 16.
#pragma once

#include <span>
#include <string_view>

namespace millrace
{

struct UnicodeAddition {
  std::string_view category;
  char32_t first;
  char32_t last;
};

/// Grouped by category; "alphabetic" has the marks among them that are Alphabetic.
std::span<const UnicodeAddition> unicode_additions ();
/// Whether `c` was added in a category that starts with `category`.
bool is_unicode_addition (char32_t c, std::string_view category);
/// The lower case of an added upper case letter; `c` itself for other characters.
char32_t added_lower_case (char32_t c);

} // namespace millrace
