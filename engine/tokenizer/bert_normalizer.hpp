// What BERT's tokenizers do to a text: control characters out, white space to spaces, spaces around Chinese characters,
// accents off, lower case; and where they cut it. Pure functions over valid UTF-8. Source: BertNormalizer and
// BertPreTokenizer of the reference `tokenizers` library.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace millrace
{

struct BertNormalizer {
  bool clean_text = true;
  bool handle_chinese_chars = true;
  bool strip_accents = true;
  bool lowercase = true;
};

/// The first two parts, appended to `out`.
void clean_for_bert (const BertNormalizer &bert, std::string_view text, std::string &out);
void remove_nonspacing_marks (std::string_view text, std::string &out);
void remove_marks (std::string_view text, std::string &out); ///< of all kinds
/// The character's lower case by itself, of whatever place in a word.
void append_lower_case (char32_t character, std::string &out);

/// ASCII's punctuation and symbols, and Unicode's punctuation.
bool is_bert_punctuation (char32_t character);

/// Appends the words: white space is left out, every punctuation mark is a word.
void cut_for_bert (std::string_view text, std::vector<std::string_view> &words);

} // namespace millrace
