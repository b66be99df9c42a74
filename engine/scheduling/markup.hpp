// Text with markup, as subtitles have it, to the text that a reader sees.
#pragma once

#include <string>
#include <string_view>

namespace millrace
{

/// Drops the tags of Pango's markup (`<i>`, `</span>`, …) and resolves `&amp;`, `&lt;`, `&gt;`, `&quot;`, `&apos;` and
/// numeric references. What is neither, as a lone `<` or an unknown reference, stays as it is: any bytes are taken, and
/// the result is never longer than they are. Source: the markup chapter of Pango's reference; XML 1.0 §4.1.
std::string text_of_markup (std::string_view markup);

} // namespace millrace
