// What other requests of a model said, to guess from: a bounded history of finished outputs.
//
// Privacy: guesses made from it never change an output, but how fast one comes may tell that another request said the same.
// So it exists only where a user asks for it.
//
// A ring of texts. When a new one finds no room, the oldest goes, unless it was guessed from since it came or was last
// spared: then it is written once more behind the others (second chance, the CLOCK approximation of LRU). At most kSpared
// times as many tokens as come are written again. Texts wait in line until settle () writes them, a few tokens at a time, so
// that no step pays for a whole output.
// Memory: 12 bytes for each token of its capacity, 16 more for each that is kept or waits. Outputs are copied; nothing refers
// to a sequence.
//
// The decode thread only: each drafter has its own.
#pragma once

#include "engine/drafting/suffix_votes.hpp"
#include "engine/drafting/token_index.hpp"

#include <deque>
#include <vector>

namespace millrace
{

class SharedStore
{
public:
  /// Room for `tokens`, rounded up to a power of two, 1024 at least.
  explicit SharedStore (size_t tokens);

  /// A finished output waits in line. Of a very long one the end; when too many wait, the oldest of them is dropped.
  void add (std::span<const TokenId> output);
  /// Writes up to `tokens` of what waits.
  void settle (size_t tokens);
  /// Guesses of what follows `tail`.
  Chain propose (std::span<const TokenId> tail, int shortest, int most) const;
  /// A chain was used: its text stays longer.
  void used (const Chain &chain);

  size_t tokens () const { return index_.size (); } ///< with a border after each text
  size_t capacity () const { return index_.capacity (); }
  size_t texts () const { return texts_.size (); }
  size_t waiting () const { return waiting_tokens_ - written_; }
  size_t bytes () const;
  uint64_t work () const { return index_.work (); }

private:
  struct Text {
    uint32_t begin = 0, count = 0; ///< in the index; with its border
    bool used = false;
  };
  void wait (std::vector<TokenId> text);
  void make_room (size_t wanted);

  TokenIndex index_;
  std::deque<Text> texts_; ///< oldest first, without gaps
  std::deque<std::vector<TokenId>> waiting_;
  size_t waiting_tokens_ = 0; ///< in all of them
  size_t written_ = 0;        ///< of the first
  size_t may_spare_ = 0;      ///< tokens that may be written again
};

} // namespace millrace
