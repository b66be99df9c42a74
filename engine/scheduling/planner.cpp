#include "engine/scheduling/planner.hpp"

#include <algorithm>

namespace millrace
{

void
plan_rows (std::span<const SequenceView> sequences, const Budgets &budgets, std::vector<RowPlan> &rows)
{
  rows.clear ();
  int prefilling = 0;
  for (int i = 0; i < static_cast<int> (sequences.size ()); i++) {
    rows.push_back ({.sequence = i});
    prefilling += sequences[i].prefill_left > 0;
  }

  // Each round hands every unsatisfied prompt an equal share of what is left. A round either satisfies one
  // of them or spends the budget, so there are at most `prefilling` rounds.
  int budget = std::max (budgets.prefill_tokens, 1);
  while (budget > 0 && prefilling > 0) {
    const int share = std::max (budget / prefilling, 1);
    for (RowPlan &row : rows) {
      const int wanted = sequences[row.sequence].prefill_left - row.prefill_tokens;
      const int given = std::min ({wanted, share, budget});
      if (given <= 0)
        continue;
      row.prefill_tokens += given;
      budget -= given;
      prefilling -= given == wanted;
    }
  }

  for (RowPlan &row : rows) {
    row.scored = row.prefill_tokens == sequences[row.sequence].prefill_left;
    if (row.scored)
      row.draft_limit = std::clamp (sequences[row.sequence].draft_room, 0, budgets.max_draft);
  }
  std::erase_if (rows, [] (const RowPlan &row) { return row.prefill_tokens == 0 && !row.scored; });
}

} // namespace millrace
