// Contents of the character sets that tokenizer regexes name, for a PCRE2 class.
//
// Text to be put between brackets: characters and ranges first, properties last, so that a following hyphen
// can be told apart. ASCII members are spelled out because PCRE2 finds those in a bitmap.
#pragma once

#include <string>
#include <string_view>

namespace millrace
{

/// Contents of \p{name}: a general category, a script, a binary property, or "Word" (\w of UTS #18).
/// Throws std::invalid_argument for names that cannot be one.
std::string property_set (std::string_view name);
/// Contents of [:name:].
std::string posix_set (std::string_view name);

} // namespace millrace
