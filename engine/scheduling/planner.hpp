// What one step does, as a pure function: no clock, no allocation once `rows` has grown, no randomness.
//
// Sequences that are ready to decode always get a row. The prefill budget is shared over the others by
// filling the shortest first with equal shares (max-min fairness), so that a long prompt delays neither
// decode nor short prompts. A sequence whose last prompt chunk is in the step is scored in the same step.
#pragma once

#include <span>
#include <vector>

namespace millrace
{

/// What the planner knows of a live sequence.
struct SequenceView {
  int prefill_left = 0; ///< prompt tokens before the pending one whose KV is missing
  int draft_room = 0;   ///< tokens it may still generate after the next one
};

struct Budgets {
  int prefill_tokens = 512; ///< of all sequences in a step, at least 1
  int max_draft = 0;        ///< drafts of one row
};

struct RowPlan {
  int sequence = 0; ///< index into the views
  int prefill_tokens = 0;
  bool scored = false;
  int draft_limit = 0;
};

/// Fills `rows` in the order of the views; sequences that get no work have no row.
void plan_rows (std::span<const SequenceView> sequences, const Budgets &budgets, std::vector<RowPlan> &rows);

} // namespace millrace
