#include "engine/tokenizer/pre_tokenizer.hpp"

#include "engine/tokenizer/bert_normalizer.hpp"
#include "engine/tokenizer/sentencepiece_normalizer.hpp"
#include "engine/tokenizer/utf8.hpp"

#include <algorithm>

namespace millrace
{

namespace
{

/// Each character that `is_mark` is a match.
template <typename Function>
void
character_pieces (std::string_view text, const Function &is_mark, std::vector<Piece> &pieces)
{
  size_t covered = 0;
  for (size_t at = 0; at < text.size ();) {
    const utf8::Decoded c = utf8::decode (text, at);
    if (is_mark (c.code_point)) {
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

/// Whether there is no `\b` between a digit and `c`: Oniguruma's characters of words have a few numbers of Latin-1 among them.
bool
goes_on_after_digit (char32_t c)
{
  return utf8::is_word (c) || c == 0xB2 || c == 0xB3 || c == 0xB9 || (c >= 0xBC && c <= 0xBE);
}

/// A run of decimal digits from `at` on: where each begins, and where the last ends.
size_t
digits_from (std::string_view text, size_t at, std::vector<size_t> &starts)
{
  starts.clear ();
  while (at < text.size ()) {
    const utf8::Decoded c = utf8::decode (text, at);
    if (!utf8::is_decimal (c.code_point))
      break;
    starts.push_back (at);
    at += static_cast<size_t> (c.size);
  }
  return at;
}

/// What `\d{1,3}(?=(?:\d{3})*\b)` matches (or with `(?!\d)` at its end), without looking at a run again for each group.
void
digit_groups (std::string_view text, bool whole_numbers, std::vector<Piece> &pieces)
{
  size_t covered = 0;
  std::vector<size_t> starts;
  for (size_t at = 0; at < text.size ();) {
    const size_t begin = at;
    at = digits_from (text, begin, starts);
    if (starts.empty ()) {
      at += static_cast<size_t> (utf8::sequence_size (static_cast<unsigned char> (text[at])));
      continue;
    }
    if (whole_numbers && at < text.size () && goes_on_after_digit (utf8::decode (text, at).code_point))
      continue;
    if (covered < begin)
      pieces.push_back ({covered, begin, false});
    for (size_t i = 0; i < starts.size ();) {
      const size_t next = i + (starts.size () - i - 1) % 3 + 1;
      pieces.push_back ({starts[i], next < starts.size () ? starts[next] : at, true});
      i = next;
    }
    covered = at;
  }
  if (covered < text.size ())
    pieces.push_back ({covered, text.size (), false});
}

/// What the empty matches of `(?=(\d{3})+(?!\d))` leave.
void
digit_cuts (std::string_view text, std::vector<std::string_view> &words)
{
  size_t covered = 0;
  std::vector<size_t> starts;
  for (size_t at = 0; at < text.size ();) {
    at = digits_from (text, at, starts);
    if (starts.empty ())
      at += static_cast<size_t> (utf8::sequence_size (static_cast<unsigned char> (text[at])));
    for (size_t i = 0; i < starts.size (); i++) {
      if ((starts.size () - i) % 3 != 0 || starts[i] == covered)
        continue;
      words.push_back (text.substr (covered, starts[i] - covered));
      covered = starts[i];
    }
  }
  words.push_back (text.substr (covered));
}

/// What `\w+|[^\w\s]+` of the Unicode standard (UTS #18, which Oniguruma's \w is not) matches.
void
cut_words (std::string_view text, std::vector<std::string_view> &words)
{
  enum Class { kSpace, kWord, kOther };
  Class current = kSpace;
  size_t begin = 0;
  for (size_t at = 0; at < text.size ();) {
    const utf8::Decoded c = utf8::decode (text, at);
    const Class next = utf8::is_word (c.code_point)          ? kWord
                       : utf8::is_white_space (c.code_point) ? kSpace
                                                             : kOther;
    if (next != current) {
      if (current != kSpace)
        words.push_back (text.substr (begin, at - begin));
      begin = at;
      current = next;
    }
    at += static_cast<size_t> (c.size);
  }
  if (current != kSpace)
    words.push_back (text.substr (begin));
}

/// Cuts before each `mark`; those after another one only where `after_marks` says so.
void
cut_before (std::string_view word, std::string_view mark, bool after_marks,
            std::vector<std::string_view> &out)
{
  size_t begin = 0;
  for (size_t at = word.find (mark, 0); at != std::string_view::npos;
       at = word.find (mark, at + mark.size ())) {
    const bool after = at >= mark.size () && word.substr (at - mark.size (), mark.size ()) == mark;
    if (at == begin || (after && !after_marks))
      continue;
    out.push_back (word.substr (begin, at - begin));
    begin = at;
  }
  out.push_back (word.substr (begin));
}

/// The words again with something put before them or in them, in memory of `scratch`.
void
rewrite (const PreTokenizer::Stage &stage, std::string_view text, bool at_start,
         const std::vector<std::string_view> &words, PreTokenizer::Scratch &scratch)
{
  using Stage = PreTokenizer::Stage;
  const std::string_view space = stage.kind == Stage::kMetaspace ? std::string_view (stage.replacement) : " ";
  size_t size = 0;
  for (const std::string_view word : words)
    size += word.size () + space.size () +
            static_cast<size_t> (std::count (word.begin (), word.end (), ' ')) * space.size ();
  std::string &out = *scratch.rewritten.emplace_back (std::make_unique<std::string> ());
  out.reserve (size); // views of it stay valid
  for (const std::string_view word : words) {
    const size_t begin = out.size ();
    const bool prefixed = stage.kind == Stage::kPrefixSpace || stage.prefix == Stage::kAlways ||
                          (stage.prefix == Stage::kFirst && at_start && word.data () == text.data ());
    const bool has_prefix = word.starts_with (space) || word.starts_with (' ');
    if (prefixed && !has_prefix)
      out += space;
    for (const char byte : word) {
      if (byte == ' ')
        out += space;
      else
        out += byte;
    }
    scratch.next.push_back (std::string_view (out).substr (begin));
  }
}

} // namespace

PreTokenizer::Stage
split_stage (std::string_view pattern, SplitBehavior behavior, bool invert)
{
  PreTokenizer::Stage stage{.kind = PreTokenizer::Stage::kSplit,
                            .behavior = behavior,
                            .invert = invert,
                            .pattern = std::make_shared<const Regex> (Regex::compile (pattern))};
  // Where matches are all there is, they are what remains, whether kept apart or not kept from each other.
  if (behavior == SplitBehavior::kIsolated || (behavior == SplitBehavior::kRemoved && invert))
    stage.known = KnownPattern::find (pattern);
  return stage;
}

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
PreTokenizer::split (std::string_view text, bool at_start, Scratch &scratch,
                     std::vector<std::string_view> &words) const
{
  words.assign (1, text);
  scratch.rewritten.clear ();
  for (const Stage &stage : stages) {
    scratch.next.clear ();
    if (stage.kind == Stage::kPrefixSpace || stage.kind == Stage::kMetaspace)
      rewrite (stage, text, at_start, words, scratch);
    else
      for (const std::string_view word : words)
        cut (stage, word, scratch);
    words.swap (scratch.next);
  }
}

void
PreTokenizer::cut (const Stage &stage, std::string_view word, Scratch &scratch)
{
  switch (stage.kind) {
  case Stage::kMetaspaceWords:
    return cut_before (word, kMetaspace, false, scratch.next);
  case Stage::kDigitCuts:
    return digit_cuts (word, scratch.next);
  case Stage::kWords:
    return cut_words (word, scratch.next);
  case Stage::kBert:
    return cut_for_bert (word, scratch.next);
  case Stage::kMetaspacePieces:
    return cut_before (word, stage.replacement, true, scratch.next);
  case Stage::kDigitGroups:
    scratch.matches.clear ();
    digit_groups (word, stage.whole_numbers, scratch.matches);
    break;
  case Stage::kDigits:
    scratch.matches.clear ();
    character_pieces (word, utf8::is_numeric, scratch.matches);
    break;
  case Stage::kPunctuation:
    scratch.matches.clear ();
    character_pieces (word, is_bert_punctuation, scratch.matches);
    break;
  default:
    if (stage.known) {
      for (size_t at = 0; at < word.size ();) {
        const size_t end = stage.known.end_of_match (word, at);
        scratch.next.push_back (word.substr (at, end - at));
        at = end;
      }
      return;
    }
    scratch.matches.clear ();
    stage.pattern->find_all (word, scratch.regex, scratch.matches);
  }
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

} // namespace millrace
