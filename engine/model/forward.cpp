// Rows of a step → slices of forward passes.
//
// A pass takes at most ExecutionContext::max_tokens () tokens, so a long row is cut into pieces that run in
// successive passes; its scored tokens are the last ones. Logits and slices live in the step's arenas, which
// stop growing once the largest step was seen.
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
  explicit Passes (Step &step)
      : step_ (step)
      , room_ (step.context->max_tokens ())
  {
    step.slices.clear ();
  }

  /// `tokens` at `position` of a sequence; logits of the last `scored` of them go to `logits`.
  void add (const Sequence &sequence, int position, std::span<const TokenId> tokens, int scored,
            float *logits)
  {
    const int count = static_cast<int> (tokens.size ());
    for (int begin = 0; begin < count;) {
      const int end = std::min (count, begin + room_);
      const int first_scored = std::max (begin, count - scored);
      Slice slice;
      slice.tokens = tokens.subspan (static_cast<size_t> (begin), static_cast<size_t> (end - begin));
      slice.position = position + begin;
      std::ranges::copy (sequence.kv.tables, slice.blocks.begin ());
      if (first_scored < end) {
        slice.scored = end - first_scored;
        slice.logits = logits + static_cast<size_t> (first_scored - (count - scored)) *
                                    static_cast<size_t> (step_.vocab);
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
  }

private:
  Step &step_;
  int room_;
};

int
left_to_prefill (const Row &row)
{
  return row.prefill_tokens - row.prefilled;
}

int
scored_tokens (const Row &row)
{
  return row.scored ? 1 + row.draft_count : 0;
}

/// The tokens a row still has to run: the rest of its chunk, the pending token, the drafts. The first two
/// are neighbours in the sequence; only drafts need a copy.
std::span<const TokenId>
verified_tokens (Step &step, const Row &row)
{
  const auto known = std::span<const TokenId> (row.sequence->tokens)
                         .subspan (static_cast<size_t> (row.position + row.prefilled),
                                   static_cast<size_t> (left_to_prefill (row) + (row.scored ? 1 : 0)));
  if (!row.scored || row.draft_count == 0)
    return known;
  const size_t begin = step.slice_tokens.size ();
  step.slice_tokens.insert (step.slice_tokens.end (), known.begin (), known.end ());
  step.slice_tokens.insert (step.slice_tokens.end (), row.draft.begin (),
                            row.draft.begin () + row.draft_count);
  return std::span<const TokenId> (step.slice_tokens).subspan (begin);
}

/// Sizes the arenas, so that nothing moves once spans and pointers into them were given out.
void
reserve_arenas (Step &step)
{
  size_t logits = 0, tokens = 0;
  for (const Row &row : step.rows) {
    if (row.ended ())
      continue;
    logits += static_cast<size_t> (scored_tokens (row)) * static_cast<size_t> (step.vocab);
    tokens += static_cast<size_t> (left_to_prefill (row) + scored_tokens (row));
  }
  if (step.logits.size () < logits)
    step.logits.resize (logits);
  step.slice_tokens.clear ();
  step.slice_tokens.reserve (tokens);
  step.slices.reserve (step.rows.size ());
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

} // namespace

void
prefill (Step &step, int defer_below)
{
  step.slices.reserve (step.rows.size ());
  Passes passes (step);
  for (Row &row : step.rows) {
    if (row.ended () || row.prefill_tokens <= defer_below || left_to_prefill (row) <= 0)
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
  reserve_arenas (step);
  Passes passes (step);
  float *logits = step.logits.data ();
  for (Row &row : step.rows) {
    row.logits = nullptr;
    if (row.ended ())
      continue;
    const int scored = scored_tokens (row);
    if (row.scored)
      row.logits = logits;
    if (row.draft_count > 0)
      take_checkpoint (step, row);
    passes.add (*row.sequence, row.position + row.prefilled, verified_tokens (step, row), scored, logits);
    row.prefilled = row.prefill_tokens;
    logits += static_cast<size_t> (scored) * static_cast<size_t> (step.vocab);
  }
  passes.run ();
}

} // namespace millrace
