#include "engine/drafting/ngram_drafter.hpp"

#include "engine/drafting/ngram_table.hpp"

#include <algorithm>
#include <array>

namespace millrace
{

namespace
{

constexpr int kLongestContext = 4;
constexpr int kShortestContext = 2;

/// How many tokens to draft, learned from what became of the last drafts.
class DraftLength
{
public:
  /// Steps on by one: the drafts to make now, 0 while drafting rests.
  int next (int max_draft)
  {
    if (rest_ > 0) {
      --rest_;
      return 0;
    }
    return std::min (length_, max_draft);
  }

  /// Of `drafted` drafts that were checked against the sequence, `accepted` turned out right.
  void learn (int drafted, int accepted, int max_draft)
  {
    const bool all = accepted == drafted;
    length_ = all ? std::max (length_, std::min (drafted + kGrowth, max_draft)) : accepted + 1;
    acceptance_ += (static_cast<double> (accepted) / drafted - acceptance_) * kNewWeight;
    if (all)
      longest_rest_ = kFirstRest;
    if (acceptance_ >= kLowAcceptance)
      return;
    // Drafts cost more than they bring: rest, then probe with a short one. Rests grow while probes fail.
    rest_ = longest_rest_;
    longest_rest_ = std::min (longest_rest_ * 2, kLongestRest);
    length_ = kProbe;
    acceptance_ = kProbeAcceptance;
  }

private:
  static constexpr int kStart = 4, kGrowth = 2, kProbe = 2;
  static constexpr int kFirstRest = 8, kLongestRest = 64;
  static constexpr double kNewWeight = 0.25; ///< of the newest observation in the moving average
  static constexpr double kLowAcceptance = 0.2;
  static constexpr double kProbeAcceptance = 0.3; ///< two failed probes in a row are too many

  int length_ = kStart;
  int rest_ = 0;
  int longest_rest_ = kFirstRest;
  double acceptance_ = 0.6;
};

/// What is known about the sequence in one slot.
struct Slot {
  uint64_t serial = 0; ///< of its request; 0: none yet
  int indexed = 0;     ///< contexts that end at or before this position are in the tables
  std::array<NgramTable, kLongestContext + 1> tables; ///< by context length
  DraftLength length;

  // The last proposal, until it is compared with what came.
  std::array<TokenId, kMaxDraft> proposed;
  int proposed_count = 0;
  int proposed_at = 0; ///< the position in the sequence that proposed[0] was for
};

void
begin (Slot &slot, const Sequence &sequence, int shortest_context)
{
  slot.serial = sequence.request->serial;
  slot.indexed = 0;
  slot.length = {};
  slot.proposed_count = 0;
  for (int n = shortest_context; n <= kLongestContext; ++n)
    slot.tables[static_cast<size_t> (n)].size_for (
        std::max (sequence.max_tokens, static_cast<int> (sequence.tokens.size ())), n);
}

/// Contexts that have a token after them; the one at the very end is for looking up.
void
index_tokens (Slot &slot, std::span<const TokenId> tokens, int shortest_context)
{
  const int last = static_cast<int> (tokens.size ()) - 1;
  for (int end = slot.indexed + 1; end <= last; ++end) {
    for (int n = shortest_context; n <= std::min (end, kLongestContext); ++n)
      slot.tables[static_cast<size_t> (n)].insert (tokens, end);
  }
  slot.indexed = std::max (slot.indexed, last);
}

/// Compares the last proposal with the tokens that came. Tokens that were never checked (another stage cut
/// the draft) say nothing.
void
learn (Slot &slot, std::span<const TokenId> tokens, int max_draft)
{
  const int came = static_cast<int> (tokens.size ()) - slot.proposed_at;
  if (slot.proposed_count == 0 || came <= 0)
    return;
  const int checked = std::min (slot.proposed_count, came);
  int accepted = 0;
  while (accepted < checked && tokens[static_cast<size_t> (slot.proposed_at + accepted)] ==
                                   slot.proposed[static_cast<size_t> (accepted)])
    ++accepted;
  slot.length.learn (checked, accepted, max_draft);
  slot.proposed_count = 0;
}

/// The end of the latest earlier occurrence of the longest known context, or 0.
int
find_match (const Slot &slot, std::span<const TokenId> tokens, int shortest_context)
{
  const int end = static_cast<int> (tokens.size ());
  for (int n = std::min (kLongestContext, end); n >= shortest_context; --n) {
    if (const int match = slot.tables[static_cast<size_t> (n)].find (tokens, end))
      return match;
  }
  return 0;
}

} // namespace

struct NgramDrafter::State {
  Settings settings;
  std::vector<Slot> slots;
};

NgramDrafter::NgramDrafter (const Settings &settings)
    : state_ (std::make_unique<State> ())
{
  state_->settings.max_draft = std::clamp (settings.max_draft, 0, kMaxDraft);
  state_->settings.min_match = std::clamp (settings.min_match, kShortestContext, kLongestContext);
}

NgramDrafter::~NgramDrafter () = default;

void
NgramDrafter::clear ()
{
  state_->slots.clear ();
}

void
NgramDrafter::draft (Step &step)
{
  const Settings &settings = state_->settings;
  for (Row &row : step.rows) {
    const int most = std::min (row.draft_limit, settings.max_draft);
    if (row.ended () || !row.scored || row.draft.count > 0 || most <= 0)
      continue;
    const Sequence &sequence = *row.sequence;
    const std::span<const TokenId> tokens = sequence.tokens;
    const auto index = static_cast<size_t> (sequence.slot);
    if (index >= state_->slots.size ())
      state_->slots.resize (index + 1);
    Slot &slot = state_->slots[index];
    if (slot.serial != sequence.request->serial || slot.indexed > static_cast<int> (tokens.size ()))
      begin (slot, sequence, settings.min_match);

    learn (slot, tokens, settings.max_draft);
    index_tokens (slot, tokens, settings.min_match);
    const int wanted = std::min (slot.length.next (settings.max_draft), most);
    const int match = wanted > 0 ? find_match (slot, tokens, settings.min_match) : 0;
    if (match == 0)
      continue;

    // The copy may run past the end of the history into the draft itself: a period goes on.
    const int end = static_cast<int> (tokens.size ());
    for (int i = 0; i < wanted; ++i) {
      const int from = match + i;
      row.draft.push (from < end ? tokens[static_cast<size_t> (from)]
                                 : row.draft.tokens[static_cast<size_t> (from - end)],
                      0.7F, DraftSource::kNgram);
    }
    slot.proposed = row.draft.tokens;
    slot.proposed_count = wanted;
    slot.proposed_at = end;
  }
}

} // namespace millrace
