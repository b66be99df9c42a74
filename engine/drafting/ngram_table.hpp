// What followed each context of a few tokens, how often, and how good a guess it was.
//
// Open addressing; an entry is a pair of context and continuation, known by the position of the continuation's latest
// occurrence in a history that the caller keeps: contexts are told apart by comparing tokens, never by their hash alone. A
// context has at most kContinuations; the weakest makes room. Probes are bounded, so that a text made of contexts that hash
// alike costs entries and never time.
//
// Memory: 8 bytes an entry, the table 60 … 75 % full; it grows by a quarter, with all entries placed anew.
#pragma once

#include "engine/sampling/sampling_params.hpp"

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace millrace
{

class NgramTable
{
public:
  static constexpr int kContinuations = 4;

  struct Entry {
    uint32_t next = 0;  ///< position of the latest occurrence of the continuation; 0: no entry
    uint16_t count = 0; ///< occurrences
    uint8_t accepted = 0, rejected = 0;

    /// (accepted + 1) / (accepted + rejected + 2)
    double trust () const { return (accepted + 1.0) / (accepted + rejected + 2.0); }
  };

  struct Continuations {
    int count = 0;
    uint32_t total = 0; ///< their occurrences
    std::array<Entry, kContinuations> items;
  };

  explicit NgramTable (int context_tokens)
      : context_tokens_ (context_tokens)
  {
  }

  int context_tokens () const { return context_tokens_; }
  /// Empty again. Memory past what `expected` entries need is given back.
  void clear (size_t expected);
  /// Room for `more` entries without growing step by step.
  void reserve (std::span<const TokenId> history, size_t more);
  /// history[next] occurred behind its context. context_tokens () <= next < history.size ()
  void insert (std::span<const TokenId> history, uint32_t next);
  /// What followed `context`, which has context_tokens () tokens.
  Continuations find (std::span<const TokenId> history, std::span<const TokenId> context) const;
  /// `guess` behind `context` was right or wrong.
  void learn (std::span<const TokenId> history, std::span<const TokenId> context, TokenId guess, bool right);

  size_t entries () const { return used_; }
  size_t bytes () const { return entries_.capacity () * sizeof (Entry); }
  uint64_t work () const { return work_; } ///< probes so far

private:
  size_t home (const TokenId *context) const;
  size_t after (size_t at) const { return at + 1 < entries_.size () ? at + 1 : 0; }
  bool is_of (std::span<const TokenId> history, const Entry &entry, const TokenId *context) const;
  void resize (std::span<const TokenId> history, size_t entries);
  void place (std::span<const TokenId> history, const Entry &entry);

  int context_tokens_;
  size_t used_ = 0;
  std::vector<Entry> entries_;
  mutable uint64_t work_ = 0;
};

} // namespace millrace
