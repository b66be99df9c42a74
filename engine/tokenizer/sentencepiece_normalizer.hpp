// What SentencePiece does to a text before it is cut into pieces: replacements by the model's map, spaces.
//
// The longest rule of the map (or user-defined piece, which stays as it is) is taken at each place. A space becomes "▁"
// (U+2581), one is put before the text, those at its ends and all but one of a run are left out: each as the model says.
// Linear in the text times the longest rule. Immutable; any thread. Source: normalizer.cc of SentencePiece.
#pragma once

#include "engine/tokenizer/byte_trie.hpp"
#include "engine/tokenizer/chars_map.hpp"

#include <string>
#include <string_view>

namespace millrace
{

inline constexpr std::string_view kMetaspace = "\xE2\x96\x81"; ///< U+2581, which stands for a space

struct SentencePieceNormalizer {
  CharsMap map;
  ByteTrie user_defined;
  bool add_dummy_prefix = true; ///< a space before the text
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
  bool whitespace_as_suffix = false; ///< the space comes after the text

  void apply (std::string_view text, std::string &out) const;

private:
  struct Step {
    size_t size;
    std::string_view form;
  };
  Step next (std::string_view text) const;
};

} // namespace millrace
