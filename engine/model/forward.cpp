// Rows of a step → slices of forward passes.
//
// A pass takes at most ExecutionContext::max_tokens () tokens, so a long row is cut into pieces that run in
// successive passes; its scored tokens are the last ones. Logits and slices live in the step's arenas, which
// stop growing once the largest step was seen. Hidden states, for embeddings, follow the logits in their arena: those of
// one pass, which are pooled before the next.
#include "engine/model/forward.hpp"

#include "engine/step.hpp"

#include <algorithm>

namespace millrace
{

namespace
{

/// Collects slices and runs a pass whenever the next token would not fit.
class Passes
{
public:
  /// `hidden`: room for the hidden states of a pass, where any are wanted.
  Passes (Step &step, float *hidden)
      : step_ (step)
      , room_ (step.context->max_tokens ())
      , hidden_ (hidden)
      , next_hidden_ (hidden)
  {
    step.slices.clear ();
  }

  /// `tokens` at `position` of a sequence; logits of the last `scored` of them go to `logits`.
  void add (Sequence &sequence, int position, std::span<const TokenId> tokens, int scored, float *logits)
  {
    const int count = static_cast<int> (tokens.size ());
    for (int begin = 0; begin < count;) {
      const int end = std::min (count, begin + room_);
      const int first_scored = std::max (begin, count - scored);
      Slice slice;
      slice.tokens = tokens.subspan (static_cast<size_t> (begin), static_cast<size_t> (end - begin));
      slice.position = position + begin;
      slice.max_positions = sequence.max_tokens;
      std::ranges::copy (sequence.kv.tables, slice.blocks.begin ());
      if (first_scored < end) {
        slice.scored = end - first_scored;
        slice.logits = logits + static_cast<size_t> (first_scored - (count - scored)) *
                                    static_cast<size_t> (step_.vocab);
      }
      if (sequence.pool.wants (slice.position, end - begin)) {
        slice.hidden = next_hidden_;
        next_hidden_ += static_cast<size_t> (end - begin) * sequence.pool.width ();
        sequence.pool.expect (slice.hidden, slice.position, end - begin);
      }
      step_.slices.push_back (slice);
      room_ -= end - begin;
      begin = end;
      if (room_ == 0)
        run ();
    }
  }

