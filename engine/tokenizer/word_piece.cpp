#include "engine/tokenizer/word_piece.hpp"

#include <algorithm>

namespace millrace
{

namespace
{

/// Whether `at` is where a character begins, or the end.
bool
is_boundary (std::string_view text, size_t at)
{
  return at == text.size () || (static_cast<unsigned char> (text[at]) & 0xC0) != 0x80;
}

} // namespace

void
WordPiece::set_prefix (std::string_view prefix)
{
  continuing = ByteTrie::kRoot;
  for (const char byte : prefix)
    if (continuing != ByteTrie::kNowhere)
      continuing = pieces.step (continuing, static_cast<unsigned char> (byte));
}

bool
WordPiece::append_pieces (std::string_view word, std::vector<int32_t> &ids) const
{
  for (size_t begin = 0; begin < word.size ();) {
    uint32_t node = begin ? continuing : ByteTrie::kRoot;
    ByteTrie::Match match;
    for (size_t end = begin; end < word.size () && node != ByteTrie::kNowhere;) {
      node = pieces.step (node, static_cast<unsigned char> (word[end++]));
      if (node != ByteTrie::kNowhere && pieces.number (node) != ByteTrie::kNoNumber &&
          is_boundary (word, end))
        match = {end - begin, pieces.number (node)};
    }
    if (match.size == 0 || (whole_words && match.size != word.size ()))
      return false;
    ids.push_back (match.number);
    begin += match.size;
  }
  return true;
}

void
WordPiece::encode (std::string_view word, std::vector<int32_t> &ids) const
{
  const size_t before = ids.size ();
  const auto characters = [&] {
    return static_cast<size_t> (std::count_if (word.begin (), word.end (), [] (char byte) {
      return (static_cast<unsigned char> (byte) & 0xC0) != 0x80;
    }));
  };
  if ((word.size () <= most_characters || characters () <= most_characters) && append_pieces (word, ids))
    return;
  ids.resize (before);
  if (unknown != kNoToken)
    ids.push_back (unknown);
}

} // namespace millrace
