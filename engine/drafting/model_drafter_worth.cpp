// Which rows the draft model guesses for, and for how long: what is worth its time.
#include "engine/drafting/draft_controller.hpp"
#include "engine/drafting/model_drafter_rows.hpp"

#include <algorithm>
#include <array>

namespace millrace
{

namespace
{

constexpr double kJoin = 0.5; ///< chance that others' guesses are all right, from which on they are continued
constexpr int kLongestRest = 256;    ///< steps
constexpr int kProbe = 2;            ///< guesses
constexpr double kProbeShare = 0.01; ///< of the time rested, that a probe may take
/// Steps without a pass after which a small one is made to measure it: one that was measured at a bad time would else never
/// be measured again.
constexpr int64_t kForgets = 512;
constexpr double kMissed = 0.35;     ///< of what catching up takes, that has to be missed before
constexpr double kTrialShare = 0.02; ///< of the time without passes, that catching up may take for a trial
constexpr double kRepaid = 0.25;     ///< of what drafts are expected to save, that catching up may take
constexpr int kLikelyMore =
    64; ///< tokens that any request is taken to generate yet, unless its limit is nearer

} // namespace

void
ModelDrafter::consider (Row &row, const DraftMarket &market, DraftController *controller)
{
  const int limit = std::min (row.draft_limit, settings_.max_draft);
  const Sequence &sequence = *row.sequence;
  if (row.ended () || !row.scored || limit <= 0 || sequence.slot < 0 || sequence.pool.active ())
    return;
  if (!controller && row.draft.count > 0)
    return;
  // The last guess of a draft needs no position of its own.
  const int most =
      std::min (limit, model_->spec.max_positions + 1 - static_cast<int> (sequence.tokens.size ()));
  Slot &slot = slot_of (sequence);
  if (most <= 0 || slot.foreign || (controller && !controller->may_try (row, settings_.gate)))
    return;
  if (controller && settings_.gate == DraftGate::kCost && !controller->may_charge (row))
    return;
  if (slot.rest_left > 0) {
    slot.rest_left--;
    slot.rested_ms += market.step_ms () / market.rows ();
    if (slot.rest_left == 0)
      slot.come_back (usual_[static_cast<size_t> (sampling_kind (slot.sampling))]);
    return;
  }
  if (!follow (slot, sequence))
    return;
  Work &work = works_.emplace_back ();
  work.row = &row;
  work.slot = &slot;
  work.most = most;
}

/// Rows that may have drafts, and do not rest.
void
ModelDrafter::gather (Step &step, const DraftMarket &market)
{
  works_.clear ();
  prospects_.clear ();
  int slots = 0;
  for (const Row &row : step.rows)
    slots = std::max (slots, row.sequence->slot + 1);
  if (static_cast<size_t> (slots) > slots_.size ())
    slots_.resize (static_cast<size_t> (slots));
  for (Row &row : step.rows)
    consider (row, market, step.drafting);
}

/// What guesses for the row would be like. Those of others are continued where they are likely right to their end, and
/// else compete with these.
DraftProspect
ModelDrafter::prospect_of (Work &work, const DraftMarket &market, DraftController *controller) const
{
  const double floor = market.floor ();
  const Draft &others = work.row->draft;
  const Slot &slot = *work.slot;
  DraftProspect prospect{.most = work.most, .later = slot.chance[1].mean ()};
  // More than that is weighed against all that is to come (repays ()).
  prospect.before = work.backlog () <= Work::kSmallBacklog ? work.backlog () : 0;
  prospect.first = slot.chance[0].mean_above (floor, prospect.taken);
  if (others.count == 0 || !controller)
    return prospect;
  double chance = 1;
  std::array<double, kMaxDraft> chances;
  for (int i = 0; i < others.count; ++i) {
    const auto at = static_cast<size_t> (i);
    chances[at] = chance *= controller->chance (*work.row, others.source[at], others.probability[at], i);
  }
  if (chance < kJoin) {
    prospect.standing = market.worth (std::span (chances).first (static_cast<size_t> (others.count)));
    return prospect;
  }
  work.joined = others.count;
  prospect.before += others.count;
  work.draft = others;
  work.chance = chance;
  prospect.most = std::max (0, work.most - others.count);
  prospect.first = slot.chance[1].mean_above (floor, prospect.taken);
  prospect.reach = chance;
  return prospect;
}

/// Whether what drafts are expected to save until the request ends is worth computing what it has so far.
bool
ModelDrafter::repays (const DraftMarket &market, const Work &work, const DraftProspect &prospect) const
{
  const int backlog = work.backlog ();
  if (backlog <= Work::kSmallBacklog)
    return true;
  const Sequence &sequence = *work.row->sequence;
  const int more =
      std::min (sequence.max_tokens - work.length (), std::max (kLikelyMore, sequence.generated ()));
  const double steps = more / (1 + prospect.gain + prospect.standing);
  const double gain = work.slot->promised / work.slot->weighed; // a step, whoever else has guesses
  return catch_up_ms (market, backlog) <= kRepaid * steps * gain / market.price ();
}

/// Whether guesses have not been missed enough yet for computing what the request has so far: it may end soon, and others'
/// guesses may be better at most places. Who waits until that has cost a part as much never loses much by either.
bool
ModelDrafter::has_to_wait (const DraftMarket &market, const Work &work) const
{
  const int backlog = work.backlog ();
  return backlog > Work::kSmallBacklog &&
         work.slot->missed < kMissed * catch_up_ms (market, backlog) * market.price ();
}

/// Whether a row whose guesses are not worth it has some made all the same: the first of its kind of sampling, and later a few
/// whose catching up takes little of the time in which the model did nothing.
bool
ModelDrafter::is_on_trial (const DraftMarket &market, const Work &work)
{
  const int backlog = work.backlog ();
  const Trials &trials = trials_[static_cast<size_t> (sampling_kind (work.slot->sampling))];
  if (trials.first > 0)
    return backlog <= settings_.prefill_tokens;
  if (trials.again <= 0 || backlog <= Work::kSmallBacklog)
    return trials.again > 0;
  const double needed_ms = catch_up_ms (market, backlog) / kTrialShare;
  if (needed_ms > idle_ms_)
    return false;
  idle_ms_ -= needed_ms;
  return true;
}

double
ModelDrafter::catch_up_ms (const DraftMarket &market, int backlog) const
{
  const int chunk = std::min (backlog, settings_.prefill_tokens);
  return chunk > 0 ? market.pass_ms (chunk) * backlog / chunk : 0;
}

/// Drafts of this row are not worth it: it rests, or finds out whether that is still so.
void
ModelDrafter::decline (const DraftMarket &market, Work &work)
{
  Slot &slot = *work.slot;
  if (slot.rest == 0) {
    slot.rest = Slot::kFirstRest;
    slot.rested_ms = 0;
    slot.take_rest (slot.rest);
  } else if (slot.probed) {
    slot.rest = std::min (2 * slot.rest, kLongestRest);
    slot.take_rest (slot.rest);
  } else if (catch_up_ms (market, work.backlog ()) + kProbe * market.pass_ms (1) <=
             kProbeShare * slot.rested_ms) {
    slot.rested_ms = 0;
    slot.probing = slot.probed = work.probe = true;
    work.most = std::min (work.most, work.joined + kProbe);
    statistics_.probes++;
    return;
  } else {
    slot.take_rest (Slot::kFirstRest);
    if (idle_steps_ >= kForgets && work.backlog () > 0) {
      idle_steps_ = 0;
      work.measures = true;
      return;
    }
  }
  work.row = nullptr;
}

/// Leaves those in works_ whose drafts are worth their time.
void
ModelDrafter::weigh (DraftMarket &market, DraftController *controller)
{
  for (Work &work : works_) {
    prospects_.push_back (prospect_of (work, market, controller));
    if (work.slot->probing) { // has been decided
      work.probe = true;
      prospects_.back ().most = 0;
    }
  }
  market.weigh (prospects_);
  for (size_t i = 0; i < works_.size (); ++i) {
    Work &work = works_[i];
    const DraftProspect &prospect = prospects_[i];
    Slot &slot = *work.slot;
    const double promise = prospect.depth > 0 ? prospect.gain : 0;
    slot.weighed++;
    slot.promised += promise;
    slot.missed += promise;
    const bool wanted = prospect.depth > 0 && repays (market, work, prospect);
    if (wanted && (work.probe || !has_to_wait (market, work))) {
      // Once back from a rest, it must last to count.
      if (++slot.streak > Slot::kFirstRest)
        slot.rest = 0;
      slot.probed = slot.rest > 0;
    } else if (slot.probing) {
      work.most = std::min (work.most, work.joined + kProbe);
    } else if (prospect.standing > 0 || work.joined > 0) {
      work.row = nullptr; // what others say is better than these would be
    } else if (is_on_trial (market, work)) {
      work.probe = work.trial = true;
      work.most = std::min (work.most, work.joined + kProbe);
    } else if (wanted) {
      work.row = nullptr; // waits
    } else {
      decline (market, work);
    }
  }
  std::erase_if (works_, [] (const Work &work) { return !work.row; });
}

/// Ends the drafts whose next guess is not expected to be worth its part of a pass.
void
ModelDrafter::stop_unlikely (const DraftMarket &market)
{
  int active = 0, guesses = 0;
  for (const Work &work : works_) {
    active += work.active;
    guesses += work.made ();
  }
  if (active == 0)
    return;
  const double bar = market.bar (active, guesses);
  for (Work &work : works_)
    work.active = work.active && (work.probe || work.chance * work.slot->chance[1].mean () >= bar);
}

} // namespace millrace
