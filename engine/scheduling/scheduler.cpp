#include "engine/scheduling/scheduler.hpp"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <stdexcept>

namespace millrace
{

namespace
{

int64_t
now_us ()
{
  using namespace std::chrono;
  return duration_cast<microseconds> (steady_clock::now ().time_since_epoch ()).count ();
}

size_t
available_memory ()
{
  std::ifstream meminfo ("/proc/meminfo");
  std::string key, unit;
  for (size_t kib = 0; meminfo >> key >> kib >> unit;) {
    if (key == "MemAvailable:")
      return kib * 1024;
  }
  return size_t{1} << 30;
}

int
block_budget (const Model &model, const SchedulerSettings &settings)
{
  const size_t block_bytes = std::max<size_t> (model.compiled->kv_block_bytes (), 1);
  const size_t useful = static_cast<size_t> (settings.max_batch) * blocks_for (model.spec.max_positions);
  const size_t bytes = settings.kv_bytes ? settings.kv_bytes : available_memory () / 4;
  const size_t blocks = std::min (bytes / block_bytes, useful);
  if (blocks == 0)
    throw std::invalid_argument ("kv-memory of " + std::to_string (bytes) + " bytes holds no block of " +
                                 std::to_string (kBlockTokens) + " tokens: this model needs " +
                                 std::to_string (block_bytes) + " bytes for each");
  return static_cast<int> (std::min<size_t> (blocks, 1 << 28));
}

bool
wants_counts (const SamplingParams &sampling)
{
  return sampling.repetition_penalty != 1 || sampling.presence_penalty != 0 ||
         sampling.frequency_penalty != 0;
}

} // namespace

Scheduler::Scheduler (std::shared_ptr<const Model> model, const SchedulerSettings &settings)
    : model_ (std::move (model))
    , settings_ (settings)
    , pool_ (block_budget (*model_, settings))
{
  settings_.max_draft = std::clamp (settings_.max_draft, 0, kMaxDraft);
  const int pass_tokens = settings_.prefill_tokens + settings_.max_batch * (1 + settings_.max_draft);
  context_ = model_->compiled->create_context (pool_.size (), pass_tokens);
  for (int slot = settings_.max_batch - 1; slot >= 0; slot--)
    free_slots_.push_back (slot);
  live_.reserve (settings_.max_batch);
}

void
Scheduler::admit (std::shared_ptr<Request> request)
{
  waiting_.push_back ({std::move (request), now_us ()});
}

int
Scheduler::token_limit (const Request &request) const
{
  const int64_t wanted = request.sampling.max_tokens > 0
                             ? static_cast<int64_t> (request.prompt.size ()) + request.sampling.max_tokens
                             : model_->spec.max_positions;
  return static_cast<int> (std::min<int64_t> (wanted, model_->spec.max_positions));
}

RequestError
Scheduler::check (const Request &request) const
{
  if (request.error)
    return request.error;
  if (request.prompt.empty ())
    return {"invalid_request", "prompt", "the prompt is empty: give at least one token"};
  const auto positions = static_cast<size_t> (model_->spec.max_positions);
  if (request.prompt.size () >= positions)
    return {"context_length_exceeded", "prompt",
            "the prompt has " + std::to_string (request.prompt.size ()) +
                " tokens; this model's context holds " + std::to_string (positions) +
                ", at least one of them for the answer"};
  for (TokenId token : request.prompt) {
    if (token < 0 || token >= model_->spec.vocab)
      return {"invalid_request", "tokens",
              "token id " + std::to_string (token) + " is not in the vocabulary of " +
                  std::to_string (model_->spec.vocab)};
  }
  if (auto error = validate (request.sampling, model_->spec.vocab))
    return error;
  const int blocks = blocks_for (token_limit (request) - 1);
  if (blocks > pool_.size ())
    return {"invalid_request", "max_tokens",
            "prompt and max_tokens need " + std::to_string (blocks) + " KV blocks of " +
                std::to_string (kBlockTokens) + " tokens, kv-memory holds " + std::to_string (pool_.size ())};
  return {};
}

void
Scheduler::leave (Waiting &waiting, FinishReason reason)
{
  waiting.request->end (reason);
  auto sequence = std::make_unique<Sequence> ();
  sequence->submitted_us = waiting.submitted_us;
  sequence->request = std::move (waiting.request);
  sequence->slot = -1;
  leaving_.push_back (std::move (sequence));
}

// True when the request has left the queue: it runs now, or ends in this step.
bool
Scheduler::start (Waiting &waiting)
{
  Request &request = *waiting.request;
  if (const auto early = request.finish_early.load (); early != FinishReason::kNone) {
    leave (waiting, early);
    return true;
  }
  if (auto error = check (request)) {
    request.error = std::move (error);
    leave (waiting, FinishReason::kError);
    return true;
  }

  const int limit = token_limit (request);
  const int blocks = blocks_for (limit - 1);
  if (free_slots_.empty () || blocks > pool_.free ())
    return false;

  auto sequence = std::make_unique<Sequence> ();
  sequence->slot = free_slots_.back ();
  free_slots_.pop_back ();
  sequence->submitted_us = waiting.submitted_us;
  request.statistics.queued_us = now_us () - waiting.submitted_us;
  sequence->tokens.reserve (limit + 1);
  sequence->tokens = request.prompt;
  sequence->prompt_tokens = static_cast<int> (request.prompt.size ());
  sequence->max_tokens = limit;
  sequence->blocks.reserve (blocks);
  for (int i = 0; i < blocks; i++)
    sequence->blocks.push_back (pool_.allocate ());
  sequence->stop_ids = request.sampling.stop_token_ids;
  if (!request.sampling.ignore_eos)
    sequence->stop_ids.insert (sequence->stop_ids.end (), model_->eos_token_ids.begin (),
                               model_->eos_token_ids.end ());
  std::sort (sequence->stop_ids.begin (), sequence->stop_ids.end ());
  if (wants_counts (request.sampling)) {
    sequence->counts.reserve (limit);
    sequence->counts.add_prompt (request.prompt);
  }
  statistics_.prompt_tokens += request.prompt.size ();
  sequence->request = std::move (waiting.request);
  live_.push_back (std::move (sequence));
  return true;
}

bool
Scheduler::plan (Step &step)
{
  // First come, first served: a request that does not fit holds back those behind it, or a stream of
  // small ones could starve it. Ended and failed ones leave from anywhere in the queue.
  bool blocked = false;
  for (Waiting &waiting : waiting_) {
    const bool ends = waiting.request->finish_early.load () != FinishReason::kNone || waiting.request->error;
    if (ends || !blocked)
      blocked = !start (waiting) || blocked;
  }
  std::erase_if (waiting_, [] (const Waiting &waiting) { return !waiting.request; });

  step.number = statistics_.steps;
  step.context = context_.get ();
  step.vocab = model_->spec.vocab;
  step.rows.clear ();
  step.top_logprobs.clear ();

  for (const auto &sequence : leaving_) {
    Row &row = step.rows.emplace_back ();
    row.sequence = sequence.get ();
    row.finish = sequence->request->finish_early;
  }

  views_.clear ();
  for (const auto &sequence : live_) {
    const int length = static_cast<int> (sequence->tokens.size ());
    views_.push_back (
        {.prefill_left = length - 1 - sequence->kv_tokens, .draft_room = sequence->max_tokens - length - 1});
  }
  plan_rows (views_, {.prefill_tokens = settings_.prefill_tokens, .max_draft = settings_.max_draft},
             row_plans_);

  auto planned = row_plans_.begin ();
  for (int i = 0; i < static_cast<int> (live_.size ()); i++) {
    const bool has_work = planned != row_plans_.end () && planned->sequence == i;
    const auto early = live_[i]->request->finish_early.load ();
    if (has_work || early != FinishReason::kNone) {
      Row &row = step.rows.emplace_back ();
      row.sequence = live_[i].get ();
      row.position = live_[i]->kv_tokens;
      row.finish = early;
      if (early == FinishReason::kNone) {
        row.prefill_tokens = planned->prefill_tokens;
        row.scored = planned->scored;
        row.draft_limit = planned->draft_limit;
      }
    }
    planned += has_work;
  }
  return !step.rows.empty ();
}

void
Scheduler::release (Sequence &sequence)
{
  for (BlockId block : sequence.blocks)
    pool_.release (block);
  sequence.blocks.clear ();
  if (sequence.slot >= 0)
    free_slots_.push_back (sequence.slot);
  sequence.slot = -1;
}

void
Scheduler::commit (Step &step)
{
  const int64_t now = now_us ();
  statistics_.steps++;
  finished_.clear ();
  for (Row &row : step.rows) {
    Sequence &sequence = *row.sequence;
    RequestStatistics &request = sequence.request->statistics;
    if (row.accepted_count > 0) {
      if (sequence.generated () == 0)
        request.first_token_us = now - sequence.submitted_us;
      for (int i = 0; i < row.accepted_count; i++)
        sequence.tokens.push_back (row.accepted[i].token);
      // All but the newest token have their KV: rejected drafts lie beyond and will be overwritten.
      sequence.kv_tokens = static_cast<int> (sequence.tokens.size ()) - 1;
      request.generated += row.accepted_count;
      statistics_.generated_tokens += row.accepted_count;
      statistics_.drafted += row.draft_count;
      statistics_.accepted += row.accepted_count - 1;
    } else if (!row.scored && !row.ended ()) {
      sequence.kv_tokens += row.prefill_tokens;
    }
    if (row.ended ()) {
      request.total_us = now - sequence.submitted_us;
      statistics_.finished++;
      finished_.push_back (sequence.request);
      release (sequence);
    }
  }
  if (!finished_.empty ()) {
    leaving_.clear ();
    std::erase_if (live_, [] (const auto &sequence) { return sequence->slot < 0; });
  }
  step.rows.clear ();
}

void
Scheduler::clear ()
{
  waiting_.clear ();
  leaving_.clear ();
  finished_.clear ();
  for (auto &sequence : live_)
    release (*sequence);
  live_.clear ();
}

} // namespace millrace
