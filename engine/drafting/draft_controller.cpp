#include "engine/drafting/draft_controller.hpp"

#include "engine/drafting/draft_budget.hpp"

#include <algorithm>

namespace millrace
{

namespace
{

constexpr double kMargin = 1.07; ///< drafts must promise so many times the tokens per time
constexpr int kFirstReach = 2;   ///< drafts of a request of which nothing is known yet
// Times the chance, of what lies deeper than has been right lately; not where all before it is as likely as kSure.
constexpr double kDoubt = 0.8, kSure = 0.9;
constexpr double kNearlySure = 0.8; ///< that a guess is right which no budget holds back
constexpr double kMadeLoss = 0.02;  ///< of a request's tokens, that guesses may lose which cost time to make
constexpr int kRemembered = 4;      ///< drafts of a sequence that wait for the tokens they are compared with
constexpr int kStretchEvery = 16;   ///< choices
constexpr double kStretchChance = 0.5;
constexpr int kSample =
    8; ///< tokens that the cost of one more is measured by, where it is not known yet how many

// The gate that others document: engine/drafting/drafter.hpp, DraftGate::kEma.
constexpr double kEmaNewest = 0.1, kEmaThreshold = 0.5;
constexpr int kEmaPause = 8;

/// Those of the first `count` that cost time to make.
int
made_guesses (const Draft &draft, int count)
{
  return static_cast<int> (
      std::count (draft.source.begin (), draft.source.begin () + count, DraftSource::kModel));
}

} // namespace

/// What is known of the sequence in one slot.
struct DraftController::Slot {
  /// A draft, until it is compared. All of it was made at one time, when the sequence had `at` tokens.
  struct Waiting {
    Draft draft;
    std::array<float, kMaxDraft> chance; ///< by the table, when it was made
    int at = 0;
    int begin = 0; ///< tokens before it are of others, and not scored
    bool active = false;
  };

