#include "engine/drafting/model_drafter.hpp"

#include "engine/drafting/draft_controller.hpp"
#include "engine/drafting/model_drafter_rows.hpp"
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
// How many guesses their chances remember.
constexpr double kUsualMemory = 128;
constexpr double kSlotMemory = 24;
// Where guesses were not worth it some of them are made once in so many requests.
constexpr int kRetryRequests = 8, kRetryGuesses = 8;
constexpr int kColdPasses = 2; ///< the first ones bring pages and buffers in, and are not measured
constexpr int kMeasured = 16;  ///< tokens of a pass that is made to measure it
constexpr double kRemarkable =
    0.5; ///< of its cost: a pass that takes less says that the machine was busy before

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
    trials_[kind].again = kRetryGuesses;
  slot.chance = usual_[kind];
  for (ChanceSpread &chance : slot.chance)
    chance.scale (Slot::kWeight);
  slot.rest = 0;
  slot.rested_ms = 0;
  slot.weighed = 0;
  slot.promised = slot.missed = 0;
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
  idle_ms_ = 0;
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
      slot.take_rest (Slot::kFirstRest);
      continue;
    }
    slot.written.insert (slot.written.end (), tokens.begin () + static_cast<ptrdiff_t> (begin),
                         tokens.begin () + static_cast<ptrdiff_t> (end));
    if (complete) {
      const auto others = work.draft.span ();
      slot.written.insert (slot.written.end (), others.begin (), others.end ());
      slot.probing = false;
      slot.missed = 0;
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
  Trials &trials = trials_[static_cast<size_t> (sampling_kind (slot.sampling))];
  int &left = trials.first > 0 ? trials.first : trials.again;
  left -= left > 0;
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
  int rows = 0;
  double positions = 0;
  for (const Row &row : step.rows) {
    if (row.ended () || !row.scored)
      continue;
    rows++;
    positions += static_cast<double> (row.sequence->tokens.size ());
  }
  DraftMarket market (priced ? controller->cost () : kUnknown, pass_cost_, rows, positions);
  if (priced && !market.open ())
    return; // what a step costs without drafts is found out first
  const int64_t began = step.clock ();
  pass_began_ = began;
  steps_++;
  idle_steps_++;
  idle_ms_ += market.step_ms ();
  gather (step, market);
  if (priced)
    weigh (market, controller);
  if (works_.empty ())
    return;

  // Catching up a long way has been weighed against all that is to come.
  const bool is_long =
      std::ranges::any_of (works_, [] (const Work &work) { return work.backlog () > Work::kSmallBacklog; });
  catch_up (step);
  const int64_t caught = step.clock ();
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
  const auto sharers = static_cast<int64_t> (works_.size ());
  if (priced) {
    const double first_ms =
        is_long ? market.pass_ms (static_cast<int> (sharers)) : static_cast<double> (caught - began) / 1000;
    const double guessing_ms = first_ms + static_cast<double> (began + took - caught) / 1000;
    for (const Work &work : works_) {
      if (!work.trial)
        controller->charge (*work.row, guessing_ms * market.price () / static_cast<double> (sharers));
    }
  }
  for (size_t i = 0; i < works_.size (); ++i)
    works_[i].row->sequence->request->statistics.drafting.drafting_us +=
        took / sharers + (static_cast<int64_t> (i) < took % sharers);
}

} // namespace millrace
