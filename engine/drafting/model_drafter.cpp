#include "engine/drafting/model_drafter.hpp"

#include "engine/drafting/draft_controller.hpp"
#include "engine/kv/kv_budget.hpp"
#include "engine/sampling/logits_scan.hpp"
#include "engine/tensor/available_memory.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace millrace
{

namespace
{

constexpr int kAutoSequences = 32;  ///< that automatic KV memory is for at most
constexpr uint64_t kAutoShare = 16; ///< of the memory available: 1 in …
constexpr int kPassRows = 64;       ///< tokens of a pass besides those that catch up
// Chances of guesses: how many those that they begin with count as, and how many they remember.
constexpr double kUsualMemory = 128;
constexpr double kSlotWeight = 8, kSlotMemory = 24;
constexpr double kJoin = 0.5; ///< chance that others' guesses are all right, from which on they are continued
constexpr int kFirstRest = 8, kLongestRest = 256; ///< steps
constexpr int kProbe = 2;                         ///< guesses
constexpr int64_t kTrials =
    64; ///< guesses of a kind of sampling that are made before any row rests: the first beliefs are not to be trusted
// Where guesses were not worth it some of them are made once in so many requests: texts differ.
constexpr int kRetryRequests = 8, kRetryGuesses = 8;
constexpr double kProbeShare = 0.01; ///< of the time rested, that a probe may take
constexpr int kColdPasses = 2;       ///< the first ones bring pages and buffers in, and are not measured
/// Steps without a pass after which a small one is made to measure it: one that was measured at a bad time would else never
/// be measured again.
constexpr int64_t kForgets = 512;
constexpr int kMeasured = 16; ///< tokens of that
constexpr double kRemarkable =
    0.5; ///< of its cost: a pass that takes less says that the machine was busy before
constexpr int kSmallBacklog = 16; ///< tokens whose catching up is part of what the step's guesses cost
constexpr double kRepaid = 0.25;  ///< of what drafts are expected to save, that catching up may take
constexpr int kLikelyMore =
    64; ///< tokens that any request is taken to generate yet, unless its limit is nearer

/// Of a token in the softmax of edited logits at the request's temperature. Overwrites them.
float
probability (std::span<float> logits, TokenId token, const SamplingParams &params)
{
  const float max = find_peak (logits).value;
  if (!std::isfinite (max))
    return 0.5F;
  const auto inverse =
      static_cast<float> (params.temperature > 0 ? 1 / std::max (params.temperature, 1e-3) : 1);
  for (float &logit : logits)
    logit = (logit - max) * inverse;
  const double share = std::exp (static_cast<double> (logits[static_cast<size_t> (token)]));
  return static_cast<float> (std::clamp (share / sum_exp (logits, 0), 0.0, 1.0));
}

} // namespace

/// What is kept of the sequence in one of the scheduler's slots.
struct ModelDrafter::Slot {
  uint64_t serial = 0; ///< of its request; 0: none yet
  SequenceKv kv;
  int max_positions = 0; ///< Slice::max_positions
  std::vector<TokenId>
      written;             ///< what its KV has been computed of; beyond kv.tokens they may have been guesses
  size_t checked = 0;      ///< tokens of the sequence that the model knows
  bool foreign = false;    ///< it has tokens that the model does not know
  SamplingParams sampling; ///< the request's, without log-probabilities
  std::array<ChanceSpread, 2> chance; ///< of its guesses, at the first place and later
  int64_t used = 0;                   ///< step of the drafter

  int rest = 0; ///< steps of the last rest; 0: its drafts are worth it
  int rest_left = 0;
  double rested_ms = 0;
  bool probing = false; ///< a probe is under way, catching up perhaps
  bool probed = false;  ///< since the last rest
  int streak = 0;       ///< steps that drafts were worth it since the last rest

  void take_rest (int steps)
  {
    rest_left = steps;
    probing = probed = false;
    streak = 0;
  }
  /// What others do by now has a say again.
  void come_back (const std::array<ChanceSpread, 2> &usual)
  {
    for (size_t place = 0; place < chance.size (); ++place) {
      ChanceSpread others = usual[place];
      others.scale (kSlotWeight / 2);
      chance[place].scale (kSlotWeight / 2);
      chance[place].merge (others);
    }
  }
};

/// A row in the step under way.
struct ModelDrafter::Work {
  Row *row = nullptr; ///< null: not in this step
  Slot *slot = nullptr;
  int most = 0;          ///< guesses that there may be, with those of others that it continues
  Draft draft;           ///< own guesses, after those of others if it continues them
  int joined = 0;        ///< guesses of others
  double chance = 1;     ///< that all of `draft` is right
  bool active = false;   ///< wants another guess
  bool probe = false;    ///< made whatever they are worth
  bool measures = false; ///< computes a little of what is missing, and no guesses

  int length () const { return static_cast<int> (row->sequence->tokens.size ()); }
  int backlog () const { return length () - 1 - slot->kv.tokens; }
  int made () const { return draft.count - joined; }
};

ModelDrafter::ModelDrafter (std::shared_ptr<const Model> model, const ModelDrafterSettings &settings)
    : model_ (std::move (model))
    , settings_ (settings)
{
  settings_.max_draft = std::clamp (settings.max_draft, 0, kMaxDraft);
  settings_.prefill_tokens = std::max (settings.prefill_tokens, 1);
  const KvLayout layout = model_->compiled->kv_layout (settings.kv_type);
  if (std::ranges::any_of (layout,
                           [] (const KvGroup &group) { return group.kind == KvGroup::Kind::kRecurrent; }))
    throw LoadError (
        model_->directory, "",
        "has recurrent layers, whose state cannot take back rejected drafts; choose a draft model "
        "with attention only");
  ContextOptions options;
  options.kv_type = settings.kv_type;
  options.kv_blocks = divide_kv_memory (
      layout, {.bytes = settings.kv_bytes ? settings.kv_bytes
                                          : static_cast<size_t> (available_memory () / kAutoShare),
               .max_batch = kAutoSequences,
               .max_positions = model_->spec.max_positions,
               .chunk = settings_.prefill_tokens});
  options.max_tokens = settings_.prefill_tokens + kPassRows;
  context_ = model_->compiled->create_context (options);
  kv_ = std::make_unique<KvCache> (layout, options.kv_blocks, *context_, KvCacheSettings{});
}

ModelDrafter::~ModelDrafter () = default;

void
ModelDrafter::clear ()
{
  for (Slot &slot : slots_)
    release (slot);
  slots_.clear ();
}

std::string
ModelDrafter::inconsistency () const
{
  std::vector<const SequenceKv *> sequences;
  for (const Slot &slot : slots_)
    sequences.push_back (&slot.kv);
  return kv_->inconsistency (sequences);
}

// --- one sequence ---------------------------------------------------------------------------------

void
ModelDrafter::release (Slot &slot)
{
  slot.written.resize (static_cast<size_t> (slot.kv.tokens));
  kv_->release (slot.kv, slot.written);
  slot.written.clear ();
}

ModelDrafter::Slot &
ModelDrafter::slot_of (const Sequence &sequence)
{
  Slot &slot = slots_[static_cast<size_t> (sequence.slot)];
  const Request &request = *sequence.request;
  if (slot.serial == request.serial)
    return slot;
  release (slot);
  slot.serial = request.serial;
  slot.checked = 0;
  slot.foreign = false;
  slot.sampling = request.sampling;
  slot.sampling.logprobs = -1;
  const auto kind = static_cast<size_t> (sampling_kind (request.sampling));
  if (++requests_ % kRetryRequests == 0)
    trials_[kind] = std::max<int64_t> (0, std::min (trials_[kind], kTrials) - kRetryGuesses);
  slot.chance = usual_[kind];
  for (ChanceSpread &chance : slot.chance)
    chance.scale (kSlotWeight);
  slot.rest = 0;
  slot.rested_ms = 0;
  slot.take_rest (0);
  const size_t longest = static_cast<size_t> (std::max (sequence.max_tokens, 0)) + kMaxDraft + 1;
  slot.written.reserve (std::max (longest, sequence.tokens.size () + kMaxDraft + 1));
  return slot;
}

/// Brings the slot's books to where the sequence is now. False: the model does not know its tokens.
bool
ModelDrafter::follow (Slot &slot, const Sequence &sequence)
{
  const std::span<const TokenId> tokens = sequence.tokens;
  const auto known = [&] (TokenId token) { return token >= 0 && token < model_->spec.vocab; };
  slot.foreign = slot.foreign || !std::ranges::all_of (tokens.subspan (slot.checked), known);
  slot.checked = tokens.size ();
  if (slot.foreign) {
    release (slot);
    return false;
  }
  slot.used = steps_;
  if (slot.kv.tables[0].empty ()) {
    slot.max_positions = std::min (sequence.max_tokens, model_->spec.max_positions);
    slot.kv.root = root_of (kv_variant (model_->spec, slot.max_positions));
    kv_->attach (slot.kv, tokens);
    slot.written.assign (tokens.begin (), tokens.begin () + slot.kv.tokens);
    return true;
  }
  // Guesses that were right have their KV already; the pending token is always computed, for its logits.
  auto valid = static_cast<size_t> (slot.kv.tokens);
  while (valid < slot.written.size () && valid + 1 < tokens.size () && slot.written[valid] == tokens[valid])
    ++valid;
  slot.written.resize (valid);
  kv_->commit (slot.kv, slot.written, sequence.generated () > 0);
  if (valid + 1 < tokens.size () && kv_->extend (slot.kv, tokens) > 0)
    slot.written.assign (tokens.begin (), tokens.begin () + slot.kv.tokens);
  return true;
}

/// Makes room; sequences that are not in this step give up theirs, those first that were not for longest.
bool
ModelDrafter::reserve (Slot &slot, int length)
{
  while (!kv_->reserve (slot.kv, length)) {
    Slot *oldest = nullptr;
    for (Slot &other : slots_) {
      if (other.used < steps_ && !other.kv.tables[0].empty () && (!oldest || other.used < oldest->used))
        oldest = &other;
    }
    if (!oldest)
      return false;
    release (*oldest);
  }
  return true;
}

// --- what is worth it -----------------------------------------------------------------------------

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
  prospect.before = work.backlog () <= kSmallBacklog ? work.backlog () : 0;
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
  if (backlog <= kSmallBacklog)
    return true;
  const Sequence &sequence = *work.row->sequence;
  const int more =
      std::min (sequence.max_tokens - work.length (), std::max (kLikelyMore, sequence.generated ()));
  const double steps = more / (1 + prospect.gain + prospect.standing);
  return catch_up_ms (market, backlog) <= kRepaid * steps * prospect.gain / market.price ();
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
    slot.rest = kFirstRest;
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
    slot.take_rest (kFirstRest);
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
    if (prospect.depth > 0 && repays (market, work, prospect)) {
      // Once back from a rest, it must last to count.
      if (++slot.streak > kFirstRest)
        slot.rest = 0;
      slot.probed = slot.rest > 0;
    } else if (slot.probing) {
      work.most = std::min (work.most, work.joined + kProbe);
    } else if (prospect.standing > 0 || work.joined > 0) {
      work.row = nullptr; // what others say is better than these would be
    } else if (trials_[static_cast<size_t> (sampling_kind (slot.sampling))] < kTrials &&
               work.backlog () <= settings_.prefill_tokens) {
      work.probe = true;
      work.most = std::min (work.most, work.joined + kProbe);
    } else {
      decline (market, work);
    }
  }
  std::erase_if (works_, [] (const Work &work) { return !work.row; });
}

