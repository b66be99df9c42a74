// The "precompiled_charsmap" of SentencePiece models: strings and what they are replaced by.
//
// A double array (Darts) of 32-bit units, then the replacements, each ended by a zero byte. Both are taken to be hostile: every
// step is checked, and a walk ends after at most as many steps as the text has bytes. Immutable; any thread.
// Sources: normalizer.cc and builder.cc of SentencePiece, darts.h (the layout of a unit).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace millrace
{

class CharsMap
{
public:
  struct Match {
    size_t size = 0; ///< bytes of the text; 0: no rule begins there
    std::string_view replacement;
  };

  CharsMap () = default;
  /// Throws std::invalid_argument saying what is wrong with the bytes.
  explicit CharsMap (std::string_view blob);

  bool empty () const { return units_.empty (); }
  /// The longest rule at the beginning of `text`.
  Match longest (std::string_view text) const { return find (text, true); }
  /// The shortest one.
  Match shortest (std::string_view text) const { return find (text, false); }

private:
  Match find (std::string_view text, bool longest) const;

  std::vector<uint32_t> units_;
  std::string replacements_; ///< ends with a zero byte
};

} // namespace millrace
