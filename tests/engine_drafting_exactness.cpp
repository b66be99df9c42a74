// A step with drafts accepts what sampling one token after the other would have given, whatever the drafts.
//
// The model is a pure function of the tokens so far. Each case generates a sequence without drafts, then
// again with drafts that are right, wrong or run past the end, in batches.
//
// labels: unit property
#include "engine/step.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <map>
#include <random>

using namespace millrace;

namespace
{

constexpr float kNan = std::numeric_limits<float>::quiet_NaN ();

/// Logits after a prefix: a function of all of its tokens.
void
fake_logits (uint64_t model, std::span<const TokenId> prefix, std::span<float> logits)
{
  uint64_t hash = model;
  for (const TokenId token : prefix)
    hash = (hash ^ (static_cast<uint64_t> (token) + 1)) * 0x9E3779B97F4A7C15u + (hash >> 29);
  std::mt19937_64 random (hash);
  std::normal_distribution<float> normal (0, 2);
  for (float &logit : logits)
    logit = normal (random);
}

struct Generated {
  std::vector<TokenId> tokens;
  std::vector<float> logprobs;
  std::vector<std::vector<std::pair<TokenId, float>>> top;
  FinishReason finish = FinishReason::kNone;
  std::string error;
};

/// One sequence on its way, as the scheduler and the verifier would run it.
class Generation
{
public:
  Generation (uint64_t seed, int vocab)
      : model_ (seed)
      , vocab_ (vocab)
  {
    std::mt19937_64 random (seed);
    const auto pick = [&] (std::initializer_list<double> values) {
      return values.begin ()[random () % values.size ()];
    };
    sequence_.request = std::make_shared<Request> ();
    SamplingParams &params = sequence_.request->sampling;
    params.temperature = pick ({0, 0.5, 1, 1.5});
    params.top_k = static_cast<int> (pick ({0, 0, 3}));
    params.top_p = pick ({1, 0.9});
    params.min_p = pick ({0, 0.05});
    params.repetition_penalty = pick ({1, 1, 1.3});
    params.frequency_penalty = pick ({0, 0, 0.5});
    params.presence_penalty = pick ({0, 0, -0.5});
    params.logprobs = static_cast<int> (pick ({-1, -1, 0, 3}));
    params.min_tokens = static_cast<int> (pick ({0, 0, 4}));
    params.seed = random ();
    const size_t prompt = 1 + random () % 10;
    sequence_.prompt_tokens = static_cast<int> (prompt);
    sequence_.max_tokens = static_cast<int> (prompt + 1 + random () % 40);
    for (size_t i = 0; i < prompt; ++i)
      sequence_.tokens.push_back (static_cast<TokenId> (random () % static_cast<uint64_t> (vocab)));
    if (random () % 2) {
      sequence_.stop_ids = {static_cast<TokenId> (random () % static_cast<uint64_t> (vocab)),
                            static_cast<TokenId> (random () % static_cast<uint64_t> (vocab))};
      std::sort (sequence_.stop_ids.begin (), sequence_.stop_ids.end ());
    }
    if (params.repetition_penalty != 1 || params.frequency_penalty != 0 || params.presence_penalty != 0) {
      sequence_.counts.reserve (sequence_.max_tokens);
      sequence_.counts.add_prompt (sequence_.tokens);
    }
    nan_at_ = random () % 10 == 0 ? prompt + random () % 20 : SIZE_MAX;
  }

  Sequence &sequence () { return sequence_; }
  const RequestStatistics &statistics () const { return sequence_.request->statistics; }
  bool ended () const { return generated_.finish != FinishReason::kNone; }
  const Generated &generated () const { return generated_; }

  /// Drafts the given tokens in `row` and computes its logits.
  void verify (Row &row, std::span<const TokenId> drafts)
  {
    row.sequence = &sequence_;
    row.scored = true;
    row.draft.count = static_cast<int> (drafts.size ());
    std::copy (drafts.begin (), drafts.end (), row.draft.tokens.begin ());
    logits_.resize ((drafts.size () + 1) * static_cast<size_t> (vocab_));
    std::vector<TokenId> prefix = sequence_.tokens;
    for (size_t i = 0; i <= drafts.size (); ++i) {
      const std::span<float> logits (logits_.data () + i * static_cast<size_t> (vocab_),
                                     static_cast<size_t> (vocab_));
      fake_logits (model_, prefix, logits);
      if (prefix.size () >= nan_at_)
        logits[prefix.size () % logits.size ()] = kNan;
      if (i < drafts.size ())
        prefix.push_back (drafts[i]);
    }
    row.logits = logits_.data ();
  }