// --- passes ---------------------------------------------------------------------------------------

void
ModelDrafter::flush ()
{
  if (!slices_.empty ())
    context_->forward (slices_);
  statistics_.passes += !slices_.empty ();
  slices_.clear ();
  room_ = context_->max_tokens ();
}

/// The tokens of slot.written from `begin` on go into the pass.
void
ModelDrafter::add_slice (const Slot &slot, size_t begin, float *logits)
{
  Slice slice;
  slice.tokens = std::span<const TokenId> (slot.written).subspan (begin);
  slice.position = static_cast<int> (begin);
  slice.max_positions = slot.max_positions;
  std::ranges::copy (slot.kv.tables, slice.blocks.begin ());
  slice.scored = logits ? 1 : 0;
  slice.logits = logits;
  const int count = static_cast<int> (slice.tokens.size ());
  if (count > room_)
    flush ();
  slices_.push_back (slice);
  room_ -= count;
  pass_tokens_ += count;
  statistics_.tokens += count;
}

std::span<float>
ModelDrafter::logits_of (size_t work)
{
  const auto vocab = static_cast<size_t> (model_->spec.vocab);
  return std::span (logits_).subspan (work * vocab, vocab);
}

/// Computes the slices and takes a guess of each row that is active.
void
ModelDrafter::run_pass (const Step &step)
{
  flush ();
  const auto common = static_cast<size_t> (std::min (step.vocab, model_->spec.vocab));
  for (size_t i = 0; i < works_.size (); ++i) {
    if (works_[i].active)
      guess (works_[i], logits_of (i).first (common), step.drafting);
  }
  const int64_t now = step.clock ();
  if (passes_++ >= kColdPasses) {
    const double milliseconds = static_cast<double> (now - pass_began_) / 1000;
    if (milliseconds < kRemarkable * pass_cost_.milliseconds (pass_tokens_))
      pass_cost_ = {};
    pass_cost_.learn (pass_tokens_, milliseconds);
  }
  idle_steps_ = 0;
  pass_began_ = now;
  pass_tokens_ = 0;
}

