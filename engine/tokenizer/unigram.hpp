// Unigram language model of one word (or one text): the cut whose pieces have the highest sum of scores.
//
// Viterbi's algorithm over the characters, with the pieces in a trie: linear in the text times the longest piece. Where no
// piece is a single character there, that character is unknown, at the least score minus 10. Immutable; any thread.
// Sources: unigram_model.cc of SentencePiece (EncodeOptimized), which adds scores in 32 bits, and models/unigram of the
// reference `tokenizers` library, which adds them in 64.
#pragma once

#include "engine/tokenizer/byte_fallback.hpp"
#include "engine/tokenizer/byte_trie.hpp"
#include "engine/tokenizer/vocabulary.hpp"

#include <cstdint>
#include <string_view>
#include <vector>

namespace millrace
{

class Unigram
{
public:
  /// Buffers of one call.
  class Scratch
  {
  public:
    size_t work () const { return work_; } ///< steps in the trie; for tests of how it grows

  private:
    friend class Unigram;
    size_t work_ = 0;
    struct Node { ///< the best way to a place in the text
      double score = 0;
      int32_t piece = kNoToken;
      uint32_t size = 0; ///< of the last piece; 0: no way yet
    };
    std::vector<Node> nodes;
    std::vector<uint32_t> ends;
  };

  ByteTrie pieces;            ///< → id
  std::vector<double> scores; ///< by id; of pieces that must be taken, what they are worth
  double unknown_score = 0;
  bool single_precision = false; ///< sums are 32-bit floats
  int32_t unknown = kNoToken;    ///< for unknown characters, a run of them; without it they are left out
  ByteFallback fallback;

  /// Appends the tokens of `text`, valid UTF-8 below 2^31 bytes.
  void encode (std::string_view text, Scratch &scratch, std::vector<int32_t> &ids) const;

private:
  void find_ways (std::string_view text, Scratch &scratch) const;
};

} // namespace millrace
