#include "engine/drafting/ngram_drafter.hpp"

#include "engine/drafting/ngram_table.hpp"

#include <algorithm>
#include <array>

namespace millrace
{

namespace
{

constexpr int kLongestContext = 4, kShortestContext = 2;
constexpr double kLeastConfidence = 0.4;
constexpr float kFirstBelief = 0.8F;   ///< that an output begins as predicted, and goes on so
constexpr TokenId kBorder = INT32_MIN; ///< between prediction and prompt

} // namespace

class NgramDrafter::NgramLookup : public Lookup
{
public:
  explicit NgramLookup (int shortest)
      : shortest_ (shortest)
  {
  }

  void begin (const Sequence &sequence) override
  {
    const auto &expected = sequence.request->prediction;
    const size_t known = expected.size () + 1 + sequence.tokens.size ();
    if (history_.capacity () > known + known / 4) {
      history_.clear ();
      history_.shrink_to_fit ();
    }
    history_.clear ();
    history_.reserve (known);
    for (NgramTable &table : tables_)
      table.clear (known);
    proposal_.count = 0;
    text_ = 0;
    add (expected);
    history_.push_back (kBorder);
    text_ = history_.size ();
  }

  void update (const Sequence &sequence) override
  {
    learn (sequence);
    add (std::span (sequence.tokens).subspan (history_.size () - text_));
  }

  void propose (const Sequence &sequence, Draft &draft, int most) override
  {
    const int before = draft.count;
    std::array<TokenId, kLongestContext + kMaxDraft> room;
    int known = static_cast<int> (std::min<size_t> (sequence.tokens.size (), kLongestContext));
    std::copy (sequence.tokens.end () - known, sequence.tokens.end (), room.begin ());
    for (const TokenId token : draft.span ())
      room[static_cast<size_t> (known++)] = token;

    std::array<int8_t, kMaxDraft> contexts{};
    if (before == 0 && sequence.generated () == 0 &&
        !knows (std::span (room).first (static_cast<size_t> (known)))) {
      for (size_t i = 0; i + 1 < text_ && draft.count < most; ++i)
        draft.push (history_[i], kFirstBelief, DraftSource::kPrediction);
    } else {
      for (int drafted = 0, allowed = most - before; drafted < allowed; ++drafted) {
        const Guess guess = best (std::span (room).first (static_cast<size_t> (known)));
        if (guess.confidence < kLeastConfidence)
          break;
        allowed = std::min (allowed, drafted + guess.support + 1);
        contexts[static_cast<size_t> (draft.count)] = guess.context;
        room[static_cast<size_t> (known++)] = history_[guess.next];
        draft.push (history_[guess.next], static_cast<float> (guess.confidence),
                    guess.next < text_ ? DraftSource::kPrediction : DraftSource::kNgram);
      }
    }
    // Asked again in a step, for what follows another's guesses: the first answer is the one to learn from.
    const auto at = static_cast<uint32_t> (sequence.tokens.size ());
    if (draft.count > before && !(proposal_.count > 0 && proposal_.at == at))
      proposal_ = {draft.tokens, contexts, draft.count, at};
  }

  size_t bytes () const override
  {
    size_t bytes = sizeof (*this) + history_.capacity () * sizeof (TokenId);
    for (const NgramTable &table : tables_)
      bytes += table.bytes ();
    return bytes;
  }

private:
  struct Guess {
    double confidence = 0;
    uint32_t next = 0; ///< position in history_
    int support = 0;
    int8_t context = 0; ///< tokens
  };

  /// The last guesses, until the tokens have come that they are compared with.
  struct Proposal {
    std::array<TokenId, kMaxDraft> tokens{};
    std::array<int8_t, kMaxDraft>
        contexts{}; ///< tokens of each one's context; 0: of none, or another drafter's
    int count = 0;
    uint32_t at = 0; ///< position in the sequence of the first
  };

  void add (std::span<const TokenId> tokens)
  {
    if (history_.size () + tokens.size () > history_.capacity ())
      history_.reserve (history_.size () + std::max (tokens.size (), history_.size () / 4));
    const size_t first = history_.size ();
    history_.insert (history_.end (), tokens.begin (), tokens.end ());
    for (NgramTable &table : tables_) {
      if (table.context_tokens () < shortest_)
        continue;
      table.reserve (history_, tokens.size ());
      const size_t least = text_ + static_cast<size_t> (table.context_tokens ());
      for (size_t next = std::max (first, least); next < history_.size (); ++next)
        table.insert (history_, static_cast<uint32_t> (next));
    }
  }

  void learn (const Sequence &sequence)
  {
    const std::span<const TokenId> tokens = sequence.tokens;
    const size_t checked = std::min (static_cast<size_t> (proposal_.count), tokens.size () - proposal_.at);
    if (proposal_.count == 0 || checked == 0)
      return;
    for (size_t i = 0; i < checked; ++i) {
      const size_t next = proposal_.at + i;
      const bool right = tokens[next] == proposal_.tokens[i];
      if (const auto context = static_cast<size_t> (proposal_.contexts[i]))
        tables_[kLongestContext - context].learn (history_, tokens.subspan (next - context, context),
                                                  proposal_.tokens[i], right);
      if (!right)
        break;
    }
    proposal_.count = 0;
  }

  Guess best (std::span<const TokenId> before) const
  {
    Guess best;
    for (const NgramTable &table : tables_) {
      const auto context = static_cast<size_t> (table.context_tokens ());
      if (context > before.size () || table.context_tokens () < shortest_)
        continue;
      const auto found = table.find (history_, before.last (context));
      for (int i = 0; i < found.count; ++i) {
        const NgramTable::Entry &entry = found.items[static_cast<size_t> (i)];
        const double confidence = entry.count * entry.trust () / found.total;
        if (confidence > best.confidence || (confidence == best.confidence && entry.next > best.next))
          best = {confidence, entry.next, entry.count, static_cast<int8_t> (context)};
      }
      if (found.count > 0)
        break;
    }
    return best;
  }

  bool knows (std::span<const TokenId> before) const { return best (before).next != 0; }

  int shortest_;
  std::vector<TokenId> history_; ///< prediction, border, the sequence's
  size_t text_ = 0;              ///< where the present text began in it
  std::array<NgramTable, 3> tables_ = {NgramTable (4), NgramTable (3), NgramTable (2)};
  Proposal proposal_;
};

NgramDrafter::NgramDrafter (const LookupSettings &settings)
    : LookupDrafter ({.max_draft = settings.max_draft, .gate = settings.gate})
    , shortest_ (std::clamp (settings.min_match, kShortestContext, kLongestContext))
{
}

std::unique_ptr<LookupDrafter::Lookup>
NgramDrafter::new_lookup ()
{
  return std::make_unique<NgramLookup> (shortest_);
}

} // namespace millrace