/// The first pass: computes what is missing before the pending tokens, as far as the step's share goes. Rows that have
/// more to compute go on in the next step.
void
ModelDrafter::catch_up (const Step &step)
{
  const size_t floats = works_.size () * static_cast<size_t> (model_->spec.vocab);
  if (logits_.size () < floats)
    logits_.resize (floats);
  int share = settings_.prefill_tokens;
  for (size_t i = 0; i < works_.size (); ++i) {
    Work &work = works_[i];
    Slot &slot = *work.slot;
    const std::span<const TokenId> tokens = work.row->sequence->tokens;
    const int backlog = work.backlog (),
              count = std::min (backlog, work.measures ? std::min (share, kMeasured) : share);
    const bool complete = count == backlog && !work.measures;
    if (count == 0 && !complete)
      continue;
    share -= count;
    const auto begin = slot.written.size (),
               end = complete ? tokens.size () : begin + static_cast<size_t> (count);
    if (!reserve (slot, static_cast<int> (end) + (complete ? work.most - 1 : 0))) {
      statistics_.shortages++;
      release (slot);
      slot.take_rest (kFirstRest);
      continue;
    }
    slot.written.insert (slot.written.end (), tokens.begin () + static_cast<ptrdiff_t> (begin),
                         tokens.begin () + static_cast<ptrdiff_t> (end));
    if (complete) {
      const auto others = work.draft.span ();
      slot.written.insert (slot.written.end (), others.begin (), others.end ());
      slot.probing = false;
    }
    work.active = complete;
    add_slice (slot, begin, complete ? logits_of (i).data () : nullptr);
  }
  if (pass_tokens_ > 0)
    run_pass (step);
}

