// WordPiece and WordLevel: the longest piece of a word that is a token, and so on; or the word as a whole.
//
// A word of which some part is no token, or that is too long, is the unknown token. Linear in the word. Immutable; any
// thread. Sources: models/wordpiece and models/wordlevel of the reference `tokenizers` library.
#pragma once

#include "engine/tokenizer/byte_trie.hpp"
#include "engine/tokenizer/vocabulary.hpp"

#include <cstdint>
#include <limits>
#include <string_view>
#include <vector>

namespace millrace
{

class WordPiece
{
public:
  ByteTrie pieces;                       ///< → id; those that go on a word have `prefix` before
  uint32_t continuing = ByteTrie::kRoot; ///< the trie's node after the prefix, or kNowhere
  bool whole_words = false;              ///< WordLevel
  int32_t unknown = kNoToken;            ///< without it such words are left out
  size_t most_characters = std::numeric_limits<size_t>::max ();

  void set_prefix (std::string_view prefix);
  /// Appends the tokens of `word`, valid UTF-8.
  void encode (std::string_view word, std::vector<int32_t> &ids) const;

private:
  bool append_pieces (std::string_view word, std::vector<int32_t> &ids) const;
};

} // namespace millrace
