#include "engine/tokenizer/sentencepiece_normalizer.hpp"

#include "engine/tokenizer/utf8.hpp"

namespace millrace
{

SentencePieceNormalizer::Step
SentencePieceNormalizer::next (std::string_view text) const
{
  if (!user_defined.empty ())
    if (const ByteTrie::Match match = user_defined.longest (text); match.size)
      return {match.size, text.substr (0, match.size)};
  if (const CharsMap::Match match = map.longest (text); match.size)
    return {match.size, match.replacement};
  const auto size = static_cast<size_t> (utf8::sequence_size (static_cast<unsigned char> (text[0])));
  return {size, text.substr (0, size)};
}

void
SentencePieceNormalizer::apply (std::string_view text, std::string &out) const
{
  out.clear ();
  const std::string_view space = escape_whitespaces ? kMetaspace : " ";
  while (remove_extra_whitespaces && !text.empty ()) {
    const Step step = next (text);
    if (step.form != " ")
      break;
    text.remove_prefix (step.size);
  }
  if (text.empty ())
    return;
  out.reserve (text.size () + text.size () / 2 + space.size ());
  if (add_dummy_prefix && !whitespace_as_suffix)
    out += space;

  bool after_space = remove_extra_whitespaces;
  while (!text.empty ()) {
    Step step = next (text);
    text.remove_prefix (step.size);
    while (after_space && step.form.starts_with (' '))
      step.form.remove_prefix (1);
    if (step.form.empty ())
      continue;
    for (const char byte : step.form) {
      if (byte == ' ')
        out += space;
      else
        out += byte;
    }
    after_space = remove_extra_whitespaces && step.form.ends_with (' ');
  }
  while (remove_extra_whitespaces && out.ends_with (space))
    out.resize (out.size () - space.size ());
  if (add_dummy_prefix && whitespace_as_suffix)
    out += space;
}

} // namespace millrace
