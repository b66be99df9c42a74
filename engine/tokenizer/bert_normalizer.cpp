#include "engine/tokenizer/bert_normalizer.hpp"

#include "engine/tokenizer/unicode_additions.hpp"
#include "engine/tokenizer/utf8.hpp"

#include <unicode/uchar.h>

namespace millrace
{

namespace
{

/// The general category as of Unicode 8, which the reference's tables are of: what came later is unassigned to it, and a few
/// characters had another category.
int8_t
category_of (char32_t c)
{
  switch (c) {
  case 0x166D:
  case 0x111C9:
    return U_OTHER_PUNCTUATION;
  case 0x1734:
    return U_NON_SPACING_MARK;
  case 0x1885:
  case 0x1886:
    return U_OTHER_LETTER;
  case 0x1CF2:
  case 0x1CF3:
  case 0xA9BD:
    return U_COMBINING_SPACING_MARK;
  default:
    break;
  }
  UVersionInfo age{};
  u_charAge (static_cast<UChar32> (c), age);
  return age[0] > 8 ? static_cast<int8_t> (U_UNASSIGNED) : u_charType (static_cast<UChar32> (c));
}

/// For StripAccents, whose table is of Unicode 9.
bool
is_mark (char32_t c)
{
  if (c == 0x1885 || c == 0x1886)
    return true;
  UVersionInfo age{};
  u_charAge (static_cast<UChar32> (c), age);
  const int8_t category = age[0] == 9 ? u_charType (static_cast<UChar32> (c)) : category_of (c);
  return U_MASK (category) & U_GC_M_MASK;
}

bool
is_control (char32_t c)
{
  return c != '\t' && c != '\n' && c != '\r' &&
         (U_MASK (category_of (c)) & (U_GC_CC_MASK | U_GC_CF_MASK | U_GC_CO_MASK));
}

/// The blocks of CJK ideographs that the first BERT knew.
bool
is_chinese (char32_t c)
{
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
         (c >= 0x2A700 && c <= 0x2B73F) || (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

} // namespace

bool
is_bert_punctuation (char32_t c)
{
  if (c < 0x80)
    return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') ||
           (c >= '{' && c <= '~');
  return U_MASK (category_of (c)) & U_GC_P_MASK;
}

void
clean_for_bert (const BertNormalizer &bert, std::string_view text, std::string &out)
{
  for (size_t at = 0; at < text.size ();) {
    const utf8::Decoded c = utf8::decode (text, at);
    const std::string_view bytes = text.substr (at, static_cast<size_t> (c.size));
    at += static_cast<size_t> (c.size);
    if (bert.clean_text && (c.code_point == 0 || c.code_point == 0xFFFD || is_control (c.code_point)))
      continue;
    if (bert.clean_text && utf8::is_white_space (c.code_point))
      out += ' ';
    else if (bert.handle_chinese_chars && is_chinese (c.code_point))
      out.append (" ").append (bytes).append (" ");
    else
      out += bytes;
  }
}

void
remove_nonspacing_marks (std::string_view text, std::string &out)
{
  for (size_t at = 0; at < text.size ();) {
    const utf8::Decoded c = utf8::decode (text, at);
    if (category_of (c.code_point) != U_NON_SPACING_MARK)
      out += text.substr (at, static_cast<size_t> (c.size));
    at += static_cast<size_t> (c.size);
  }
}

void
remove_marks (std::string_view text, std::string &out)
{
  for (size_t at = 0; at < text.size ();) {
    const utf8::Decoded c = utf8::decode (text, at);
    if (!is_mark (c.code_point))
      out += text.substr (at, static_cast<size_t> (c.size));
    at += static_cast<size_t> (c.size);
  }
}

void
append_lower_case (char32_t character, std::string &out)
{
  if (character == 0x130) // the one character whose lower case, taken alone, is two
    out += "i\u0307";
  else
    utf8::append (added_lower_case (static_cast<char32_t> (u_tolower (static_cast<UChar32> (character)))),
                  out);
}

void
cut_for_bert (std::string_view text, std::vector<std::string_view> &words)
{
  size_t begin = 0;
  for (size_t at = 0; at < text.size ();) {
    const utf8::Decoded c = utf8::decode (text, at);
    const auto size = static_cast<size_t> (c.size);
    const bool space = utf8::is_white_space (c.code_point);
    if (space || is_bert_punctuation (c.code_point)) {
      if (begin < at)
        words.push_back (text.substr (begin, at - begin));
      if (!space)
        words.push_back (text.substr (at, size));
      begin = at + size;
    }
    at += size;
  }
  if (begin < text.size ())
    words.push_back (text.substr (begin));
}

} // namespace millrace
