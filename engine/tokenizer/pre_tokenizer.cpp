#include "engine/tokenizer/pre_tokenizer.hpp"

#include "engine/tokenizer/utf8.hpp"

#include <algorithm>

namespace millrace
{

namespace
{

void
digit_pieces (std::string_view text, std::vector<Piece> &pieces)
{
  size_t covered = 0;
  for (size_t at = 0; at < text.size ();) {
    const utf8::Decoded c = utf8::decode (text, at);
    if (utf8::is_numeric (c.code_point)) {
      if (covered < at)
        pieces.push_back ({covered, at, false});
      pieces.push_back ({at, at + c.size, true});
      covered = at + c.size;
    }
    at += c.size;
  }
  if (covered < text.size ())
    pieces.push_back ({covered, text.size (), false});
}

} // namespace

void
apply_behavior (SplitBehavior behavior, const std::vector<Piece> &matches, std::vector<Piece> &kept)
{
  kept.clear ();
  bool previous = false;
  switch (behavior) {
  case SplitBehavior::kIsolated:
    kept = matches;
    break;
  case SplitBehavior::kRemoved:
    for (const Piece &piece : matches)
      if (!piece.matched)
        kept.push_back (piece);
    break;
  case SplitBehavior::kContiguous:
    for (const Piece &piece : matches) {
      if (piece.matched == previous && !kept.empty ())
        kept.back ().end = piece.end;
      else
        kept.push_back (piece);
      previous = piece.matched;
    }
    break;
  case SplitBehavior::kMergedWithPrevious:
    for (const Piece &piece : matches) {
      if (piece.matched && !previous && !kept.empty ())
        kept.back ().end = piece.end;
      else
        kept.push_back (piece);
      previous = piece.matched;
    }
    break;
  case SplitBehavior::kMergedWithNext:
    for (auto piece = matches.rbegin (); piece != matches.rend (); ++piece) {
      if (piece->matched && !previous && !kept.empty ())
        kept.back ().begin = piece->begin;
      else
        kept.push_back (*piece);
      previous = piece->matched;
    }
    std::reverse (kept.begin (), kept.end ());
    break;
  }
}

void
PreTokenizer::split (std::string_view text, Scratch &scratch, std::vector<std::string_view> &words) const
{
  words.assign (1, text);
  scratch.prefixed.clear ();
  for (const Stage &stage : stages) {
    scratch.next.clear ();
    for (std::string_view word : words) {
      if (stage.kind == Stage::kPrefixSpace) {
        if (word.starts_with (' ')) {
          scratch.next.push_back (word);
        } else {
          scratch.prefixed.push_back (std::make_unique<std::string> (" "));
          scratch.next.push_back (scratch.prefixed.back ()->append (word));
        }
        continue;
      }
      scratch.matches.clear ();
      if (stage.kind == Stage::kDigits)
        digit_pieces (word, scratch.matches);
      else
        stage.pattern->find_all (word, scratch.regex, scratch.matches);
      if (stage.invert)
        for (Piece &piece : scratch.matches)
          piece.matched = !piece.matched;
      const std::vector<Piece> *pieces = &scratch.matches;
      if (stage.behavior != SplitBehavior::kIsolated) {
        apply_behavior (stage.behavior, scratch.matches, scratch.kept);
        pieces = &scratch.kept;
      }
      for (const Piece &piece : *pieces)
        if (piece.begin < piece.end)
          scratch.next.push_back (word.substr (piece.begin, piece.end - piece.begin));
    }
    words.swap (scratch.next);
  }
}

} // namespace millrace
