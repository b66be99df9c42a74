#include "engine/drafting/suffix_votes.hpp"

#include <algorithm>

namespace millrace
{

namespace
{

constexpr double kLeastBelief = 0.1; ///< a guess below ends the chain
constexpr int kMax = TokenIndex::kMaxMatches;

/// Matches of such lengths are told apart; between them, not.
constexpr std::array<int, 10> kLengths = {32, 24, 16, 12, 8, 6, 4, 3, 2, 1};

/// An occurrence and what followed it.
struct Voter {
  uint32_t next = 0;
  int length = 0;
  int known = 0; ///< tokens copied; those behind are of the draft
  std::array<TokenId, kMaxDraft> tokens;
};

class Voting
{
public:
  Voting (const TokenIndex &index, const TokenIndex::Matches &matches, const Continuation &continuation,
          int most, double doubt)
      : index_ (index)
      , most_ (std::min (most, kMaxDraft))
      , doubt_ (doubt)
      , goes_on_ (continuation.goes_on)
      , count_ (matches.count)
  {
    before_ = std::min (static_cast<int> (continuation.drafted.size ()), kMaxDraft);
    std::ranges::copy (continuation.drafted.first (static_cast<size_t> (before_)), draft_.begin ());
    TokenIndex::Matches sorted = matches;
    std::sort (sorted.items.begin (), sorted.items.begin () + count_, [&] (const auto &a, const auto &b) {
      return a.length != b.length ? a.length > b.length : a.next - index.begin () > b.next - index.begin ();
    });
    for (int i = 0; i < count_; ++i) {
      const TokenIndex::Match &match = sorted.items[static_cast<size_t> (i)];
      Voter &voter = voters_[static_cast<size_t> (i)];
      voter.next = match.next;
      voter.length = match.length;
      voter.known =
          static_cast<int> (std::min<uint32_t> (index.end () - match.next, static_cast<uint32_t> (most_)));
      for (int d = 0; d < voter.known; ++d)
        voter.tokens[static_cast<size_t> (d)] = index.at (match.next + static_cast<uint32_t> (d));
    }
  }

  Chain best ()
  {
    Chain best;
    int voters = 0;
    for (const int least : kLengths) {
      const int before = voters;
      while (voters < count_ && voters_[static_cast<size_t> (voters)].length >= least)
        ++voters;
      if (voters == before)
        continue;
      const Chain chain = follow (voters);
      if (chain.expected > best.expected)
        best = chain;
    }
    return best;
  }

private:
  /// What follows a voter at a depth; kBorder: nothing.
  TokenId said (const Voter &voter, int depth) const
  {
    if (depth < voter.known)
      return voter.tokens[static_cast<size_t> (depth)];
    return goes_on_ ? draft_[static_cast<size_t> (depth - voter.known)] : TokenIndex::kBorder;
  }

  /// The chain of the first `count` voters.
  Chain follow (int count)
  {
    std::array<int, kMax> agree;
    for (int i = 0; i < count; ++i)
      agree[static_cast<size_t> (i)] = i;
    const int shortest = voters_[static_cast<size_t> (count) - 1].length;
    int agreeing = count;
    Chain chain;
    double chance = 1;
    for (int depth = 0; depth < most_; ++depth) {
      // Each round takes out those who say what the first of the rest says.
      std::array<TokenId, kMax> says;
      std::array<bool, kMax> counted{};
      int voting = 0;
      for (int i = 0; i < agreeing; ++i) {
        const TokenId token = said (voters_[static_cast<size_t> (agree[static_cast<size_t> (i)])], depth);
        if (token == TokenIndex::kBorder)
          continue;
        agree[static_cast<size_t> (voting)] = agree[static_cast<size_t> (i)];
        says[static_cast<size_t> (voting++)] = token;
      }
      agreeing = voting;
      int most_votes = 0;
      uint32_t latest = 0;
      TokenId elected = 0;
      for (int i = 0; i < voting; ++i) {
        if (counted[static_cast<size_t> (i)])
          continue;
        const TokenId token = says[static_cast<size_t> (i)];
        int votes = 0;
        uint32_t newest = 0; // distance from the beginning, which does not wrap
        for (int j = i; j < voting; ++j) {
          if (says[static_cast<size_t> (j)] != token)
            continue;
          counted[static_cast<size_t> (j)] = true;
          ++votes;
          newest = std::max (newest, voters_[static_cast<size_t> (agree[static_cast<size_t> (j)])].next -
                                         index_.begin ());
        }
        if (votes > most_votes || (votes == most_votes && newest > latest)) {
          most_votes = votes;
          latest = newest;
          elected = token;
        }
      }
      const double length = shortest + depth;
      const double belief = most_votes / (voting + doubt_ / length);
      if (most_votes == 0 || belief < kLeastBelief)
        break;
      if (depth == 0)
        chain.from = index_.begin () + latest;
      chain.tokens[static_cast<size_t> (depth)] = elected;
      chain.probability[static_cast<size_t> (depth)] = static_cast<float> (belief);
      chain.expected += chance *= belief;
      ++chain.count;
      // The period's next round reads it here.
      draft_[static_cast<size_t> (before_ + depth)] = elected;
      int left = 0;
      for (int i = 0; i < voting; ++i) {
        if (says[static_cast<size_t> (i)] == elected)
          agree[static_cast<size_t> (left++)] = agree[static_cast<size_t> (i)];
      }
      agreeing = left;
    }
    return chain;
  }

  const TokenIndex &index_;
  int most_;
  double doubt_;
  bool goes_on_;
  int count_;
  int before_ = 0; ///< tokens of the draft that were there
  std::array<TokenId, 2 * kMaxDraft> draft_{};
  std::array<Voter, kMax> voters_;
};

} // namespace

Chain
vote (const TokenIndex &index, const TokenIndex::Matches &matches, const Continuation &continuation, int most,
      double doubt)
{
  if (matches.count == 0 || most <= 0)
    return {};
  return Voting (index, matches, continuation, most, doubt).best ();
}

} // namespace millrace