/// A guess from the logits after what the row has so far.
void
ModelDrafter::guess (Work &work, std::span<float> logits, DraftController *controller)
{
  Slot &slot = *work.slot;
  const Sequence &sequence = *work.row->sequence;
  const int depth = work.draft.count, position = sequence.generated () + depth;
  const TokenId token = sampler_
                            .sample (logits, slot.sampling, sequence.counts, sequence.stop_ids,
                                     static_cast<uint64_t> (position), top_)
                            .token;
  work.active = token >= 0;
  if (!work.active)
    return;
  const float belief = probability (logits, token, slot.sampling);
  work.draft.push (token, belief, DraftSource::kModel);
  statistics_.guesses++;
  trials_[static_cast<size_t> (sampling_kind (slot.sampling))]++;
  const double chance =
      controller ? controller->chance (*work.row, DraftSource::kModel, belief, depth) : belief;
  work.chance *= chance;
  const size_t place = depth == 0 ? 0 : 1;
  slot.chance[place].add (chance, kSlotMemory);
  usual_[static_cast<size_t> (sampling_kind (slot.sampling))][place].add (chance, kUsualMemory);
  const bool ends =
      position >= slot.sampling.min_tokens && std::ranges::binary_search (sequence.stop_ids, token);
  work.active = !ends && work.draft.count < work.most;
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

void
ModelDrafter::offer (Work &work, DraftController *controller) const
{
  if (work.made () == 0)
    return;
  if (!controller)
    work.row->draft = work.draft;
  else if (work.joined > 0)
    controller->extend (*work.row, work.draft);
  else
    controller->offer (*work.row, work.draft, settings_.gate);
}

void
ModelDrafter::draft (Step &step)
{
  static const VerifyCost kUnknown;
  DraftController *controller = step.drafting;
  const bool priced = controller && settings_.gate == DraftGate::kCost;
  const auto scored = [] (const Row &row) { return !row.ended () && row.scored; };
  DraftMarket market (priced ? controller->cost () : kUnknown, pass_cost_,
                      static_cast<int> (std::ranges::count_if (step.rows, scored)));
  if (priced && !market.open ())
    return; // what a step costs without drafts is found out first
  const int64_t began = step.clock ();
  pass_began_ = began;
  steps_++;
  idle_steps_++;
  gather (step, market);
  if (priced)
    weigh (market, controller);
  if (works_.empty ())
    return;

  catch_up (step);
  for (;;) {
    if (priced)
      stop_unlikely (market);
    for (size_t i = 0; i < works_.size (); ++i) {
      Work &work = works_[i];
      if (!work.active)
        continue;
      work.slot->written.push_back (work.draft.span ().back ());
      add_slice (*work.slot, work.slot->written.size () - 1, logits_of (i).data ());
    }
    if (pass_tokens_ == 0)
      break;
    run_pass (step);
  }
  for (Work &work : works_)
    offer (work, controller);

  const int64_t took = step.clock () - began;
  step.drafting_us += took;
  const auto rows = static_cast<int64_t> (works_.size ());
  for (size_t i = 0; i < works_.size (); ++i)
    works_[i].row->sequence->request->statistics.drafting.drafting_us +=
        took / rows + (static_cast<int64_t> (i) < took % rows);
}

} // namespace millrace
