#include "engine/tokenizer/regex_properties.hpp"

#include "engine/tokenizer/unicode_additions.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <stdexcept>

namespace millrace
{

namespace
{

struct Members {
  std::string_view category;
  std::string_view ranges;
};
/// ASCII members of categories that texts are full of.
constexpr Members kAscii[] = {
    {"L", "A-Za-z"}, {"Lu", "A-Z"}, {"Ll", "a-z"}, {"N", "0-9"}, {"Nd", "0-9"},
};

struct Name {
  std::string_view written; ///< lower case, without spaces, hyphens and underscores
  std::string_view property;
};
constexpr Name kCategories[] = {
    {"letter", "L"},
    {"uppercaseletter", "Lu"},
    {"lowercaseletter", "Ll"},
    {"titlecaseletter", "Lt"},
    {"modifierletter", "Lm"},
    {"otherletter", "Lo"},
    {"mark", "M"},
    {"combiningmark", "M"},
    {"nonspacingmark", "Mn"},
    {"spacingmark", "Mc"},
    {"enclosingmark", "Me"},
    {"number", "N"},
    {"decimalnumber", "Nd"},
    {"letternumber", "Nl"},
    {"othernumber", "No"},
    {"digit", "Nd"},
    {"punctuation", "P"},
    {"punct", "P"},
    {"symbol", "S"},
    {"connectorpunctuation", "Pc"},
    {"dashpunctuation", "Pd"},
    {"openpunctuation", "Ps"},
    {"closepunctuation", "Pe"},
    {"initialpunctuation", "Pi"},
    {"finalpunctuation", "Pf"},
    {"otherpunctuation", "Po"},
    {"mathsymbol", "Sm"},
    {"currencysymbol", "Sc"},
    {"modifiersymbol", "Sk"},
    {"othersymbol", "So"},
    {"separator", "Z"},
    {"spaceseparator", "Zs"},
    {"lineseparator", "Zl"},
    {"paragraphseparator", "Zp"},
    {"other", "C"},
    {"control", "Cc"},
    {"cntrl", "Cc"},
    {"format", "Cf"},
    {"surrogate", "Cs"},
    {"privateuse", "Co"},

};
constexpr std::string_view kShortCategories[] = {"L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M",  "Mn", "Mc",
                                                 "Me", "N",  "Nd", "Nl", "No", "P",  "Pc", "Pd", "Ps",
                                                 "Pe", "Pi", "Pf", "Po", "S",  "Sm", "Sc", "Sk", "So",
                                                 "Z",  "Zs", "Zl", "Zp", "C",  "Cc", "Cf", "Co", "Cs"};
constexpr Name kBinary[] = {
    {"any", "Any"},
    {"ideographic", "Ideographic"},
    {"emoji", "Emoji"},
    {"emojipresentation", "Emoji_Presentation"},
    {"emojimodifier", "Emoji_Modifier"},
    {"extendedpictographic", "Extended_Pictographic"},
};

std::string
normalized (std::string_view name)
{
  std::string out;
  for (char c : name) {
    if (c == ' ' || c == '_' || c == '-')
      continue;
    const bool upper = c >= 'A' && c <= 'Z';
    if (!upper && !(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '&')
      throw std::invalid_argument ("\\p{" + std::string (name) + "} is not supported");
    out += upper ? static_cast<char> (c - 'A' + 'a') : c;
  }
  return out;
}

/// Characters of `category`: ASCII and additions, without the property itself.
std::string
members (std::string_view category)
{
  std::string out;
  for (const Members &ascii : kAscii)
    if (ascii.category == category)
      out += ascii.ranges;
  char text[32];
  for (const UnicodeAddition &addition : unicode_additions ()) {
    if (!addition.category.starts_with (category))
      continue;
    std::snprintf (text, sizeof text, "\\x{%X}-\\x{%X}", static_cast<unsigned> (addition.first),
                   static_cast<unsigned> (addition.last));
    out += text;
  }
  return out;
}

std::string
category_set (std::string_view category)
{
  return members (category) + "\\p{" + std::string (category) + "}";
}

} // namespace

std::string
property_set (std::string_view name)
{
  const std::string key = normalized (name);
  if (key == "whitespace" || key == "space")
    return "\\t-\\r\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{"
           "3000}";
  if (key == "word")
    return "_" + members ("L") + members ("M") + members ("Nd") + "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";
  if (key == "alnum")
    return members ("L") + members ("alphabetic") + members ("Nd") + "\\p{Alphabetic}\\p{Nd}";
  if (key == "xdigit")
    return "0-9A-Fa-f";
  if (key == "ascii")
    return "\\x{0}-\\x{7f}";
  if (key == "blank")
    return "\\t\\p{Zs}";
  if (key == "l&" || key == "lc")
    return members ("Lu") + members ("Ll") + "\\p{L&}";
  for (std::string_view category : kShortCategories)
    if (key == normalized (category))
      return category_set (category);
  for (const Name &category : kCategories)
    if (key == category.written)
      return category_set (category.property);
  if (key == "alphabetic" || key == "alpha")
    return members ("L") + members ("alphabetic") + "\\p{Alphabetic}";
  if (key == "uppercase" || key == "upper")
    return members ("Lu") + "\\p{Uppercase}";
  if (key == "lowercase" || key == "lower")
    return members ("Ll") + "\\p{Lowercase}";
  if (key == "cn" || key == "unassigned") // what is assigned depends on the version
    throw std::invalid_argument ("\\p{Cn} is not supported");
  for (const Name &binary : kBinary)
    if (key == binary.written)
      return "\\p{" + std::string (binary.property) + "}";
  // PCRE2 takes a bare script name for the script extensions; Oniguruma means the script.
  return members (key) + "\\p{sc:" + key + "}";
}

std::string
posix_set (std::string_view name)
{
  if (name == "punct")
    return category_set ("P") + category_set ("S");
  constexpr std::array<std::string_view, 11> kNames = {"alpha", "digit", "alnum", "space", "upper", "lower",
                                                       "word",  "ascii", "blank", "cntrl", "xdigit"};
  if (std::find (kNames.begin (), kNames.end (), name) == kNames.end ())
    throw std::invalid_argument ("[:" + std::string (name) + ":] is not supported");
  return property_set (name);
}

} // namespace millrace