  void commit (const Row &row, const Step &step)
  {
    for (int i = 0; i < row.accepted_count; ++i) {
      const SampledToken &sampled = row.accepted[static_cast<size_t> (i)];
      sequence_.tokens.push_back (sampled.token);
      generated_.tokens.push_back (sampled.token);
      generated_.logprobs.push_back (sampled.logprob);
      const auto top =
          std::span (step.top_logprobs)
              .subspan (static_cast<size_t> (sampled.top_begin), static_cast<size_t> (sampled.top_count));
      auto &pairs = generated_.top.emplace_back ();
      for (const TokenLogprob &each : top)
        pairs.emplace_back (each.token, each.logprob);
    }
    generated_.finish = row.finish;
    generated_.error = sequence_.request->error.message;
  }

private:
  uint64_t model_;
  int vocab_;
  size_t nan_at_;
  Sequence sequence_;
  std::vector<float> logits_;
  Generated generated_;
};

Generated
generate_one_by_one (uint64_t seed, int vocab)
{
  Generation generation (seed, vocab);
  Sampler sampler;
  Step step;
  step.vocab = vocab;
  while (!generation.ended ()) {
    step.rows.assign (1, {});
    generation.verify (step.rows[0], {});
    sampler.sample (step);
    EXPECT_EQ (step.rows[0].accepted_count, step.rows[0].finish == FinishReason::kError ? 0 : 1);
    generation.commit (step.rows[0], step);
  }
  return generation.generated ();
}

/// What comes next, with mistakes; it may go on past the end.
std::vector<TokenId>
random_drafts (std::mt19937_64 &random, const Generated &truth, size_t done, int vocab)
{
  std::vector<TokenId> drafts (random () % (kMaxDraft + 1));
  const uint64_t right = random () % 3 == 0 ? 100 : 60 + random () % 40;
  for (size_t i = 0; i < drafts.size (); ++i) {
    const bool known = done + i < truth.tokens.size ();
    drafts[i] = known && random () % 100 < right
                    ? truth.tokens[done + i]
                    : static_cast<TokenId> (random () % static_cast<uint64_t> (vocab));
  }
  return drafts;
}

void
expect_same (const Generated &got, const Generated &truth, const std::string &shown)
{
  EXPECT_EQ (got.tokens, truth.tokens) << shown;
  EXPECT_EQ (got.logprobs, truth.logprobs) << shown;
  EXPECT_EQ (got.top, truth.top) << shown;
  EXPECT_EQ (got.finish, truth.finish) << shown;
  EXPECT_EQ (got.error, truth.error) << shown;
}

/// Accepted tokens, and only they, are counted, each once.
void
expect_counts (const Sequence &sequence, const std::string &shown)
{
  const SamplingParams &params = sequence.request->sampling;
  std::map<TokenId, std::pair<uint32_t, uint32_t>> expected, got;
  if (params.repetition_penalty != 1 || params.frequency_penalty != 0 || params.presence_penalty != 0) {
    for (int i = 0; i < static_cast<int> (sequence.tokens.size ()); ++i) {
      auto &count = expected[sequence.tokens[static_cast<size_t> (i)]];
      ++(i < sequence.prompt_tokens ? count.first : count.second);
    }
  }
  sequence.counts.for_each ([&] (const TokenCount &count) {
    got[count.token] = {count.prompt, count.generated};
  });
  EXPECT_EQ (got, expected) << shown;
}

} // namespace

TEST (Exactness, drafts_change_nothing_but_the_number_of_steps)
{
  int finishes[6] = {}, ended_inside_drafts = 0, accepted = 0, drafted = 0;
  uint64_t seed = 0;
  constexpr uint64_t kCases = 3'000;
  while (seed < kCases) {
    std::mt19937_64 random (~seed);
    const int vocab = 4 + static_cast<int> (random () % 30);
    const size_t batch = 1 + random () % 4;
    const uint64_t first = seed;
    std::vector<Generated> truths;
    std::vector<std::unique_ptr<Generation>> generations;
    for (size_t i = 0; i < batch; ++i, ++seed) {
      truths.push_back (generate_one_by_one (seed, vocab));
      generations.push_back (std::make_unique<Generation> (seed, vocab));
    }

    Sampler sampler;
    Step step;
    step.vocab = vocab;
    std::vector<int> expected_drafted (batch), expected_accepted (batch);
    while (true) {
      std::vector<size_t> live;
      for (size_t i = 0; i < batch; ++i) {
        if (!generations[i]->ended ())
          live.push_back (i);
      }
      if (live.empty ())
        break;
      std::shuffle (live.begin (), live.end (), random);
      step.rows.assign (live.size (), {});
      for (size_t r = 0; r < live.size (); ++r) {
        Generation &generation = *generations[live[r]];
        generation.verify (step.rows[r], random_drafts (random, truths[live[r]],
                                                        generation.generated ().tokens.size (), vocab));
      }
      sampler.sample (step);
      for (size_t r = 0; r < live.size (); ++r) {
        const Row &row = step.rows[r];
        int right = 0;
        while (right < std::min (row.accepted_count, row.draft.count) &&
               row.accepted[static_cast<size_t> (right)].token ==
                   row.draft.tokens[static_cast<size_t> (right)])
          ++right;
        expected_drafted[live[r]] += row.draft.count;
        expected_accepted[live[r]] += right;
        ended_inside_drafts +=
            row.ended () && row.accepted_count <= row.draft.count && right == row.accepted_count;
        generations[live[r]]->commit (row, step);
        expect_counts (generations[live[r]]->sequence (), "seed " + std::to_string (first + live[r]));
      }
    }
    for (size_t i = 0; i < batch; ++i) {
      expect_same (generations[i]->generated (), truths[i], "seed " + std::to_string (first + i));
      EXPECT_EQ (generations[i]->statistics ().drafting.drafted, expected_drafted[i]) << "seed " << first + i;
      EXPECT_EQ (generations[i]->statistics ().drafting.accepted, expected_accepted[i])
          << "seed " << first + i;
      ++finishes[static_cast<int> (truths[i].finish)];
      drafted += expected_drafted[i];
      accepted += expected_accepted[i];
      ASSERT_FALSE (HasFailure ());
    }
  }
  std::printf ("%d stops, %d lengths, %d errors; %d ends inside of a draft; %d of %d drafts accepted\n",
               finishes[static_cast<int> (FinishReason::kStop)],
               finishes[static_cast<int> (FinishReason::kLength)],
               finishes[static_cast<int> (FinishReason::kError)], ended_inside_drafts, accepted, drafted);
  EXPECT_GT (finishes[static_cast<int> (FinishReason::kStop)], 300);
  EXPECT_GT (finishes[static_cast<int> (FinishReason::kLength)], 300);
  EXPECT_GT (finishes[static_cast<int> (FinishReason::kError)], 30);
  EXPECT_GT (ended_inside_drafts, 300);
}