  uint64_t serial = 0;
  AcceptanceTrack track;
  std::array<Waiting, kRemembered> waiting{};
  int reach = kFirstReach; ///< drafts that may be verified; twice as many after each chain that was all right
  int proven =
      kMaxDraft; ///< drafts that are taken at their word; after a chain that broke twice what was right
  double ema = 1;
  int ema_pause = 0;
  DraftBudget budget;
  DraftBudget made{kMadeLoss}; ///< of guesses that cost time to make
  double replay = 0;           ///< what each accepted token will cost of it if the draft breaks
  bool pausing = false;        ///< the last guesses were not worth verifying
};

DraftController::DraftController () = default;
DraftController::~DraftController () = default;

DraftController::Slot &
DraftController::slot_of (const Sequence &sequence)
{
  const auto index = static_cast<size_t> (sequence.slot);
  if (index >= slots_.size ())
    slots_.resize (index + 1);
  Slot &slot = slots_[index];
  if (slot.serial != sequence.request->serial) {
    slot = {};
    slot.serial = sequence.request->serial;
  }
  return slot;
}

double
DraftController::probability (const Slot &slot, const Draft &draft, int depth, SamplingKind kind) const
{
  const auto i = static_cast<size_t> (depth);
  return slot.track.correct (table_.chance (draft.source[i], kind, draft.probability[i]), depth);
}

double
DraftController::expected (const Slot &slot, const Draft &draft, SamplingKind kind) const
{
  double sum = 0, chance = 1;
  for (int i = 0; i < draft.count; ++i)
    sum += chance *= probability (slot, draft, i, kind);
  return sum;
}

// --- drafters -------------------------------------------------------------------------------------

bool
DraftController::may_try (const Row &row, DraftGate gate)
{
  return gate != DraftGate::kEma || slot_of (*row.sequence).ema_pause == 0;
}

void
DraftController::remember (Slot &slot, const Row &row, const Draft &draft, int begin)
{
  const SamplingKind kind = sampling_kind (row.sequence->request->sampling);
  const auto taken = [&] (const Slot::Waiting &waiting) {
    return waiting.active && waiting.draft.source[static_cast<size_t> (waiting.begin)] ==
                                 draft.source[static_cast<size_t> (begin)];
  };
  // One of each source at a time: what it says in the next step is mostly the same.
  if (begin >= draft.count || std::ranges::any_of (slot.waiting, taken))
    return;
  const auto free = std::ranges::find (slot.waiting, false, &Slot::Waiting::active);
  if (free == slot.waiting.end ())
    return;
  free->draft = draft;
  free->at = static_cast<int> (row.sequence->tokens.size ());
  free->begin = begin;
  free->active = true;
  for (int i = 0; i < draft.count; ++i) {
    const auto at = static_cast<size_t> (i);
    free->chance[at] = static_cast<float> (table_.chance (draft.source[at], kind, draft.probability[at]));
  }
}

void
DraftController::offer (Row &row, const Draft &draft, DraftGate gate)
{
  if (draft.count == 0)
    return;
  Slot &slot = slot_of (*row.sequence);
  remember (slot, row, draft, 0);
  if (row.draft.count == 0) {
    row.draft = draft;
    row.ungated = gate != DraftGate::kCost;
    return;
  }
  const int shorter = std::min (row.draft.count, draft.count);
  const bool agree = std::ranges::equal (row.draft.span ().first (static_cast<size_t> (shorter)),
                                         draft.span ().first (static_cast<size_t> (shorter)));
  const SamplingKind kind = sampling_kind (row.sequence->request->sampling);
  if (!agree) {
    if (expected (slot, draft, kind) > expected (slot, row.draft, kind)) {
      row.draft = draft;
      row.ungated = gate != DraftGate::kCost;
    }
    return;
  }
  // Two that say the same: each token has the word of the more confident, the longer tail stays.
  for (int i = 0; i < draft.count; ++i) {
    const auto at = static_cast<size_t> (i);
    if (i >= row.draft.count)
      row.draft.push (draft.tokens[at], draft.probability[at], draft.source[at]);
    else if (probability (slot, draft, i, kind) > probability (slot, row.draft, i, kind)) {
      row.draft.probability[at] = draft.probability[at];
      row.draft.source[at] = draft.source[at];
    }
  }
}

void
DraftController::extend (Row &row, const Draft &draft)
{
  remember (slot_of (*row.sequence), row, draft, row.draft.count);
  row.draft = draft;
}

double
DraftController::chance (const Row &row, DraftSource source, double belief, int depth)
{
  const SamplingKind kind = sampling_kind (row.sequence->request->sampling);
  return slot_of (*row.sequence).track.correct (table_.chance (source, kind, belief), depth);
}

void
DraftController::charge (const Row &row, double tokens)
{
  slot_of (*row.sequence).made.spend (tokens);
}

bool
DraftController::may_charge (const Row &row)
{
  return slot_of (*row.sequence).made.left () > 0;
}

// --- verify () ------------------------------------------------------------------------------------

/// Gathers the chances of all guesses that may be cut, best first; equal ones in the order of rows and depths, so that what is
/// taken of a chain is a beginning of it.
void
DraftController::gather (const Step &step, double price)
{
  candidates_.clear ();
  for (size_t r = 0; r < step.rows.size (); ++r) {
    const Row &row = step.rows[r];
    if (row.ended () || !row.scored || row.draft.count == 0 || row.ungated)
      continue;
    const Slot &slot = slot_of (*row.sequence);
    const SamplingKind kind = sampling_kind (row.sequence->request->sampling);
    double chance = 1, left = slot.budget.left ();
    for (int i = 0; i < std::min (row.draft.count, slot.reach); ++i) {
      chance *= probability (slot, row.draft, i, kind);
      if (chance < kNearlySure && (left -= price) < 0)
        break;
      const double doubt = i >= slot.proven && chance < kSure ? kDoubt : 1;
      candidates_.push_back ({chance * doubt, static_cast<int> (r), i});
    }
  }
  std::ranges::sort (candidates_, [] (const Candidate &a, const Candidate &b) {
    return a.chance != b.chance ? a.chance > b.chance : a.row != b.row ? a.row < b.row : a.depth < b.depth;
  });
}

/// How many of the candidates, from the first, bring the most tokens per time. `rows` bring one each anyway; `always` tokens
/// are scored whatever is decided.
size_t
DraftController::best_count (const Step &step, int rows, int always, double positions)
{
  const auto step_ms = [&] (int tokens) { return cost_.milliseconds (tokens, positions); };
  // Where a layer is recurrent, tokens accepted from a chain that broke are computed once more.
  const bool replays = !step.recurrent_groups.empty ();
  const double token_ms = replays ? (step_ms (always + kSample) - step_ms (always)) / kSample : 0;
  right_.assign (replays ? step.rows.size () : 0, {});

  double best = rows / step_ms (always) * kMargin, tokens = rows, replay_tokens = 0;
  size_t taken = 0;
  for (size_t n = 0; n < candidates_.size (); ++n) {
    const Candidate &candidate = candidates_[n];
    tokens += candidate.chance;
    if (replays) {
      Right &right = right_[static_cast<size_t> (candidate.row)];
      replay_tokens -= right.replay ();
      right = {candidate.chance, right.expected + candidate.chance};
      replay_tokens += right.replay ();
    }
    const double time = step_ms (always + static_cast<int> (n) + 1) + replay_tokens * token_ms;
    if (tokens / time > best) {
      best = tokens / time;
      taken = n + 1;
    }
  }
  // Costs of long chains are known only as long as long chains are verified: now and then a likely one is, whole.
  if (taken > 0 && ++choices_ % kStretchEvery == 0) {
    while (taken < candidates_.size () && candidates_[taken].chance >= kStretchChance)
      ++taken;
  }
  return taken;
}

void
DraftController::choose (Step &step)
{
  int rows = 0, always = 0, guessed = 0;
  double positions = 0;
  for (const Row &row : step.rows) {
    if (row.ended ())
      continue;
    always += row.prefill_tokens - row.prefilled;
    if (!row.scored)
      continue;
    rows++;
    always += 1 + (row.ungated ? row.draft.count : 0);
    positions += static_cast<double> (row.sequence->tokens.size ());
    guessed += row.draft.count;
  }
  if (guessed == 0)
    return;

  size_t taken = 0;
  if (cost_.knows (always)) { // else this step finds out what it costs without
    gather (step, price (rows, always, kSample, positions));
    taken = best_count (step, rows, always, positions);
  }
  kept_.assign (step.rows.size (), 0);
  for (size_t n = 0; n < taken; ++n) {
    int &kept = kept_[static_cast<size_t> (candidates_[n].row)];
    kept = std::max (kept, candidates_[n].depth + 1);
  }

  int verified = 0, cut = 0;
  for (size_t r = 0; r < step.rows.size (); ++r) {
    Row &row = step.rows[r];
    if (row.ended () || !row.scored || row.draft.count == 0)
      continue;
    if (!row.ungated)
      cut += row.draft.count = kept_[r];
    verified += row.draft.count;
    Slot &slot = slot_of (*row.sequence);
    const bool pausing = row.draft.count == 0;
    row.sequence->request->statistics.drafting.pauses += pausing && !slot.pausing;
    slot.pausing = pausing;
  }
  if (verified > 0 && cost_.knows (rows))
    note_costs (step, rows, verified, positions);
  if (cut > 0)
    spend (step, price (rows, always, cut, positions));
}

/// Of one token more, where `more` are, in tokens of each of the rows.
double
DraftController::price (int rows, int always, int more, double positions) const
{
  const double without = cost_.milliseconds (always, positions);
  return (cost_.milliseconds (always + more, positions) - without) / more * rows / without;
}

void
DraftController::spend (const Step &step, double price)
{
  for (const Row &row : step.rows) {
    if (row.ended () || !row.scored || row.ungated)
      continue;
    Slot &slot = slot_of (*row.sequence);
    slot.budget.spend (price * row.draft.count);
    slot.made.spend (price * made_guesses (row.draft, row.draft.count));
    slot.replay = step.recurrent_groups.empty () ? 0 : price;
  }
}

/// Says on each row what its drafts cost, and what a step without any would.
void
DraftController::note_costs (Step &step, int rows, int verified, double positions) const
{
  const double direct_ms = cost_.milliseconds (rows, positions);
  const double token_ms = (cost_.milliseconds (rows + verified, positions) - direct_ms) / verified;
  for (Row &row : step.rows) {
    if (!row.scored || row.draft.count == 0)
      continue;
    row.direct_us = static_cast<int64_t> (direct_ms * 1000);
    row.verifying_us = static_cast<int64_t> (token_ms * row.draft.count * 1000);
  }
}

// --- the scheduler --------------------------------------------------------------------------------

/// Scores the drafts whose fate is known by now.
void
DraftController::compare (Slot &slot, const Sequence &sequence)
{
  const std::span<const TokenId> tokens = sequence.tokens;
  const SamplingKind kind = sampling_kind (sequence.request->sampling);
  for (Slot::Waiting &waiting : slot.waiting) {
    if (!waiting.active)
      continue;
    const auto come = tokens.subspan (static_cast<size_t> (waiting.at));
    const auto draft = waiting.draft.span ();
    const auto right = static_cast<int> (std::ranges::mismatch (draft, come).in1 - draft.begin ());
    if (right == static_cast<int> (come.size ()) && right < waiting.draft.count)
      continue; // so far so good
    waiting.active = false;
    for (int i = waiting.begin; i <= std::min (right, waiting.draft.count - 1); ++i) {
      const auto at = static_cast<size_t> (i);
      table_.learn (waiting.draft.source[at], kind, waiting.draft.probability[at], i < right);
      slot.track.learn (waiting.chance[at], i, i < right);
    }
  }
}

void
DraftController::settle (const Row &row)
{
  if (row.accepted_count == 0)
    return;
  Slot &slot = slot_of (*row.sequence);
  compare (slot, *row.sequence);
  const int right = row.right_drafts ();
  slot.budget.earn (row.accepted_count, row.ungated ? 0 : right);
  slot.made.earn (row.accepted_count, row.ungated ? 0 : made_guesses (row.draft, right));
  if (right < row.draft.count && !row.ungated)
    slot.budget.spend (slot.replay * row.accepted_count);
  if (right < row.draft.count)
    slot.proven = std::max (2 * right, kFirstReach);
  else if (right >= slot.proven)
    slot.proven = std::min (2 * slot.proven, kMaxDraft);
  if (right == row.draft.count && right >= slot.reach)
    slot.reach = std::min (2 * slot.reach, kMaxDraft);
  slot.ema_pause -= slot.ema_pause > 0;
  if (row.ungated && row.draft.count > 0) {
    const double share = static_cast<double> (row.accepted_count - 1) / row.draft.count;
    slot.ema += (share - slot.ema) * kEmaNewest;
    if (slot.ema < kEmaThreshold)
      slot.ema_pause = kEmaPause;
  }
}

void
DraftController::learn (int scored_tokens, double positions, double position_ms, double milliseconds)
{
  cost_.learn (scored_tokens, milliseconds, positions, position_ms);
}

void
DraftController::clear ()
{
  slots_.clear ();
}

} // namespace millrace
