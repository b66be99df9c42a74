// The patterns that most byte-level tokenizers cut by, matched by hand: GPT-2's, Llama 3's, Qwen2's and Qwen3.5's.
//
// The same pieces as the regular expression gives, character by character, in one pass without backtracking: each of these
// patterns matches something at every place, so that a text is its matches. Tests compare them with the regular expressions
// on all characters. Immutable; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace millrace
{

class KnownPattern
{
public:
  KnownPattern () = default; ///< none
  /// The one that `pattern` spells, in Oniguruma's syntax; none for any other.
  static KnownPattern find (std::string_view pattern);

  explicit operator bool () const { return kind_ != kNone; }
  /// Where the match that begins at `begin` < text.size () ends. `text` is valid UTF-8.
  size_t end_of_match (std::string_view text, size_t begin) const;

private:
  enum Kind : uint8_t { kNone, kGpt2, kLlama3, kQwen2, kQwen35 };
  explicit KnownPattern (Kind kind);
  size_t end_of_gpt2 (std::string_view text, size_t begin) const;
  size_t end_of_later (std::string_view text, size_t begin) const;

  Kind kind_ = kNone;
  const uint8_t *classes_ = nullptr; ///< of each code point
  uint8_t letters_ = 0;              ///< classes that words are made of
};

} // namespace millrace
