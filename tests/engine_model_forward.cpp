// labels: property
//
// prefill () and verify () over a step: which tokens run where, in how many passes, and that the logits do
// not depend on any of that.
#include "engine/model/forward.hpp"

#include "engine/step.hpp"
#include "tests/model_runner.hpp"
#include "tests/seed.hpp"
#include "tests/synthetic_model.hpp"
#include "tests/test_paths.hpp"

#include <algorithm>
#include <map>
#include <random>

using namespace millrace;
using namespace millrace::testing;

namespace
{

constexpr int kVocab = 4;

// Remembers what it is asked; "logits" of a token say which token at which position they are of.
class RecordingContext final : public ExecutionContext
{
public:
  explicit RecordingContext (int max_tokens)
      : max_tokens_ (max_tokens)
  {
  }

  void forward (std::span<const Slice> slices) override
  {
    ASSERT_FALSE (slices.empty ());
    int total = 0;
    std::vector<BlockId> sequences;
    for (const Slice &slice : slices) {
      const BlockId sequence = slice.blocks[0].front ();
      EXPECT_EQ (std::count (sequences.begin (), sequences.end (), sequence), 0)
          << "a sequence twice in a pass";
      sequences.push_back (sequence);
      auto &ran = tokens[sequence];
      EXPECT_EQ (slice.position, static_cast<int> (ran.size ())) << "KV would have a hole";
      ran.insert (ran.end (), slice.tokens.begin (), slice.tokens.end ());
      total += static_cast<int> (slice.tokens.size ());
      const int count = static_cast<int> (slice.tokens.size ());
      ASSERT_LE (slice.scored, count);
      for (int i = 0; i < slice.scored; ++i) {
        const int at = count - slice.scored + i;
        slice.logits[i * kVocab] = static_cast<float> (slice.tokens[static_cast<size_t> (at)]);
        slice.logits[i * kVocab + 1] = static_cast<float> (slice.position + at);
      }
      scored += slice.scored;
    }
    EXPECT_LE (total, max_tokens_);
    ++passes;
  }
  int max_tokens () const override { return max_tokens_; }
  void copy_block (int, BlockId, BlockId) override {}
  void clear_block (int, BlockId) override {}
  void read_block (int, BlockId, std::span<std::byte>) const override {}
  void write_block (int, BlockId, std::span<const std::byte>) override {}

  std::map<BlockId, std::vector<TokenId>> tokens; ///< by the sequence's first block
  int passes = 0, scored = 0;

private:
  int max_tokens_;
};

// Sequences with prompts to prefill, and the step over them.
struct Work {
  Work (ExecutionContext &context, int vocab)
  {
    step.context = &context;
    step.vocab = vocab;
  }

  // `position` tokens are in KV, then `prefill` of the prompt, then (scored) the pending one and drafts.
  void add (int position, int prefill, bool scored, int drafts, std::mt19937 &random, int vocab = 1000)
  {
    auto &sequence = sequences.emplace_back (std::make_unique<Sequence> ());
    sequence->slot = static_cast<int> (sequences.size ()) - 1;
    sequence->kv.tables[0] = {sequence->slot};
    std::uniform_int_distribution<TokenId> token (0, vocab - 1);
    const int later = scored ? 0 : 3; // prompt that a later step will see
    for (int i = 0; i < position + prefill + 1 + later; ++i)
      sequence->tokens.push_back (token (random));
    Row &row = step.rows.emplace_back ();
    row.sequence = sequence.get ();
    row.position = position;
    row.prefill_tokens = prefill;
    row.scored = scored;
    row.draft.count = scored ? drafts : 0;
    for (int i = 0; i < row.draft.count; ++i)
      row.draft.tokens[static_cast<size_t> (i)] = token (random);
  }

