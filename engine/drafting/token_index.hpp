// A history of tokens in which earlier occurrences of its last ones are found.
//
// For each order of 1, 2, 4 and 8 tokens a table of hashes leads to the latest occurrence of a context, and a link at each
// occurrence to the one before. What hashes alike is told apart by comparing tokens backwards, which also gives the real
// length of a match. Walks are bounded, so that a text made of one token, or of contexts that hash alike, costs matches and
// never time.
//
// Grows at its end, in blocks, and may forget from its beginning: the blocks then are a ring. The tables double when there
// are twice as many tokens as entries; an entry is copied to both of the places it may belong to, so nothing is hashed again.
// Memory: 20 bytes a token and 4 tables of 2 … 4 bytes a token, with at least 1024 tokens' worth. A bounded one has its tables
// from the beginning, 16 bytes for each token of its capacity.
// Source: the links are those of LZ77 compressors (hash chains); what they are for, SuffixDecoding, arXiv 2411.04975.
//
// Values; one thread. No errors.
#pragma once

#include "engine/sampling/sampling_params.hpp"

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace millrace
{

class TokenIndex
{
public:
  static constexpr int kMaxMatches = 32;
  static constexpr int kEnough = 8;
  static constexpr int kMostVisits = 64;
  static constexpr int kLongestMatch = 32;      ///< longer ones count as this
  static constexpr TokenId kBorder = INT32_MIN; ///< between texts; occurs in none
  static constexpr size_t kBlockTokens = 1024;
  static constexpr std::array<int, 4> kOrders = {1, 2, 4, 8};

  struct Match {
    uint32_t next = 0; ///< position of the token that followed
    int length = 0;    ///< tokens in common before it
  };
  struct Matches {
    int count = 0;
    std::array<Match, kMaxMatches> items;

    std::span<const Match> span () const { return std::span (items).first (static_cast<size_t> (count)); }
  };

  /// `capacity`: a ring of so many tokens, rounded up to blocks and a power of two; 0: no bound.
  /// `first`: the position of the first token.
  explicit TokenIndex (size_t capacity = 0, uint32_t first = 0);

  /// Empty again. Memory past what `expected` tokens need is given back. Not for bounded ones.
  void clear (size_t expected);
  /// Not when a bounded one is full ().
  void append (TokenId token);
  /// What comes next has nothing to do with what came before. Takes the place of a token.
  void border ();
  /// The oldest `count` tokens are forgotten.
  void forget (size_t count) { begin_ += static_cast<uint32_t> (count); }

  // Positions count on when tokens are forgotten, modulo 2³².
  uint32_t begin () const { return begin_; }
  uint32_t end () const { return end_; }
  size_t size () const { return end_ - begin_; }
  size_t capacity () const { return capacity_; } ///< 0: no bound
  TokenId at (uint32_t position) const { return block (position).tokens[position % kBlockTokens]; }

  /// The latest occurrences of what `tail` ends with, followed by a token: at most kMaxMatches. Those that agree in at least 8
  /// tokens; when they are less than kEnough those with 4 … 7 too, and likewise those with 2 and 3, and with 1; each kind latest
  /// first. At least `shortest` tokens in common. `most_visits`: occurrences looked at of each kind.
  Matches find (std::span<const TokenId> tail, int shortest, int most_visits = kMostVisits) const;

  size_t bytes () const;
  /// Occurrences visited and tokens compared by all find () so far.
  uint64_t work () const { return work_; }

private:
  struct Block {
    std::array<TokenId, kBlockTokens> tokens;
    std::array<std::array<uint32_t, kBlockTokens>, kOrders.size ()> links; ///< tokens back; 0: none
  };

  Block &block (uint32_t position) const { return *blocks_[(position / kBlockTokens) & block_mask_]; }
  int in_common (std::span<const TokenId> tail, uint32_t next) const;
  void push (TokenId token);
  void grow_heads ();

  size_t capacity_;
  uint32_t block_mask_;
  uint32_t begin_ = 0, end_ = 0;
  uint32_t text_ = 0; ///< where the present text began
  std::vector<std::unique_ptr<Block>> blocks_;
  std::array<std::vector<uint32_t>, kOrders.size ()> heads_; ///< position after the latest occurrence
  mutable uint64_t work_ = 0;
};

} // namespace millrace
