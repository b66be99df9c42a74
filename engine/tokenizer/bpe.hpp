// Byte pair encoding of one word: merges neighbours by rank, leftmost first among equals.
//
// Short words by scanning small arrays, long ones with a heap over a linked list: O(n log n) for any word.
// Words of a call are remembered in its scratch, so that there is nothing to lock. Immutable; any thread.
// Sources: models/bpe of the reference `tokenizers` library; bpe_model.cc of SentencePiece, whose merges have the score of
// what they make for a rank, and are of characters whether those are tokens or not.
#pragma once

#include "engine/tokenizer/byte_fallback.hpp"
#include "engine/tokenizer/vocabulary.hpp"

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace millrace
{

/// (left, right) → (rank, merged): open addressing, filled to at most a half. Most pairs of a text have no merge; a bit for
/// every few hashes, of which no more than one in eight is set, says so without a look at the table.
class MergeTable
{
public:
  static constexpr uint32_t kNoRank = UINT32_MAX;
  struct Merge {
    uint32_t rank = kNoRank;
    int32_t merged = kNoToken;
  };

  void reserve (size_t count);
  /// A pair given twice has the later rank, as in the reference.
  void insert (int32_t left, int32_t right, Merge merge);
  Merge find (int32_t left, int32_t right) const
  {
    const uint64_t pair = key (left, right), hash = hash_of (pair);
    if (!(bits_[hash >> bit_shift_ >> 6] >> (hash >> bit_shift_ & 63) & 1))
      return {};
    return slots_[probe (pair)].merge;
  }

private:
  struct Slot {
    uint64_t pair = UINT64_MAX;
    Merge merge;
  };
  static uint64_t key (int32_t left, int32_t right)
  {
    return static_cast<uint64_t> (static_cast<uint32_t> (left)) << 32 | static_cast<uint32_t> (right);
  }
  static uint64_t hash_of (uint64_t pair)
  {
    const uint64_t mixed = (pair ^ pair >> 29) * 0x9E3779B97F4A7C15;
    return (mixed ^ mixed >> 32) * 0x9E3779B97F4A7C15;
  }
  size_t probe (uint64_t pair) const;

  std::vector<Slot> slots_;
  std::vector<uint64_t> bits_{0};
  int shift_ = 63;
  int bit_shift_ = 63;
};

class Bpe
{
public:
  /// Buffers and word memory of one call. Words are views of memory that lives until forget ().
  class Scratch
  {
  public:
    /// For a text of `bytes`: no memory at all for a short one.
    void prepare (size_t bytes);
    /// The words seen so far will go away.
    void forget ();
    /// Look-ups of merges and entries of the heap, of long words; for tests of how it grows.
    size_t work () const { return work_; }

  private:
    friend class Bpe;
    struct Remembered {
      const char *word = nullptr;
      uint32_t size = 0;
      uint32_t first = 0; ///< in ids
      uint32_t count = 0;
      uint32_t generation = 0;
    };
    std::vector<Remembered> slots;
    std::vector<int32_t> ids;
    uint32_t generation = 1;
    size_t work_ = 0;
    std::vector<int32_t> symbols;
    std::vector<int32_t> next;
    std::vector<int32_t> previous;
    std::vector<uint64_t> heap;
  };

  const Vocabulary *vocabulary = nullptr;
  MergeTable merges;
  bool byte_level = false;
  std::array<int32_t, 256> byte_ids{}; ///< byte level: the token of each byte, or kNoToken
  int32_t unknown = kNoToken;          ///< for what is not in the vocabulary, which is else left out
  bool fuse_unknown = false;
  ByteFallback fallback; ///< of characters that are not in the vocabulary
  /// What the vocabulary has before each character of a word but the first one, and behind the last.
  std::string continuing_prefix, end_suffix;
  bool ignore_merges = false; ///< a word that is a token is that token
  bool merges_characters =
      false;         ///< characters that are no tokens merge too; what is left of them is unknown after that
  StringIndex words; ///< byte level with ignore_merges: whole words by their bytes
  StringTable word_bytes;
  std::vector<int32_t> word_ids;

  /// Characters depend on where in a word they are.
  bool has_affixes () const { return !continuing_prefix.empty () || !end_suffix.empty (); }

  /// Appends the tokens of `word`, which is not empty.
  void encode (std::string_view word, Scratch &scratch, std::vector<int32_t> &ids) const;

  /// With merges_characters: the symbol of a character that is no token; less than kNoToken.
  static int32_t symbol_of (char32_t character) { return kNoToken - 1 - static_cast<int32_t> (character); }

private:
  bool append_unknown (std::string_view character, bool after_unknown, std::vector<int32_t> &ids) const;
  void append_merged (const std::vector<int32_t> &symbols, std::vector<int32_t> &ids) const;
  void encode_new (std::string_view word, Scratch &scratch, std::vector<int32_t> &ids) const;
  void symbols_of (std::string_view word, std::vector<int32_t> &symbols) const;
  void affixed_symbols_of (std::string_view word, std::vector<int32_t> &symbols) const;
  void merge_short (std::vector<int32_t> &symbols) const;
  void merge_long (Scratch &scratch) const;
};

} // namespace millrace
