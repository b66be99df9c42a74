#include "engine/tokenizer/token_texts.hpp"

#include "engine/tokenizer/byte_alphabet.hpp"
#include "engine/tokenizer/byte_fallback.hpp"

#include <algorithm>
#include <utility>

namespace millrace
{

namespace
{

std::string
replace_all (std::string_view text, std::string_view from, std::string_view to)
{
  std::string out;
  for (size_t at = 0;;) {
    const size_t found = from.empty () ? std::string_view::npos : text.find (from, at);
    out += text.substr (at, found - at);
    if (found == std::string_view::npos)
      return out;
    out += to;
    at = found + from.size ();
  }
}

std::string
replace_matches (const DecoderStep &step, std::string_view text, Regex::Scratch &scratch)
{
  std::vector<Piece> pieces;
  step.pattern->find_all (text, scratch, pieces);
  std::string out;
  for (const Piece &piece : pieces)
    out +=
        piece.matched ? std::string_view (step.content) : text.substr (piece.begin, piece.end - piece.begin);
  return out;
}

std::string_view
strip (const DecoderStep &step, std::string_view text)
{
  if (step.content.empty ())
    return text;
  for (size_t n = 0; n < step.left && text.starts_with (step.content); n++)
    text.remove_prefix (step.content.size ());
  for (size_t n = 0; n < step.right && text.ends_with (step.content); n++)
    text.remove_suffix (step.content.size ());
  return text;
}

/// In the order in which the reference does it.
std::string
clean_up (std::string text)
{
  constexpr std::pair<std::string_view, std::string_view> kChanges[] = {
      {" .", "."},   {" ?", "?"},           {" !", "!"},   {" ,", ","},     {" ' ", "'"},   {" n't", "n't"},
      {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (const auto &[from, to] : kChanges)
    text = replace_all (text, from, to);
  return text;
}

} // namespace

bool
append_alphabet_bytes (std::string_view text, std::string &out)
{
  const size_t before = out.size ();
  for (size_t at = 0; at < text.size ();) {
    const utf8::Decoded c = utf8::decode (text, at);
    if (c.code_point >= kByteAlphabet.byte.size () || kByteAlphabet.byte[c.code_point] < 0) {
      out.resize (before);
      return false;
    }
    out += static_cast<char> (kByteAlphabet.byte[c.code_point]);
    at += c.size;
  }
  return true;
}

void
decode_token (const std::vector<DecoderStep> &steps, std::string_view content, TokenPlace place,
              Regex::Scratch &scratch, std::string &out)
{
  const bool first = place == TokenPlace::kFirst;
  std::string text (content);
  for (const DecoderStep &step : steps) {
    switch (step.kind) {
    case DecoderStep::kByteLevel:
      // A token with a character outside the alphabet is its own text. What it spells is bytes, no text for more steps.
      if (!append_alphabet_bytes (text, out))
        out += text;
      return;
    case DecoderStep::kByteFallback:
      if (const auto byte = byte_of_token (text)) {
        out += static_cast<char> (*byte);
        return;
      }
      break;
    case DecoderStep::kReplace:
      text = replace_matches (step, text, scratch);
      break;
    case DecoderStep::kStrip:
      text = std::string (strip (step, text));
      break;
    case DecoderStep::kMetaspace:
      text = replace_all (text, step.content, first && step.drop_first ? "" : " ");
      break;
    case DecoderStep::kWordPiece:
      if (!first && text.starts_with (step.content))
        text.erase (0, step.content.size ());
      else if (!first)
        text.insert (0, " ");
      break;
    case DecoderStep::kExactly:
      if (text == step.whole)
        text = step.content;
      break;
    case DecoderStep::kDropLeading:
      if (first && text.starts_with (step.content))
        text.erase (0, step.content.size ());
      break;
    case DecoderStep::kEndOfWord:
      text = replace_all (text, step.content, place == TokenPlace::kLast ? "" : " ");
      break;
    case DecoderStep::kCleanup:
      text = clean_up (std::move (text));
      break;
    }
  }
  out += text;
}

void
TokenTextStream::push (const TokenTexts &texts, int32_t id, std::string &out)
{
  decoder_.replace_each_byte (texts.each_byte_replaced);
  decoder_.push (held_, out);
  held_ = held_last_ = {};
  if (started_ && !texts.separator.empty ())
    decoder_.push (texts.separator, out);
  const bool first = continues_                                     ? false
                     : texts.first_forms == FirstForms::kFirstToken ? !started_
                     : texts.first_forms == FirstForms::kWhileEmpty ? !emitted_
                     : texts.first_forms == FirstForms::kOnce       ? !emitted_ && dropped_ == 0
                                                                    : false;
  std::string_view bytes = texts.bytes[id];
  if (first) {
    dropped_ += texts.first[id] != bytes;
    bytes = texts.first[id];
  }
  started_ = true;
  if (!emitted_ && !continues_)
    for (; dropped_ < texts.leading_count && bytes.starts_with (texts.leading); dropped_++)
      bytes.remove_prefix (texts.leading.size ());
  emitted_ = emitted_ || !bytes.empty ();
  if (texts.last_forms) {
    held_last_ = texts.last[id];
    const size_t same = static_cast<size_t> (std::ranges::mismatch (bytes, held_last_).in1 - bytes.begin ());
    held_ = bytes.substr (same);
    held_last_.remove_prefix (same);
    bytes = bytes.substr (0, same);
  }
  decoder_.push (bytes, out);
}

void
TokenTextStream::finish (std::string &out)
{
  decoder_.push (held_last_, out);
  decoder_.finish (out);
  *this = TokenTextStream (continues_);
}

} // namespace millrace