  void run ()
  {
    if (!step_.slices.empty ())
      step_.context->forward (step_.slices);
    step_.slices.clear ();
    room_ = step_.context->max_tokens ();
    if (next_hidden_ != hidden_) {
      for (Row &row : step_.rows)
        row.sequence->pool.collect ();
      next_hidden_ = hidden_;
    }
  }

private:
  Step &step_;
  int room_;
  float *hidden_, *next_hidden_;
};

int
left_to_prefill (const Row &row)
{
  return row.prefill_tokens - row.prefilled;
}

/// Of an embedding's last token not the logits are wanted.
int
scored_tokens (const Row &row)
{
  return row.scored && !row.sequence->pool.active () ? 1 + row.draft.count : 0;
}

int
tokens_to_verify (const Row &row)
{
  return left_to_prefill (row) + (row.scored ? 1 + row.draft.count : 0);
}

/// The tokens a row still has to run: the rest of its chunk, the pending token, the drafts. The first two
/// are neighbours in the sequence; only drafts need a copy.
std::span<const TokenId>
verified_tokens (Step &step, const Row &row)
{
  const auto known = std::span<const TokenId> (row.sequence->tokens)
                         .subspan (static_cast<size_t> (row.position + row.prefilled),
                                   static_cast<size_t> (left_to_prefill (row) + (row.scored ? 1 : 0)));
  if (!row.scored || row.draft.count == 0)
    return known;
  const size_t begin = step.slice_tokens.size ();
  step.slice_tokens.insert (step.slice_tokens.end (), known.begin (), known.end ());
  step.slice_tokens.insert (step.slice_tokens.end (), row.draft.tokens.begin (),
                            row.draft.tokens.begin () + row.draft.count);
  return std::span<const TokenId> (step.slice_tokens).subspan (begin);
}

/// Floats that the hidden states of a row's next `count` tokens take in one pass; 0 when they are not wanted.
size_t
hidden_floats (const Step &step, const Row &row, int count)
{
  const EmbeddingPool &pool = row.sequence->pool;
  if (!pool.wants (row.position + row.prefilled, count))
    return 0;
  return static_cast<size_t> (std::min (count, step.context->max_tokens ())) * pool.width ();
}

/// Sizes the arenas, so that nothing moves once spans and pointers into them were given out. Returns where the hidden
/// states of a pass go.
float *
reserve_arenas (Step &step)
{
  size_t logits = 0, tokens = 0, hidden = 0;
  for (const Row &row : step.rows) {
    if (row.ended ())
      continue;
    logits += static_cast<size_t> (scored_tokens (row)) * static_cast<size_t> (step.vocab);
    tokens += static_cast<size_t> (tokens_to_verify (row));
    hidden += hidden_floats (step, row, tokens_to_verify (row));
  }
  if (step.logits.size () < logits + hidden)
    step.logits.resize (logits + hidden);
  step.slice_tokens.clear ();
  step.slice_tokens.reserve (tokens);
  step.slices.reserve (step.rows.size ());
  return step.logits.data () + logits;
}

/// Rejected drafts cannot be taken out of recurrent state: it is kept as it is before the row's tokens.
void
take_checkpoint (Step &step, Row &row)
{
  for (const int group : step.recurrent_groups) {
    const auto &blocks = row.sequence->kv.tables[static_cast<size_t> (group)];
    step.context->copy_block (group, blocks[0], blocks[1]);
  }
  row.checkpoint = row.position + row.prefilled;
}

/// The whole prompt has been computed, and that is all that was asked for.
void
finish_embedding (Row &row)
{
  Request &request = *row.sequence->request;
  if (row.sequence->pool.finish (request.embed, request.embedding))
    row.finish = FinishReason::kStop;
  else
    row.fail ("internal", "the model's hidden states are not numbers, or some are missing");
}

} // namespace

void
prefill (Step &step, int defer_below)
{
  const auto runs = [&] (const Row &row) {
    return !row.ended () && row.prefill_tokens > defer_below && left_to_prefill (row) > 0;
  };
  size_t hidden = 0;
  for (const Row &row : step.rows) {
    if (runs (row))
      hidden += hidden_floats (step, row, left_to_prefill (row));
  }
  if (step.logits.size () < hidden)
    step.logits.resize (hidden);
  step.slices.reserve (step.rows.size ());
  Passes passes (step, step.logits.data ());
  for (Row &row : step.rows) {
    if (!runs (row))
      continue;
    passes.add (*row.sequence, row.position + row.prefilled,
                row.prefill_span ().subspan (static_cast<size_t> (row.prefilled)), 0, nullptr);
    row.prefilled = row.prefill_tokens;
  }
  passes.run ();
}

void
verify (Step &step)
{
  Passes passes (step, reserve_arenas (step));
  float *logits = step.logits.data ();
  for (Row &row : step.rows) {
    row.logits = nullptr;
    if (row.ended ())
      continue;
    const int scored = scored_tokens (row);
    if (scored > 0)
      row.logits = logits;
    if (row.draft.count > 0)
      take_checkpoint (step, row);
    passes.add (*row.sequence, row.position + row.prefilled, verified_tokens (step, row), scored, logits);
    row.prefilled = row.prefill_tokens;
    logits += static_cast<size_t> (scored) * static_cast<size_t> (step.vocab);
  }
  passes.run ();
  for (Row &row : step.rows) {
    if (row.scored && !row.ended () && row.sequence->pool.active ())
      finish_embedding (row);
  }
}

} // namespace millrace
