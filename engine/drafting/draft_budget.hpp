// What the drafts of one request may lose, so that none comes out much slower with them.
//
// Chances are known badly where a request has just begun or does what none did before, and a text that nothing can be guessed
// of pays for each wrong belief. So accounts are kept: each right guess brings a token, verifying costs the tokens that decoding
// without drafts would have made in that time. What may be lost is a share of the request's tokens, of kLossTokens at least, so
// that drafts can begin at all. Once that is gone, guesses that are not nearly sure wait for more of the text, or for
// nearly sure ones to be right; those that cost time to make have an account of their own, and are not made.
//
// A value; no allocation.
#pragma once

#include <algorithm>
#include <cstdint>

namespace millrace
{

class DraftBudget
{
public:
  DraftBudget () = default;
  /// What may be lost is another share of the request's tokens.
  explicit DraftBudget (double loss)
      : loss_ (loss)
  {
  }
  /// In tokens of this request.
  double left () const { return balance_ + loss_ * std::max (static_cast<double> (tokens_), kLossTokens); }
  /// A step of the request is to cost so much more for its drafts.
  void spend (double tokens) { balance_ -= tokens; }
  /// So many tokens came, some of them guessed.
  void earn (int tokens, int right)
  {
    tokens_ += tokens;
    balance_ += right;
  }

  static constexpr double kLoss = 0.0125, kLossTokens = 128;

private:
  double loss_ = kLoss, balance_ = 0;
  int64_t tokens_ = 0;
};

} // namespace millrace
