#include "engine/drafting/suffix_drafter.hpp"

#include "engine/drafting/suffix_votes.hpp"
#include "engine/drafting/token_index.hpp"

#include <algorithm>

namespace millrace
{

namespace
{

constexpr double kPredictionDoubt = kDoubt / 2;
static_assert (kLongestMinMatch <= TokenIndex::kLongestMatch);
// Tokens of finished outputs that are taken into the store beside a prompt, which costs more, and beside one row's guesses.
constexpr size_t kStoredAtBegin = 4096, kStoredAtOnce = 32;
constexpr float kFirstBelief = 0.8F; ///< that an output begins as predicted, and goes on so

} // namespace

class SuffixDrafter::SuffixLookup : public Lookup
{
public:
  SuffixLookup (int shortest, SharedStore *store)
      : shortest_ (shortest)
      , store_ (store)
  {
  }

  void begin (const Sequence &sequence) override
  {
    tokens_.clear (sequence.tokens.size ());
    stored_ = static_cast<uint32_t> (sequence.prompt_tokens);
    if (store_)
      store_->settle (kStoredAtBegin);
    const auto &expected = sequence.request->prediction;
    prediction_.clear (expected.size ());
    for (const TokenId token : expected)
      prediction_.append (token);
  }

  void update (const Sequence &sequence) override
  {
    for (size_t i = tokens_.size (); i < sequence.tokens.size (); ++i)
      tokens_.append (sequence.tokens[i]);
  }

  void propose (const Sequence &sequence, Draft &draft, int most) override
  {
    // The last tokens, and what is drafted behind them.
    std::array<TokenId, TokenIndex::kLongestMatch + kMaxDraft> room;
    const size_t before = std::min<size_t> (sequence.tokens.size (), TokenIndex::kLongestMatch);
    std::copy (sequence.tokens.end () - static_cast<std::ptrdiff_t> (before), sequence.tokens.end (),
               room.begin ());
    std::ranges::copy (draft.span (), room.begin () + static_cast<std::ptrdiff_t> (before));
    const std::span tail = std::span (room).first (before + static_cast<size_t> (draft.count));
    most -= draft.count;
    if (most <= 0)
      return;

    Chain chain = vote (tokens_, tokens_.find (tail, shortest_), {.goes_on = true, .drafted = draft.span ()},
                        most, kDoubt);
    DraftSource source = DraftSource::kSuffix;
    const auto compete = [&] (const Chain &other, DraftSource who) {
      if (other.expected <= chain.expected)
        return;
      chain = other;
      source = who;
    };
    if (prediction_.size () > 0) {
      compete (vote (prediction_, prediction_.find (tail, shortest_), {}, most, kPredictionDoubt),
               DraftSource::kPrediction);
      if (chain.count == 0 && sequence.generated () == 0 && draft.count == 0) {
        chain = first_of_prediction (most);
        source = DraftSource::kPrediction;
      }
    }
    if (store_) {
      store_->settle (kStoredAtOnce);
      compete (store_->propose (tail, shortest_, most), DraftSource::kStore);
      if (source == DraftSource::kStore)
        store_->used (chain);
    }
    for (int i = 0; i < chain.count; ++i)
      draft.push (chain.tokens[static_cast<size_t> (i)], chain.probability[static_cast<size_t> (i)], source);
  }

  void end () override
  {
    if (!store_)
      return;
    std::vector<TokenId> said;
    for (; stored_ < tokens_.end (); ++stored_)
      said.push_back (tokens_.at (stored_));
    store_->add (said);
  }

  size_t bytes () const override { return tokens_.bytes () + prediction_.bytes (); }

private:
  Chain first_of_prediction (int most) const
  {
    Chain chain;
    for (; chain.count < most && static_cast<size_t> (chain.count) < prediction_.size (); ++chain.count) {
      chain.tokens[static_cast<size_t> (chain.count)] = prediction_.at (static_cast<uint32_t> (chain.count));
      chain.probability[static_cast<size_t> (chain.count)] = kFirstBelief;
    }
    return chain;
  }

  int shortest_;
  SharedStore *store_; ///< null: none
  TokenIndex tokens_, prediction_;
  uint32_t stored_ = 0; ///< tokens before are in the store, or the prompt's
};

SuffixDrafter::SuffixDrafter (const LookupSettings &settings)
    : LookupDrafter ({.max_draft = settings.max_draft, .gate = settings.gate})
    , settings_ (settings)
{
  settings_.min_match = std::clamp (settings.min_match, TokenIndex::kOrders.front (),
                                    static_cast<int> (TokenIndex::kLongestMatch));
  if (settings_.shared_store_tokens > 0)
    store_ = std::make_unique<SharedStore> (static_cast<size_t> (settings_.shared_store_tokens));
}

SuffixDrafter::~SuffixDrafter () = default;

std::unique_ptr<LookupDrafter::Lookup>
SuffixDrafter::new_lookup ()
{
  return std::make_unique<SuffixLookup> (settings_.min_match, store_.get ());
}

void
SuffixDrafter::clear ()
{
  LookupDrafter::clear ();
  if (store_)
    store_ = std::make_unique<SharedStore> (static_cast<size_t> (settings_.shared_store_tokens));
}

size_t
SuffixDrafter::bytes () const
{
  return LookupDrafter::bytes () + (store_ ? store_->bytes () : 0);
}

} // namespace millrace
