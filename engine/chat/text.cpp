#include "engine/chat/text.hpp"

#include <algorithm>

namespace millrace::jinja
{

uint32_t
decode (std::string_view text, size_t &position)
{
  const auto byte = [&] (size_t i) { return static_cast<uint8_t> (text[i]); };
  const auto follows = [&] (size_t i) { return i < text.size () && (byte (i) & 0xc0) == 0x80; };
  const size_t at = position;
  const uint8_t lead = byte (at);
  if (lead >= 0xc2 && lead < 0xe0 && follows (at + 1)) {
    position += 2;
    return (lead & 0x1fu) << 6 | (byte (at + 1) & 0x3fu);
  }
  if (lead >= 0xe0 && lead < 0xf0 && follows (at + 1) && follows (at + 2)) {
    position += 3;
    return (lead & 0x0fu) << 12 | (byte (at + 1) & 0x3fu) << 6 | (byte (at + 2) & 0x3fu);
  }
  if (lead >= 0xf0 && lead < 0xf5 && follows (at + 1) && follows (at + 2) && follows (at + 3)) {
    position += 4;
    return (lead & 0x07u) << 18 | (byte (at + 1) & 0x3fu) << 12 | (byte (at + 2) & 0x3fu) << 6 |
           (byte (at + 3) & 0x3fu);
  }
  position += 1;
  return lead;
}

void
append_utf8 (std::string &out, uint32_t character)
{
  if (character > 0x10ffff || (character >= 0xd800 && character < 0xe000))
    character = 0xfffd;
  if (character < 0x80) {
    out += static_cast<char> (character);
  } else if (character < 0x800) {
    out += static_cast<char> (0xc0 | character >> 6);
    out += static_cast<char> (0x80 | (character & 0x3f));
  } else if (character < 0x10000) {
    out += static_cast<char> (0xe0 | character >> 12);
    out += static_cast<char> (0x80 | (character >> 6 & 0x3f));
    out += static_cast<char> (0x80 | (character & 0x3f));
  } else {
    out += static_cast<char> (0xf0 | character >> 18);
    out += static_cast<char> (0x80 | (character >> 12 & 0x3f));
    out += static_cast<char> (0x80 | (character >> 6 & 0x3f));
    out += static_cast<char> (0x80 | (character & 0x3f));
  }
}

size_t
count_characters (std::string_view text)
{
  size_t count = 0;
  for (const char c : text)
    count += (static_cast<uint8_t> (c) & 0xc0) != 0x80;
  return count;
}

size_t
byte_offset (std::string_view text, size_t index)
{
  size_t position = 0;
  for (; position < text.size (); position++) {
    if ((static_cast<uint8_t> (text[position]) & 0xc0) != 0x80 && index-- == 0)
      return position;
  }
  return text.size ();
}

bool
is_valid_utf8 (std::string_view text)
{
  for (size_t position = 0; position < text.size ();) {
    const auto lead = static_cast<uint8_t> (text[position]);
    if (lead < 0x80) {
      position++;
      continue;
    }
    const size_t start = position;
    const uint32_t character = decode (text, position);
    const size_t length = position - start;
    if (length == 1 || (length == 3 && character < 0x800) || (length == 4 && character < 0x10000) ||
        character > 0x10ffff || (character >= 0xd800 && character < 0xe000))
      return false;
  }
  return true;
}

uint32_t
character_flags (uint32_t character)
{
  const auto *end = kCharacterFlags + kCharacterFlagCount;
  const auto *next = std::upper_bound (kCharacterFlags, end, character << 11 | 0x7ff);
  return next == kCharacterFlags ? 0 : next[-1] & 0x7ff;
}

bool
is_space (uint32_t character)
{
  if (character < 0x80)
    return character == ' ' || (character >= 9 && character <= 13) || (character >= 28 && character <= 31);
  return character_flags (character) & kSpace;
}

bool
all_have (std::string_view text, uint32_t flags)
{
  for (size_t position = 0; position < text.size ();) {
    if (!(character_flags (decode (text, position)) & flags))
      return false;
  }
  return !text.empty ();
}

namespace
{

const CaseRun *
find_run (const CaseRun *runs, size_t count, uint32_t character)
{
  const auto *end = runs + count;
  const auto *run =
      std::lower_bound (runs, end, character, [] (const CaseRun &r, uint32_t c) { return r.last < c; });
  if (run == end || character < run->first || (character - run->first) % run->stride != 0)
    return nullptr;
  return run;
}

const CaseSpecial *
find_special (uint32_t character, CaseKind kind)
{
  const auto *end = kCaseSpecials + kCaseSpecialCount;
  const auto *special = std::lower_bound (kCaseSpecials, end, character,
                                          [] (const CaseSpecial &s, uint32_t c) { return s.character < c; });
  for (; special != end && special->character == character; special++) {
    if (special->kind == kind)
      return special;
  }
  return nullptr;
}

void
append_mapped (std::string &out, uint32_t character, CaseKind kind)
{
  if (const auto *special = find_special (character, kind)) {
    for (const uint32_t c : special->result) {
      if (c)
        append_utf8 (out, c);
    }
    return;
  }
  const CaseRun *run = nullptr;
  switch (kind) {
  case CaseKind::kLower:
    run = find_run (kLowerRuns, kLowerRunCount, character);
    break;
  case CaseKind::kUpper:
    run = find_run (kUpperRuns, kUpperRunCount, character);
    break;
  case CaseKind::kTitle: // stored where it differs from upper case
    run = find_run (kTitleRuns, kTitleRunCount, character);
    if (!run)
      return append_mapped (out, character, CaseKind::kUpper);
    break;
  case CaseKind::kFold: // stored where it differs from lower case
    run = find_run (kFoldRuns, kFoldRunCount, character);
    if (!run)
      return append_mapped (out, character, CaseKind::kLower);
    break;
  }
  append_utf8 (out, run ? static_cast<uint32_t> (static_cast<int32_t> (character) + run->delta) : character);
}

/// Capital sigma at a word's end becomes ς: a cased letter before it, none after, ignorable ones skipped.
bool
is_final_sigma (std::string_view text, size_t start, size_t end)
{
  size_t before = start;
  bool cased_before = false;
  while (before > 0) {
    do
      before--;
    while (before > 0 && (static_cast<uint8_t> (text[before]) & 0xc0) == 0x80);
    size_t position = before;
    const uint32_t flags = character_flags (decode (text, position));
    if (flags & kCaseIgnorable)
      continue;
    cased_before = flags & kCased;
    break;
  }
  if (!cased_before)
    return false;
  while (end < text.size ()) {
    const uint32_t flags = character_flags (decode (text, end));
    if (!(flags & kCaseIgnorable))
      return !(flags & kCased);
  }
  return true;
}

void
append_lower (std::string &out, std::string_view text, size_t start, size_t end, uint32_t character)
{
  if (character == 0x3a3)
    append_utf8 (out, is_final_sigma (text, start, end) ? 0x3c2 : 0x3c3);
  else
    append_mapped (out, character, CaseKind::kLower);
}

/// Calls visit (character, start, end) for each character of text.
template <typename Visit>
void
for_each_character (std::string_view text, Visit visit)
{
  for (size_t position = 0; position < text.size ();) {
    const size_t start = position;
    const uint32_t character = decode (text, position);
    visit (character, start, position);
  }
}

} // namespace

std::string
to_lower (std::string_view text)
{
  std::string out;
  out.reserve (text.size ());
  for_each_character (text, [&] (uint32_t c, size_t start, size_t end) {
    if (c < 0x80)
      out += static_cast<char> (c >= 'A' && c <= 'Z' ? c + 32 : c);
    else
      append_lower (out, text, start, end, c);
  });
  return out;
}

std::string
to_upper (std::string_view text)
{
  std::string out;
  out.reserve (text.size ());
  for_each_character (text, [&] (uint32_t c, size_t, size_t) {
    if (c < 0x80)
      out += static_cast<char> (c >= 'a' && c <= 'z' ? c - 32 : c);
    else
      append_mapped (out, c, CaseKind::kUpper);
  });
  return out;
}

std::string
casefold (std::string_view text)
{
  std::string out;
  for_each_character (text, [&] (uint32_t c, size_t, size_t) { append_mapped (out, c, CaseKind::kFold); });
  return out;
}

std::string
capitalize (std::string_view text)
{
  std::string out;
  for_each_character (text, [&] (uint32_t c, size_t start, size_t end) {
    if (start == 0)
      append_mapped (out, c, CaseKind::kTitle);
    else
      append_lower (out, text, start, end, c);
  });
  return out;
}

std::string
title (std::string_view text)
{
  std::string out;
  bool previous_cased = false;
  for_each_character (text, [&] (uint32_t c, size_t start, size_t end) {
    if (previous_cased)
      append_lower (out, text, start, end, c);
    else
      append_mapped (out, c, CaseKind::kTitle);
    previous_cased = character_flags (c) & kCased;
  });
  return out;
}

std::string
swap_case (std::string_view text)
{
  std::string out;
  for_each_character (text, [&] (uint32_t c, size_t start, size_t end) {
    const uint32_t flags = character_flags (c);
    if (flags & kUpper)
      append_lower (out, text, start, end, c);
    else if (flags & kLower)
      append_mapped (out, c, CaseKind::kUpper);
    else
      append_utf8 (out, c);
  });
  return out;
}

bool
is_lower (std::string_view text)
{
  bool cased = false, ok = true;
  for_each_character (text, [&] (uint32_t c, size_t, size_t) {
    const uint32_t flags = character_flags (c);
    ok = ok && !(flags & (kUpper | kTitle));
    cased = cased || (flags & kLower);
  });
  return ok && cased;
}

bool
is_upper (std::string_view text)
{
  bool cased = false, ok = true;
  for_each_character (text, [&] (uint32_t c, size_t, size_t) {
    const uint32_t flags = character_flags (c);
    ok = ok && !(flags & (kLower | kTitle));
    cased = cased || (flags & kUpper);
  });
  return ok && cased;
}

bool
is_title (std::string_view text)
{
  bool cased = false, ok = true, previous_cased = false;
  for_each_character (text, [&] (uint32_t c, size_t, size_t) {
    const uint32_t flags = character_flags (c);
    if (flags & (kUpper | kTitle)) {
      ok = ok && !previous_cased;
      previous_cased = cased = true;
    } else if (flags & kLower) {
      ok = ok && previous_cased;
      previous_cased = cased = true;
    } else {
      previous_cased = false;
    }
  });
  return ok && cased;
}

bool
is_identifier (std::string_view text)
{
  bool ok = !text.empty ();
  for_each_character (text, [&] (uint32_t c, size_t start, size_t) {
    const uint32_t flags = character_flags (c);
    const bool letter = c == '_' || (flags & kAlpha);
    ok = ok && (letter || (start > 0 && ((flags & kDecimal) || (c >= 0x80 && (flags & kCaseIgnorable)))));
  });
  return ok;
}

namespace
{

template <typename Matches>
std::string_view
strip_while (std::string_view text, Side side, Matches matches)
{
  size_t begin = 0, end = text.size ();
  if (static_cast<uint8_t> (side) & static_cast<uint8_t> (Side::kLeft)) {
    while (begin < end) {
      size_t position = begin;
      if (!matches (decode (text, position)))
        break;
      begin = position;
    }
  }
  if (static_cast<uint8_t> (side) & static_cast<uint8_t> (Side::kRight)) {
    while (end > begin) {
      size_t last = end - 1;
      while (last > begin && (static_cast<uint8_t> (text[last]) & 0xc0) == 0x80)
        last--;
      size_t position = last;
      if (!matches (decode (text, position)))
        break;
      end = last;
    }
  }
  return text.substr (begin, end - begin);
}

} // namespace

std::string_view
strip (std::string_view text, Side side)
{
  return strip_while (text, side, is_space);
}

std::string_view
strip (std::string_view text, std::string_view set, Side side)
{
  std::vector<uint32_t> members;
  for_each_character (set, [&] (uint32_t c, size_t, size_t) { members.push_back (c); });
  std::sort (members.begin (), members.end ());
  return strip_while (text, side,
                      [&] (uint32_t c) { return std::binary_search (members.begin (), members.end (), c); });
}

std::vector<std::string_view>
split_lines (std::string_view text, bool keep_ends)
{
  std::vector<std::string_view> lines;
  size_t line = 0;
  for (size_t position = 0; position < text.size ();) {
    const size_t start = position;
    const uint32_t c = decode (text, position);
    const bool ends = (c >= 10 && c <= 13) || (c >= 28 && c <= 30) || c == 0x85 || c == 0x2028 || c == 0x2029;
    if (!ends)
      continue;
    if (c == '\r' && position < text.size () && text[position] == '\n')
      position++;
    lines.push_back (text.substr (line, (keep_ends ? position : start) - line));
    line = position;
  }
  if (line < text.size ())
    lines.push_back (text.substr (line));
  return lines;
}

std::string
escape_html (std::string_view text)
{
  std::string out;
  out.reserve (text.size ());
  for (const char c : text) {
    switch (c) {
    case '&':
      out += "&amp;";
      break;
    case '<':
      out += "&lt;";
      break;
    case '>':
      out += "&gt;";
      break;
    case '\'':
      out += "&#39;";
      break;
    case '"':
      out += "&#34;";
      break;
    default:
      out += c;
    }
  }
  return out;
}

} // namespace millrace::jinja