  std::vector<std::unique_ptr<Sequence>> sequences;
  Step step;
};

TEST (Forward, every_token_runs_once_and_in_order_and_scored_ones_are_scored)
{
  const auto seed = static_cast<uint32_t> (test_seed ());
  SCOPED_TRACE ("seed " + std::to_string (seed));
  std::mt19937 random (seed);
  const auto pick = [&] (int least, int most) {
    return std::uniform_int_distribution<int> (least, most) (random);
  };

  for (int round = 0; round < 300; ++round) {
    RecordingContext context (pick (1, 40));
    Work work (context, kVocab);
    const int rows = pick (0, 6);
    for (int i = 0; i < rows; ++i)
      work.add (0, pick (0, 2) ? pick (0, 60) : 0, pick (0, 1) == 1, pick (0, kMaxDraft), random);
    if (rows > 0 && pick (0, 3) == 0)
      work.step.rows[0].finish = FinishReason::kCancelled;
    const int defer_below = pick (0, 30);
    const bool prefilled = pick (0, 1) == 1;
    if (prefilled) {
      prefill (work.step, defer_below);
      for (const Row &row : work.step.rows)
        EXPECT_EQ (row.prefilled, row.ended () || row.prefill_tokens <= defer_below ? 0 : row.prefill_tokens);
      EXPECT_EQ (context.scored, 0);
    }
    verify (work.step);

    int scored = 0;
    for (const Row &row : work.step.rows) {
      const auto &ran = context.tokens[row.sequence->slot];
      if (row.ended ()) {
        EXPECT_TRUE (ran.empty ());
        EXPECT_EQ (row.logits, nullptr);
        continue;
      }
      std::vector<TokenId> expected (row.sequence->tokens.begin (),
                                     row.sequence->tokens.begin () + row.prefill_tokens);
      if (row.scored) {
        expected.push_back (row.sequence->tokens.back ());
        expected.insert (expected.end (), row.draft.tokens.begin (),
                         row.draft.tokens.begin () + row.draft.count);
        ASSERT_NE (row.logits, nullptr);
        for (int i = 0; i <= row.draft.count; ++i) {
          EXPECT_EQ (row.logits[i * kVocab],
                     static_cast<float> (expected[static_cast<size_t> (row.prefill_tokens + i)]));
          EXPECT_EQ (row.logits[i * kVocab + 1], static_cast<float> (row.prefill_tokens + i));
        }
        scored += 1 + row.draft.count;
      } else {
        EXPECT_EQ (row.logits, nullptr);
      }
      EXPECT_EQ (ran, expected);
      EXPECT_EQ (row.prefilled, row.prefill_tokens);
    }
    EXPECT_EQ (context.scored, scored);
  }
}

TEST (Forward, a_step_with_nothing_to_run_makes_no_pass)
{
  std::mt19937 random (1);
  RecordingContext context (8);
  Work work (context, kVocab);
  prefill (work.step);
  verify (work.step);
  work.add (0, 0, false, 0, random);
  work.add (5, 0, true, 2, random);
  work.step.rows[1].finish = FinishReason::kTimeout;
  prefill (work.step);
  verify (work.step);
  EXPECT_EQ (context.passes, 0);
}

TEST (Forward, rows_that_fit_share_one_pass)
{
  std::mt19937 random (2);
  RecordingContext context (64);
  Work work (context, kVocab);
  for (int i = 0; i < 4; ++i)
    work.add (0, 5, true, 3, random);
  verify (work.step);
  EXPECT_EQ (context.passes, 1);
}

TEST (Forward, arenas_keep_their_memory_between_steps)
{
  std::mt19937 random (3);
  RecordingContext context (64);
  Work work (context, kVocab);
  for (int i = 0; i < 4; ++i)
    work.add (0, 5, true, 3, random);
  prefill (work.step, 5);
  verify (work.step);
  const auto *logits = work.step.logits.data ();
  const auto *slices = work.step.slices.data ();
  const auto *tokens = work.step.slice_tokens.data ();
  for (int draft_count = 3; draft_count >= 0; --draft_count) {
    context.tokens.clear ();
    for (Row &row : work.step.rows) {
      row.prefilled = 0;
      row.draft.count = draft_count;
    }
    verify (work.step);
    EXPECT_EQ (work.step.logits.data (), logits);
    EXPECT_EQ (work.step.slices.data (), slices);
    EXPECT_EQ (work.step.slice_tokens.data (), tokens);
  }
}

// The real thing: prefilled or left to verify (), in small passes or one, the logits have the same bits.
TEST (Forward, logits_do_not_depend_on_prefill_or_pass_size)
{
  TemporaryFolder folder;
  write_model (folder.path (), {}, 31);
  const auto model = load_runnable (folder.path (), WeightFormat::kAuto, {.threads = 2});
  std::vector<float> expected;
  for (const int max_tokens : {200, 64, 16, 7, 1}) {
    for (const int defer_below : {0, 10, 1000}) {
      std::mt19937 random (32);
      auto context = model.compiled->create_context ({.kv_blocks = {24}, .max_tokens = max_tokens});
      Work work (*context, model.spec.vocab);
      for (const int prompt : {3, 40, 11, 0})
        work.add (0, prompt, true, prompt % 5, random, model.spec.vocab);
      for (size_t i = 0; i < work.sequences.size (); ++i) {
        work.sequences[i]->kv.tables[0].clear ();
        for (int block = 0; block < 6; ++block)
          work.sequences[i]->kv.tables[0].push_back (static_cast<BlockId> (i) + 4 * block);
      }
      prefill (work.step, defer_below);
      verify (work.step);
      std::vector<float> logits;
      for (const Row &row : work.step.rows)
        logits.insert (logits.end (), row.logits, row.logits + (1 + row.draft.count) * model.spec.vocab);
      if (expected.empty ())
        expected = logits;
      EXPECT_TRUE (same_bits (logits, expected))
          << "passes of " << max_tokens << ", defer_below " << defer_below;
    }
  }
}

} // namespace
