// Normalizes text before it is cut: Unicode normalization forms, lower case, replacements.
//
// A list of steps. ASCII text skips the Unicode forms; other text is copied only where it changes. Linear in
// the text even for absurd runs of combining marks, which are put in canonical order before ICU sees them.
// Immutable. Source: the normalizers of the reference `tokenizers` library.
#pragma once

#include "engine/tokenizer/bert_normalizer.hpp"
#include "engine/tokenizer/regex.hpp"
#include "engine/tokenizer/sentencepiece_normalizer.hpp"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace millrace
{

class Normalizer
{
public:
  struct Step {
    enum Kind {
      kNfc,
      kNfd,
      kNfkc,
      kNfkd,
      kLowercase,
      kReplace,
      kPrepend,
      kStrip,
      kBert,
      kStripAccents,
      kNmt,
      kPrecompiled,
      kSentencePiece
    };
    Kind kind = kNfc;
    std::shared_ptr<const Regex> pattern; ///< of kReplace
    std::string literal;                  ///< of kReplace: what the pattern matches, where that is one text
    std::string content;                  ///< of kReplace and kPrepend
    bool left = false, right = false;     ///< of kStrip
    BertNormalizer bert;                  ///< of kBert
    std::shared_ptr<const CharsMap> map;  ///< of kPrecompiled
    std::shared_ptr<const SentencePieceNormalizer> sentencepiece;
  };
  std::vector<Step> steps;

  /// Whether no normalized text has a space.
  bool leaves_no_spaces () const;
  /// The normalized text: a view of `text` when nothing changes, else of `buffer`.
  std::string_view apply (std::string_view text, Regex::Scratch &scratch, std::string &buffer) const;
};

} // namespace millrace
