#include "engine/tokenizer/normalizer.hpp"

#include "engine/tokenizer/utf8.hpp"

#include <unicode/brkiter.h>
#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>
#include <unicode/utext.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <new>

namespace millrace
{

namespace
{

/// Longer runs of combining marks than any script has; ICU's insertion sort is still fast on them.
constexpr int kOrdinaryRun = 64;

const icu::Normalizer2 *
form_of (Normalizer::Step::Kind kind)
{
  UErrorCode status = U_ZERO_ERROR;
  const icu::Normalizer2 *form = nullptr;
  switch (kind) {
  case Normalizer::Step::kNfc:
    form = icu::Normalizer2::getNFCInstance (status);
    break;
  case Normalizer::Step::kNfd:
    form = icu::Normalizer2::getNFDInstance (status);
    break;
  case Normalizer::Step::kNfkc:
    form = icu::Normalizer2::getNFKCInstance (status);
    break;
  case Normalizer::Step::kNfkd:
    form = icu::Normalizer2::getNFKDInstance (status);
    break;
  default:
    break;
  }
  return U_SUCCESS (status) ? form : nullptr;
}

bool
has_long_run (std::string_view text)
{
  int run = 0;
  for (size_t at = 0; at < text.size ();) {
    if (static_cast<unsigned char> (text[at]) < 0xCC) { // nothing below U+0300 combines
      run = 0;
      at += utf8::sequence_size (static_cast<unsigned char> (text[at]));
      continue;
    }
    const utf8::Decoded c = utf8::decode (text, at);
    const auto code = static_cast<UChar32> (c.code_point);
    // A few starters decompose into marks alone, so that the class of the decomposition counts.
    const bool mark = u_getIntPropertyValue (code, UCHAR_LEAD_CANONICAL_COMBINING_CLASS) != 0;
    run = mark ? run + 1 : 0;
    if (run > kOrdinaryRun)
      return true;
    at += c.size;
  }
  return false;
}

/// Decomposes `text` and puts runs of marks in canonical order: canonically (or, for the K forms,
/// compatibly) equivalent, so that its normal form is that of `text`.
std::string
in_canonical_order (std::string_view text, const icu::Normalizer2 &form)
{
  std::string out;
  out.reserve (text.size () * 2);
  struct Mark {
    char32_t code_point;
    uint8_t combining_class;
  };
  std::vector<Mark> run;
  const auto flush = [&] {
    std::stable_sort (run.begin (), run.end (),
                      [] (const Mark &a, const Mark &b) { return a.combining_class < b.combining_class; });
    for (const Mark &mark : run)
      utf8::append (mark.code_point, out);
    run.clear ();
  };
  const auto add = [&] (UChar32 c) {
    const uint8_t combining_class = u_getCombiningClass (c);
    if (combining_class == 0) {
      flush ();
      utf8::append (static_cast<char32_t> (c), out);
    } else {
      run.push_back ({static_cast<char32_t> (c), combining_class});
    }
  };
  icu::UnicodeString decomposition;
  for (size_t at = 0; at < text.size ();) {
    const utf8::Decoded c = utf8::decode (text, at);
    at += c.size;
    if (form.getDecomposition (static_cast<UChar32> (c.code_point), decomposition)) {
      for (int32_t i = 0; i < decomposition.length (); i = decomposition.moveIndex32 (i, 1))
        add (decomposition.char32At (i));
    } else {
      add (static_cast<UChar32> (c.code_point));
    }
  }
  flush ();
  return out;
}

/// By code point below kTableEnd: NFC leaves it alone, whatever is beside it.
constexpr char32_t kTableEnd = 0x30000;

std::vector<bool>
make_inert ()
{
  std::vector<bool> inert (kTableEnd);
  for (UChar32 c = 0; c < static_cast<UChar32> (kTableEnd); c++)
    inert[static_cast<size_t> (c)] =
        u_getIntPropertyValue (c, UCHAR_NFC_QUICK_CHECK) == UNORM_YES && u_getCombiningClass (c) == 0;
  return inert;
}

/// Whether NFC leaves `text` alone, for what can be said at a glance.
bool
is_plainly_nfc (std::string_view text)
{
  static const std::vector<bool> inert = make_inert ();
  for (size_t at = 0; at < text.size ();) {
    const auto lead = static_cast<unsigned char> (text[at]);
    if (lead < 0xCC) { // nothing below U+0300 changes
      at += lead < 0x80 ? 1 : 2;
      continue;
    }
    const utf8::Decoded c = utf8::decode (text, at);
    if (c.code_point >= kTableEnd || !inert[c.code_point])
      return false;
    at += static_cast<size_t> (c.size);
  }
  return true;
}

/// Returns false when `text` is in that form already.
bool
normalize_form (Normalizer::Step::Kind kind, std::string_view text, std::string &out)
{
  if (utf8::is_ascii (text) || text.size () > std::numeric_limits<int32_t>::max () / 4)
    return false;
  if (kind == Normalizer::Step::kNfc && is_plainly_nfc (text))
    return false;
  const icu::Normalizer2 *form = form_of (kind);
  if (!form)
    return false;

  std::string ordered;
  if (has_long_run (text)) {
    ordered = in_canonical_order (text, *form);
    text = ordered;
  }
  const icu::StringPiece piece (text.data (), static_cast<int32_t> (text.size ()));
  UErrorCode status = U_ZERO_ERROR;
  if (form->isNormalizedUTF8 (piece, status) && U_SUCCESS (status)) {
    if (ordered.empty ())
      return false;
    out = std::move (ordered);
    return true;
  }
  out.clear ();
  icu::StringByteSink<std::string> sink (&out, static_cast<int32_t> (text.size ()));
  status = U_ZERO_ERROR;
  form->normalizeUTF8 (0, piece, sink, nullptr, status);
  return U_SUCCESS (status);
}

void
lowercase (std::string_view text, std::string &out)
{
  out.clear ();
  for (size_t at = 0; at < text.size ();) {
    const utf8::Decoded c = utf8::decode (text, at);
    append_lower_case (c.code_point, out);
    at += c.size;
  }
}

/// What Nmt does: control characters go, what is a kind of white space becomes a space.
void
apply_nmt (std::string_view text, std::string &out)
{
  out.clear ();
  for (size_t at = 0; at < text.size ();) {
    const utf8::Decoded c = utf8::decode (text, at);
    const char32_t code = c.code_point;
    const bool control = (code >= 1 && code <= 8) || code == 0xB || (code >= 0xE && code <= 0x1F) ||
                         code == 0x7F || code == 0x8F || code == 0x9F;
    const bool space = code == 9 || code == 0xA || code == 0xC || code == 0xD || code == 0x1680 ||
                       (code >= 0x200B && code <= 0x200F) || code == 0x2028 || code == 0x2029 ||
                       code == 0x2581 || code == 0xFEFF || code == 0xFFFD;
    if (space)
      out += ' ';
    else if (!control)
      out += text.substr (at, static_cast<size_t> (c.size));
    at += static_cast<size_t> (c.size);
  }
}

/// Replaces `text` as a whole if a rule begins it, else its characters.
void
replace_grapheme (const CharsMap &map, std::string_view text, std::string &out)
{
  if (text.size () < 6) // as the reference has it
    if (const CharsMap::Match match = map.shortest (text); match.size) {
      out += match.replacement;
      return;
    }
  for (size_t at = 0; at < text.size ();) {
    const auto size = static_cast<size_t> (utf8::sequence_size (static_cast<unsigned char> (text[at])));
    const std::string_view character = text.substr (at, size);
    const CharsMap::Match match = map.shortest (character);
    out += match.size ? match.replacement : character;
    at += size;
  }
}

/// What Precompiled does, which is not what SentencePiece does with the same table: the first rule that begins a grapheme
/// replaces all of it.
void
apply_precompiled (const CharsMap &map, std::string_view text, std::string &out)
{
  out.clear ();
  UErrorCode status = U_ZERO_ERROR;
  const std::unique_ptr<icu::BreakIterator> graphemes (
      icu::BreakIterator::createCharacterInstance (icu::Locale::getRoot (), status));
  UText *view = utext_openUTF8 (nullptr, text.data (), static_cast<int64_t> (text.size ()), &status);
  if (U_SUCCESS (status))
    graphemes->setText (view, status);
  if (U_FAILURE (status)) {
    utext_close (view);
    throw std::bad_alloc ();
  }
  int32_t begin = graphemes->first ();
  for (int32_t end = graphemes->next (); end != icu::BreakIterator::DONE;
       begin = end, end = graphemes->next ())
    replace_grapheme (map, text.substr (static_cast<size_t> (begin), static_cast<size_t> (end - begin)), out);
  utext_close (view);
}

/// What BertNormalizer does: its four parts, one after the other.
void
apply_bert (const BertNormalizer &bert, std::string_view text, std::string &out)
{
  std::string cleaned;
  clean_for_bert (bert, text, cleaned);
  std::string decomposed;
  if (bert.strip_accents) {
    if (normalize_form (Normalizer::Step::kNfd, cleaned, decomposed))
      cleaned.swap (decomposed);
    decomposed.clear ();
    remove_nonspacing_marks (cleaned, decomposed);
    cleaned.swap (decomposed);
  }
  if (bert.lowercase)
    lowercase (cleaned, out);
  else
    out.swap (cleaned);
}

void
replace (const Normalizer::Step &step, std::string_view text, Regex::Scratch &scratch, std::string &out)
{
  out.clear ();
  if (!step.literal.empty ()) {
    size_t begin = 0;
    for (size_t at = text.find (step.literal); at != std::string_view::npos;
         at = text.find (step.literal, begin)) {
      out.append (text, begin, at - begin).append (step.content);
      begin = at + step.literal.size ();
    }
    out.append (text, begin);
    return;
  }
  std::vector<Piece> pieces;
  step.pattern->find_all (text, scratch, pieces);
  for (const Piece &piece : pieces) {
    if (piece.matched)
      out += step.content;
    else
      out += text.substr (piece.begin, piece.end - piece.begin);
  }
}

std::string_view
strip (std::string_view text, bool left, bool right)
{
  while (left && !text.empty ()) {
    const utf8::Decoded c = utf8::decode (text, 0);
    if (!utf8::is_white_space (c.code_point))
      break;
    text.remove_prefix (c.size);
  }
  while (right && !text.empty ()) {
    const utf8::Decoded c = utf8::decode_before (text, text.size ());
    if (!utf8::is_white_space (c.code_point))
      break;
    text.remove_suffix (c.size);
  }
  return text;
}

} // namespace

bool
Normalizer::leaves_no_spaces () const
{
  return !steps.empty () && steps.back ().kind == Step::kReplace && steps.back ().literal == " " &&
         steps.back ().content.find (' ') == std::string::npos;
}

std::string_view
Normalizer::apply (std::string_view text, Regex::Scratch &scratch, std::string &buffer) const
{
  std::string changed;
  for (const Step &step : steps) {
    bool is_changed = true;
    switch (step.kind) {
    case Step::kNfc:
    case Step::kNfd:
    case Step::kNfkc:
    case Step::kNfkd:
      is_changed = normalize_form (step.kind, text, changed);
      break;
    case Step::kLowercase:
      lowercase (text, changed);
      break;
    case Step::kReplace:
      replace (step, text, scratch, changed);
      break;
    case Step::kBert:
      apply_bert (step.bert, text, changed);
      break;
    case Step::kStripAccents:
      changed.clear ();
      remove_marks (text, changed);
      break;
    case Step::kNmt:
      apply_nmt (text, changed);
      break;
    case Step::kPrecompiled:
      apply_precompiled (*step.map, text, changed);
      break;
    case Step::kSentencePiece:
      step.sentencepiece->apply (text, changed);
      break;
    case Step::kPrepend:
      is_changed = !text.empty ();
      if (is_changed)
        changed.assign (step.content).append (text);
      break;
    case Step::kStrip:
      is_changed = false;
      text = strip (text, step.left, step.right);
      break;
    }
    if (is_changed) {
      // `text` may point into the buffer's old contents; it is not needed any more.
      buffer.swap (changed);
      text = buffer;
    }
  }
  return text;
}

} // namespace millrace