namespace
{

/// A row whose logits pick `greedy` tokens one after the other.
struct Scripted {
  Scripted (int vocab, std::vector<TokenId> prompt, std::vector<TokenId> greedy, std::vector<TokenId> drafts)
      : logits (greedy.size () * static_cast<size_t> (vocab), 0.0f)
  {
    sequence.request = std::make_shared<Request> ();
    sequence.prompt_tokens = static_cast<int> (prompt.size ());
    sequence.tokens = std::move (prompt);
    sequence.max_tokens = 1'000;
    for (size_t i = 0; i < greedy.size (); ++i)
      logits[i * static_cast<size_t> (vocab) + static_cast<size_t> (greedy[i])] = 5;
    row.sequence = &sequence;
    row.scored = true;
    row.logits = logits.data ();
    row.draft.count = static_cast<int> (drafts.size ());
    std::copy (drafts.begin (), drafts.end (), row.draft.tokens.begin ());
  }

  const Row &sample (int vocab)
  {
    step.vocab = vocab;
    step.rows.assign (1, row);
    Sampler ().sample (step);
    return step.rows[0];
  }

  Sequence sequence;
  std::vector<float> logits;
  Row row;
  Step step;
};

} // namespace

TEST (Exactness, a_stop_token_ends_the_row_and_is_its_last_token)
{
  Scripted scripted (8, {1}, {2, 3, 7, 4}, {2, 3, 7});
  scripted.sequence.stop_ids = {6, 7};
  const Row &row = scripted.sample (8);
  EXPECT_EQ (row.finish, FinishReason::kStop);
  ASSERT_EQ (row.accepted_count, 3);
  EXPECT_EQ (row.accepted[2].token, 7);
  EXPECT_EQ (scripted.sequence.request->statistics.drafting.accepted, 3);
}

TEST (Exactness, stop_wins_over_length_at_the_last_token)
{
  Scripted scripted (8, {1}, {2, 7, 3}, {2, 7});
  scripted.sequence.stop_ids = {7};
  scripted.sequence.max_tokens = 3;
  EXPECT_EQ (scripted.sample (8).finish, FinishReason::kStop);
  scripted.sequence.stop_ids = {6};
  const Row &row = scripted.sample (8);
  EXPECT_EQ (row.finish, FinishReason::kLength);
  EXPECT_EQ (row.accepted_count, 2);
}

TEST (Exactness, rows_that_ended_or_are_not_scored_are_left_alone)
{
  for (const bool ended : {false, true}) {
    Scripted scripted (8, {1}, {2}, {});
    scripted.row.scored = ended;
    scripted.row.finish = ended ? FinishReason::kCancelled : FinishReason::kNone;
    const Row &row = scripted.sample (8);
    EXPECT_EQ (row.accepted_count, 0);
    EXPECT_EQ (row.finish, ended ? FinishReason::kCancelled : FinishReason::kNone);
    EXPECT_EQ (scripted.sequence.request->statistics.drafting.drafted, 0);
  }
}

TEST (Exactness, a_failed_row_says_whether_the_model_or_the_request_left_no_token)
{
  Scripted broken (8, {1}, {2}, {});
  broken.logits[5] = kNan;
  EXPECT_EQ (broken.sample (8).finish, FinishReason::kError);
  EXPECT_STREQ (broken.sequence.request->error.code, "internal");
  EXPECT_EQ (broken.sequence.request->error.message, "the model produced NaN logits");

  Scripted banned (2, {1}, {1}, {});
  banned.sequence.request->sampling.logit_bias = {{0, -100.0f}, {1, -100.0f}};
  EXPECT_EQ (banned.sample (2).finish, FinishReason::kError);
  EXPECT_NE (banned.sequence.request->error.message.find ("banned"), std::string::npos);
}
