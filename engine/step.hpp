// One turn of the loop: what each stage reads and writes.
//
//   while (scheduler.plan (step)) {   // fills rows
//     prefill (step);                 // KV of prompt chunks
//     drafter.draft (step);           // guesses after the pending token
//     verify (step);                  // logits of pending token and drafts; the only producer of logits
//     sampler.sample (step);          // accepted tokens and finish reasons
//     scheduler.commit (step);        // lengths, ended sequences, freed blocks
//   }
//
// A Step belongs to its scheduler and is reused; one thread touches it between plan and commit. Stages keep
// no pointer into it. Without prefill () the verifier computes the chunks itself: the same numbers.
#pragma once

#include "engine/backend/backend.hpp"
#include "engine/clock.hpp"
#include "engine/drafting/draft.hpp"
#include "engine/sampling/sampler.hpp"
#include "engine/scheduling/request.hpp"

#include <algorithm>
#include <array>
#include <span>
#include <vector>

namespace millrace
{

class DraftController;

/// One sequence's part of a step.
struct Row {
  Sequence *sequence = nullptr;

  // Written by plan ().
  int position = 0; ///< of the first token of this row's work; sequence->kv.tokens
  int prefill_tokens =
      0; ///< prompt tokens [position, position + prefill_tokens) to put into KV; never the pending one
  bool scored = false; ///< after them the pending token follows and wants logits
  int draft_limit = 0; ///< at most this many drafts (0 … kMaxDraft)

  // Written by prefill (): how many of prefill_tokens are in KV.
  int prefilled = 0;

  // Written by verify (): where rejected drafts send recurrent state back to.
  int checkpoint = 0;

  // Written by drafters, cut by verify () to what is worth verifying.
  Draft draft;
  bool ungated = false;     ///< the draft is not to be cut
  int64_t direct_us = 0;    ///< a step without drafts, as DraftController::choose () expects it
  int64_t verifying_us = 0; ///< what verifying this draft adds to it

  // Written by verify (): [(1 + draft.count) × vocab], row i predicts the token after draft i - 1.
  float *logits = nullptr;

  // Written by sample ().
  std::array<SampledToken, kMaxDraft + 1> accepted;
  int accepted_count = 0;
  FinishReason finish = FinishReason::kNone; ///< also by plan (), for sequences that end without a token

  std::span<const TokenId> prefill_span () const
  {
    return std::span (sequence->tokens).subspan (position, prefill_tokens);
  }
  /// This row's request fails: the row ends with an error and later stages skip it.
  void fail (const char *code, std::string message)
  {
    sequence->request->error = {code, {}, std::move (message)};
    finish = FinishReason::kError;
  }
  /// Drafts that the accepted tokens agree with.
  int right_drafts () const
  {
    int right = 0;
    while (right < std::min (draft.count, accepted_count) &&
           draft.tokens[static_cast<size_t> (right)] == accepted[static_cast<size_t> (right)].token)
      ++right;
    return right;
  }
  bool ended () const { return finish != FinishReason::kNone; }
};

/// How long one stage took in a step.
struct StageTime {
  char name[24] = {}; ///< cut if need be
  int64_t us = 0;
};

struct Step {
  uint64_t number = 0;
  Clock clock = steady_now_us;
  std::vector<Row> rows;
  ExecutionContext *context = nullptr;
  DraftController *drafting = nullptr;    ///< the scheduler's; null: all guesses are verified
  int64_t drafting_us = 0;                ///< of drafters that run a model: no part of what verifying costs
  int vocab = 0;                          ///< length of a row of logits
  std::vector<float> logits;              ///< arena of verify ()
  std::vector<TokenLogprob> top_logprobs; ///< arena of sample ()
  std::vector<Slice> slices;              ///< scratch of prefill () and verify ()
  std::vector<TokenId> slice_tokens;      ///< scratch of verify (): pending token and drafts
  std::vector<int> recurrent_groups;      ///< of the KV cache
  std::vector<StageTime> stage_times;     ///< in order; written by whoever runs the stages
};

} // namespace millrace
