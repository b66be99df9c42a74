#include "engine/tokenizer/known_pattern.hpp"

#include "engine/tokenizer/known_patterns.hpp"
#include "engine/tokenizer/unicode_additions.hpp"
#include "engine/tokenizer/utf8.hpp"

#include <unicode/uchar.h>

#include <algorithm>
#include <vector>

namespace millrace
{

namespace
{

/// Classes of characters; each is a bit.
enum Class : uint8_t { kLetter = 1, kNumber = 2, kSpace = 4, kLineEnd = 8, kMark = 16, kOther = 32 };

constexpr size_t kCodePoints = 0x110000;

uint8_t
class_of_category (int8_t category)
{
  const uint32_t mask = U_MASK (category);
  return mask & U_GC_L_MASK ? kLetter : mask & U_GC_N_MASK ? kNumber : mask & U_GC_M_MASK ? kMark : kOther;
}

UBool U_CALLCONV
set_range (const void *context, UChar32 start, UChar32 limit, UCharCategory category)
{
  auto &classes = *static_cast<std::vector<uint8_t> *> (const_cast<void *> (context));
  std::fill (classes.begin () + start, classes.begin () + limit,
             class_of_category (static_cast<int8_t> (category)));
  return true;
}

std::vector<uint8_t>
make_classes ()
{
  std::vector<uint8_t> classes (kCodePoints, kOther);
  u_enumCharTypes (set_range, &classes);
  for (const UnicodeAddition &addition : unicode_additions ()) {
    const uint8_t added = addition.category.starts_with ('L')   ? kLetter
                          : addition.category.starts_with ('N') ? kNumber
                          : addition.category.starts_with ('M') ? kMark
                                                                : 0;
    for (char32_t c = addition.first; added && c <= addition.last; c++)
      if (u_charType (static_cast<UChar32> (c)) == U_UNASSIGNED)
        classes[c] = added;
  }
  for (UChar32 c = 0; c <= 0x3000; c++) // all white space of Unicode is there
    if (u_isUWhiteSpace (c))
      classes[static_cast<size_t> (c)] = kSpace;
  classes['\r'] = classes['\n'] = kSpace | kLineEnd;
  return classes;
}

const uint8_t *
all_classes ()
{
  static const std::vector<uint8_t> classes = make_classes ();
  return classes.data ();
}

/// A character's class and size, by the table.
struct Seen {
  uint8_t kind;
  size_t size;
};

inline Seen
look (const uint8_t *classes, std::string_view text, size_t at)
{
  const auto byte = static_cast<unsigned char> (text[at]);
  if (byte < 0x80)
    return {classes[byte], 1};
  const utf8::Decoded c = utf8::decode (text, at);
  return {classes[c.code_point], static_cast<size_t> (c.size)};
}

/// Where the run of characters of `kinds` ends.
inline size_t
end_of_run (const uint8_t *classes, std::string_view text, size_t at, uint8_t kinds)
{
  while (at < text.size ()) {
    const Seen seen = look (classes, text, at);
    if (!(seen.kind & kinds))
      break;
    at += seen.size;
  }
  return at;
}

/// White space that no other part of a pattern took: `\s+(?!\S)|\s+`. The last character of a run belongs to what follows.
inline size_t
end_of_space (const uint8_t *classes, std::string_view text, size_t begin)
{
  size_t at = begin, last = begin;
  while (at < text.size ()) {
    const Seen seen = look (classes, text, at);
    if (!(seen.kind & kSpace))
      return last > begin ? last : at;
    last = at;
    at += seen.size;
  }
  return at;
}

/// The size of "'s", "'t", "'re", "'ve", "'m", "'ll" or "'d" at `at`; 0: none.
inline size_t
contraction (std::string_view text, size_t at, bool any_case)
{
  if (text[at] != '\'' || at + 1 == text.size ())
    return 0;
  const auto letter = [&] (size_t i) -> char {
    if (i >= text.size ())
      return 0;
    const char c = text[i];
    return any_case && c >= 'A' && c <= 'Z' ? static_cast<char> (c + 'a' - 'A') : c;
  };
  switch (letter (at + 1)) {
  case 's':
  case 't':
  case 'm':
  case 'd':
    return 2;
  case 'r':
  case 'v':
    return letter (at + 2) == 'e' ? 3 : 0;
  case 'l':
    return letter (at + 2) == 'l' ? 3 : 0;
  default:
    return any_case && text.substr (at + 1).starts_with ("ſ") ? 3 : 0; // ſ is an s of another case
  }
}

} // namespace

KnownPattern::KnownPattern (Kind kind)
    : kind_ (kind)
    , classes_ (all_classes ())
    , letters_ (kind == kQwen35 ? kLetter | kMark : kLetter)
{
}

KnownPattern
KnownPattern::find (std::string_view pattern)
{
  if (pattern == kByteLevelPattern)
    return KnownPattern (kGpt2);
  if (pattern == kLlama3Pattern)
    return KnownPattern (kLlama3);
  if (pattern == kQwen2Pattern)
    return KnownPattern (kQwen2);
  if (pattern == kQwen35Pattern)
    return KnownPattern (kQwen35);
  return {};
}

size_t
KnownPattern::end_of_match (std::string_view text, size_t begin) const
{
  return kind_ == kGpt2 ? end_of_gpt2 (text, begin) : end_of_later (text, begin);
}

size_t
KnownPattern::end_of_gpt2 (std::string_view text, size_t begin) const
{
  if (const size_t size = contraction (text, begin, false))
    return begin + size;
  size_t at = begin;
  Seen seen = look (classes_, text, at);
  if (text[at] == ' ' && at + 1 < text.size ())
    seen = look (classes_, text, ++at);
  if (seen.kind & kSpace)
    return end_of_space (classes_, text, begin);
  const uint8_t kinds = seen.kind == kLetter ? kLetter : seen.kind == kNumber ? kNumber : kMark | kOther;
  return end_of_run (classes_, text, at + seen.size, kinds);
}

size_t
KnownPattern::end_of_later (std::string_view text, size_t begin) const
{
  const Seen first = look (classes_, text, begin);
  size_t at = begin + first.size;
  if (first.kind & letters_)
    return end_of_run (classes_, text, at, letters_);
  if (first.kind == kNumber) {
    for (int more = kind_ == kLlama3 ? 2 : 0; more > 0 && at < text.size (); more--) {
      const Seen next = look (classes_, text, at);
      if (next.kind != kNumber)
        break;
      at += next.size;
    }
    return at;
  }
  if (const size_t size = contraction (text, begin, true))
    return begin + size;

  const Seen second = at < text.size () ? look (classes_, text, at) : Seen{0, 0};
  if (!(first.kind & kLineEnd) && (second.kind & letters_))
    return end_of_run (classes_, text, at + second.size, letters_);
  const auto others = static_cast<uint8_t> ((kMark | kOther) & ~letters_);
  if ((first.kind & others) || (text[begin] == ' ' && (second.kind & others))) {
    at = end_of_run (classes_, text, at, others);
    return end_of_run (classes_, text, at, kLineEnd);
  }

  // White space: up to the last end of a line in it, or all but its last character.
  size_t last = begin, after_line_end = 0;
  for (at = begin; at < text.size ();) {
    const Seen seen = look (classes_, text, at);
    if (!(seen.kind & kSpace))
      break;
    last = at;
    at += seen.size;
    if (seen.kind & kLineEnd)
      after_line_end = at;
  }
  if (after_line_end)
    return after_line_end;
  return at == text.size () || last == begin ? at : last;
}

} // namespace millrace
