// Translates the regular expressions of tokenizer.json, which are Oniguruma's (Ruby syntax), into PCRE2's.
//
// The two agree on most of the syntax but not on what the classes contain: \s is White_Space, \w is that of
// UTS #18, general categories are those of Unicode 16 (PCRE2 10.42 has 14), \p{Script} is not the extended
// one, (?m) means "dot matches newline", {n}+ is not possessive. What has no equivalent is refused by name.
// Sources: Oniguruma 6.9.10 doc/RE and its Unicode tables; pcre2pattern(3).
#pragma once

#include <string>
#include <string_view>

namespace millrace
{

/// The pattern for PCRE2 with UTF, UCP and MULTILINE; throws std::invalid_argument saying what is not
/// supported. `pattern` must be valid UTF-8. Linear; no recursion.
std::string translate_regex (std::string_view pattern);

} // namespace millrace
