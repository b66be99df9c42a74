// labels: property
// timeout: 300
// soak: ROUNDS=20000
// Drafts by a smaller model: right where it is the target itself, never of any influence on what is said, within the memory
// and the share of a step that it was given, and refused where it cannot work.

#include "engine/drafting/model_drafter.hpp"
#include "engine/error.hpp"
#include "tests/fake_model.hpp"
#include "tests/request_loop.hpp"
#include "tests/seed.hpp"
#include "tests/synthetic_model.hpp"
#include "tests/test_paths.hpp"

#include <gtest/gtest.h>

#include <random>

using namespace millrace;
using namespace millrace::testing;

namespace
{

std::shared_ptr<Request>
request_of (std::vector<TokenId> prompt, int max_tokens)
{
  auto request = std::make_shared<Request> ();
  request->prompt = std::move (prompt);
  request->sampling.max_tokens = max_tokens;
  request->sampling.ignore_eos = true;
  return request;
}

/// Everything goes back when all is forgotten.
void
expect_all_free (ModelDrafter &drafter)
{
  EXPECT_EQ (drafter.inconsistency (), "");
  drafter.clear ();
  for (int group = 0; group < drafter.kv ().groups (); group++)
    EXPECT_EQ (drafter.kv ().available (group), drafter.kv ().size (group));
}

} // namespace

// --- the model itself as its draft model ----------------------------------------------------------

TEST (ModelDrafter, TheTargetItselfIsAlwaysRight)
{
  std::mt19937_64 random (11);
  TemporaryFolder folder;
  write_model (folder.path (), {}, 5);
  const std::shared_ptr<const Model> model = Model::open (folder.path (), {.cpu = {.threads = 2}});
  std::vector<std::shared_ptr<Request>> requests;
  for (int i = 0; i < 12; i++) {
    auto request = request_of (random_tokens (random, 1 + static_cast<int> (random () % 90), 101), 60);
    SamplingParams &sampling = request->sampling;
    sampling.ignore_eos = i % 3 == 0;
    sampling.seed = random ();
    sampling.temperature = i % 2 ? 0.2 * i : 0;
    sampling.top_k = i == 3 ? 20 : 0;
    sampling.top_p = i == 5 ? 0.8 : 1;
    sampling.min_p = i == 7 ? 0.1 : 0;
    sampling.min_tokens = i == 6 ? 30 : 0;
    sampling.logprobs = i == 8 || i == 9 ? 2 : -1;
    if (i >= 10)
      sampling.logit_bias = {{3, -100.0F}, {5, 2.5F}};
    requests.push_back (request);
  }
  const auto alone = run_alone (model, requests);
  ModelDrafter drafter (model, {.gate = DraftGate::kNone, .prefill_tokens = 40, .kv_bytes = 16u << 20});
  LoopOptions options;
  options.scheduler = {.max_batch = 5, .prefill_tokens = 64, .max_draft = 6, .kv_bytes = 16u << 20};
  options.drafters = {&drafter};
  expect_same (run (model, options, requests), alone);
  int64_t drafted = 0;
  for (const auto &request : requests) {
    const DraftStatistics &statistics = request->statistics.drafting;
    EXPECT_EQ (statistics.accepted, statistics.drafted) << "temperature " << request->sampling.temperature;
    EXPECT_EQ (statistics.accepted, statistics.accepted_by[static_cast<size_t> (DraftSource::kModel)]);
    drafted += statistics.drafted;
  }
  EXPECT_GT (drafted, 300);
  expect_all_free (drafter);
}

TEST (ModelDrafter, ATokenCostsOnePass)
{
  const auto model = fake_model ();
  ModelDrafter drafter (model, {.gate = DraftGate::kNone, .kv_bytes = 1u << 20});
  LoopOptions options;
  options.scheduler = {.max_batch = 1, .max_draft = 4, .kv_bytes = 1u << 20};
  options.drafters = {&drafter};
  const std::vector requests{request_of ({1, 2, 3}, 101)};
  run (model, options, requests);
  // Steps of five tokens: four guesses that are right, by four passes; the first also takes what the last one of the
  // step before has not seen.
  EXPECT_EQ (requests[0]->statistics.steps, 21);
  EXPECT_EQ (requests[0]->statistics.drafting.accepted, 80);
  EXPECT_EQ (drafter.statistics ().passes, 80);
  EXPECT_EQ (drafter.statistics ().guesses, 80);
  EXPECT_LE (drafter.statistics ().tokens, 3 + 80 + 20);
}

// --- any mix, one answer --------------------------------------------------------------------------

TEST (ModelDrafter, NeverChangesAnAnswer)
{
  const uint64_t seed = test_seed ();
  const int rounds = test_rounds (400);
  int64_t accepted = 0, rejected = 0, shortages = 0, preemptions = 0, compared = 0, cancelled = 0, cached = 0;
  for (int round = 0; round < rounds; round++) {
    SCOPED_TRACE ("seed " + std::to_string (seed) + ", round " + std::to_string (round));
    std::mt19937_64 random (seed + static_cast<uint64_t> (round));
    const auto below = [&] (int bound) {
      return static_cast<int> (random () % static_cast<uint64_t> (bound));
    };
    FakeOptions fake;
    fake.period = below (2) ? 0 : 1 + below (2);
    fake.window = below (3) ? 0 : 1 + below (50);
    fake.recurrent = below (4) == 0;
    auto target = fake_model (fake);
    target->eos_token_ids = {3};
    // The same with a smaller vocabulary, which is right now and then, or one that knows nothing of it.
    FakeOptions smaller = fake;
    smaller.recurrent = false;
    smaller.vocab = below (3) ? 20 + below (60) : fake.vocab;
    smaller.max_positions = below (3) ? 512 : 20 + below (100);
    if (below (4) == 0)
      smaller.period = 3;
    const size_t block = kBlockTokens * sizeof (TokenId) * (fake.window ? 2 : 1);
    const DraftGate gates[] = {DraftGate::kNone, DraftGate::kNone, DraftGate::kEma, DraftGate::kCost};
    ModelDrafter drafter (fake_model (smaller),
                          {.max_draft = below (kMaxDraft + 1),
                           .gate = gates[below (4)],
                           .prefill_tokens = 1 + below (below (2) ? 20 : 200),
                           .kv_bytes = block * static_cast<size_t> (2 + below (below (2) ? 8 : 200))});
    ModelDrafter second (fake_model (smaller), {.gate = gates[below (4)], .kv_bytes = block * 100});

    std::vector<std::shared_ptr<Request>> requests, all;
    int longest = 0;
    const auto beginning = random_tokens (random, below (60), fake.vocab);
    for (int i = 2 + below (8); i > 0; i--) {
      auto request = random_request (random, fake.vocab);
      if (below (2))
        request->prompt.insert (request->prompt.begin (), beginning.begin (), beginning.end ());
      request->priority = static_cast<Priority> (below (3));
      longest = std::max (longest, static_cast<int> (request->prompt.size ()) + request->sampling.max_tokens);
      requests.push_back (request);
    }
    const auto alone = run_alone (target, requests);

    LoopOptions options;
    options.scheduler.max_batch = 1 + below (6);
    options.scheduler.prefill_tokens = 16 + below (100);
    options.scheduler.max_draft = 1 + below (kMaxDraft);
    options.scheduler.prefix_cache = below (5) > 0;
    options.scheduler.kv_bytes =
        block * static_cast<size_t> (blocks_for (longest) + below (below (2) ? 6 : 100)) +
        (fake.recurrent ? 16 * 40 : 0);
    options.choose = below (3) > 0;
    options.drafters = {&drafter};
    if (below (4) == 0)
      options.drafters.push_back (&second);
    std::vector<std::shared_ptr<Request>> doomed;
    for (const auto &request : requests) {
      all.push_back (copy (*request));
      if (below (4) == 0) {
        doomed.push_back (copy (*request));
        doomed.back ()->serial += uint64_t{1} << 40;
        all.push_back (doomed.back ());
      }
    }
    std::shuffle (all.begin (), all.end (), random);
    const bool staggered = below (2);
    for (size_t i = 0; i < all.size (); i++)
      options.arrivals.push_back (staggered ? below (30) : 0);
    Scheduler scheduler (target, options.scheduler);
    std::string books;
    const auto results = run (scheduler, options, all, [&] (Scheduler &, int turn) {
      for (const auto &request : doomed) {
        if (below (15) == 0)
          request->end (FinishReason::kCancelled);
      }
      if (turn % 4 == 0 && books.empty ())
        books = drafter.inconsistency ();
      if (below (100) == 0)
        drafter.clear ();
    });
    EXPECT_EQ (books, "");
    expect_same (results, alone);
    expect_all_free (drafter);
    expect_all_free (second);
    ASSERT_FALSE (HasFailure ());
    accepted += scheduler.statistics ().drafting.accepted;
    rejected += scheduler.statistics ().drafting.rejected ();
    preemptions += static_cast<int64_t> (scheduler.statistics ().preemptions);
    shortages += drafter.statistics ().shortages;
    cached += static_cast<int64_t> (drafter.kv ().statistics ().hit_tokens);
    compared += static_cast<int64_t> (requests.size ());
    for (const auto &request : doomed)
      cancelled += results.at (request->serial).finish == FinishReason::kCancelled;
  }
  std::printf (
      "%lld requests compared; %lld drafts accepted, %lld rejected; %lld rows without room, %lld tokens "
      "from the draft model's cache; %lld preemptions, %lld cancelled\n",
      static_cast<long long> (compared), static_cast<long long> (accepted), static_cast<long long> (rejected),
      static_cast<long long> (shortages), static_cast<long long> (cached),
      static_cast<long long> (preemptions), static_cast<long long> (cancelled));
  if (rounds >= 400) {
    EXPECT_GT (accepted, 1000);
    EXPECT_GT (rejected, 1000);
    EXPECT_GT (shortages, 50);
    EXPECT_GT (cached, 1000);
    EXPECT_GT (preemptions, 20);
    EXPECT_GT (cancelled, 20);
  }
}

// --- limits ---------------------------------------------------------------------------------------

// A long prompt is caught up in shares, beside which nothing else is computed but the rows' own tokens.
TEST (ModelDrafter, CatchesUpWithALongPromptOverSteps)
{
  std::mt19937_64 random (3);
  const auto model = fake_model ();
  ModelDrafter drafter (model, {.gate = DraftGate::kNone, .prefill_tokens = 32, .kv_bytes = 1u << 20});
  LoopOptions options;
  options.scheduler = {.max_batch = 3, .max_draft = 4, .kv_bytes = 1u << 20};
  options.drafters = {&drafter};
  const std::vector requests{request_of (random_tokens (random, 200, 64), 100), request_of ({1, 2, 3}, 100),
                             request_of ({4, 5}, 100)};
  int64_t before = 0, most = 0;
  int first_draft = -1;
  run (model, options, requests, [&] (Scheduler &, int turn) {
    most = std::max (most, drafter.statistics ().tokens - before);
    before = drafter.statistics ().tokens;
    if (first_draft < 0 && requests[0]->statistics.drafting.drafted > 0)
      first_draft = turn;
  });
  EXPECT_LE (most, 32 + 3 * 4);
  EXPECT_GE (first_draft, 200 / 32);
  EXPECT_GT (requests[0]->statistics.drafting.accepted, 20);
}

TEST (ModelDrafter, DraftsAsFarAsItsPositionsGo)
{
  const auto target = fake_model ();
  const auto model = fake_model ({.max_positions = 40});
  ModelDrafter drafter (model, {.gate = DraftGate::kNone, .kv_bytes = 1u << 20});
  LoopOptions options;
  options.scheduler = {.max_batch = 1, .max_draft = 15, .kv_bytes = 1u << 20};
  options.drafters = {&drafter};
  const std::vector requests{request_of ({1, 2, 3, 4, 5}, 200)};
  const auto alone = run_alone (target, requests);
  expect_same (run (target, options, requests), alone);
  // 16 and 16 tokens by the first two drafts; after 37, three more have a position; each pass has one.
  EXPECT_EQ (requests[0]->statistics.drafting.accepted, 15 + 15 + 4);
}

TEST (ModelDrafter, RowsWithoutRoomHaveNoDrafts)
{
  const auto model = fake_model ();
  // Four blocks, for four requests of up to seven.
  ModelDrafter drafter (model, {.gate = DraftGate::kNone, .kv_bytes = 4 * kBlockTokens * sizeof (TokenId)});
  LoopOptions options;
  options.scheduler = {.max_batch = 4, .max_draft = 4, .kv_bytes = 1u << 20};
  options.drafters = {&drafter};
  std::vector<std::shared_ptr<Request>> requests;
  for (int i = 0; i < 4; i++)
    requests.push_back (request_of ({i, i + 1}, 100));
  const auto alone = run_alone (model, requests);
  expect_same (run (model, options, requests), alone);
  EXPECT_GT (drafter.statistics ().shortages, 0);
  int64_t accepted = 0;
  for (const auto &request : requests)
    accepted += request->statistics.drafting.accepted;
  EXPECT_GT (accepted, 0);
  expect_all_free (drafter);
}

// What requests begin with in common is computed once.
TEST (ModelDrafter, SharesWhatRequestsBeginWith)
{
  std::mt19937_64 random (3);
  const auto model = fake_model ();
  ModelDrafter drafter (model, {.gate = DraftGate::kNone, .kv_bytes = 1u << 20});
  LoopOptions options;
  options.scheduler = {.max_batch = 1, .max_draft = 4, .kv_bytes = 1u << 20};
  options.drafters = {&drafter};
  const auto beginning = random_tokens (random, 160, 64);
  std::vector<std::shared_ptr<Request>> requests;
  for (int i = 0; i < 5; i++) {
    requests.push_back (request_of (beginning, 10));
    requests.back ()->prompt.push_back (i);
  }
  run (model, options, requests);
  EXPECT_GE (drafter.kv ().statistics ().hit_tokens, 4 * 160u);
}

TEST (ModelDrafter, RefusesModelsThatCannotDraft)
{
  try {
    ModelDrafter drafter (fake_model ({.recurrent = true}), {});
    FAIL () << "recurrent layers were taken";
  } catch (const LoadError &error) {
    EXPECT_NE (std::string (error.what ()).find ("recurrent"), std::string::npos);
  }
  EXPECT_THROW (ModelDrafter (fake_model (), {.kv_bytes = 5}), std::invalid_argument);
}

TEST (ModelDrafter, SharesTheThreadsOfItsTarget)
{
  TemporaryFolder folder;
  write_model (folder.path (), {}, 5);
  const auto target = Model::open (folder.path (), {.cpu = {.threads = 2}});
  ASSERT_NE (target->compiled->thread_pool (), nullptr);
  const auto draft = Model::open (folder.path (), {.cpu = {.share = target->compiled->thread_pool ()}});
  EXPECT_EQ (draft->compiled->thread_pool (), target->compiled->thread_pool ());
  EXPECT_NE (draft->compiled->description ().find ("2 threads"), std::string::npos);
  EXPECT_NE (Model::open (folder.path (), {.cpu = {.threads = 2}})->compiled->thread_pool (),
             target->compiled->thread_pool ());
}

// --- time -----------------------------------------------------------------------------------------

namespace
{

int64_t fake_now_us;
int slow_passes; ///< that take fifty times as long, of draft models

/// A fake model whose passes take time of a fake clock.
class TimedContext final : public ExecutionContext
{
public:
  TimedContext (std::unique_ptr<ExecutionContext> context, int pass_us, int token_us)
      : context_ (std::move (context))
      , pass_us_ (pass_us)
      , token_us_ (token_us)
  {
  }
  void forward (std::span<const Slice> slices) override
  {
    context_->forward (slices);
    fake_now_us += pass_us_;
    if (pass_us_ < 1000 && slow_passes > 0) {
      slow_passes--;
      fake_now_us += 49 * pass_us_;
    }
    for (const Slice &slice : slices)
      fake_now_us += token_us_ * static_cast<int> (slice.tokens.size ());
  }
  int max_tokens () const override { return context_->max_tokens (); }
  void copy_block (int group, BlockId from, BlockId to) override { context_->copy_block (group, from, to); }
  void clear_block (int group, BlockId block) override { context_->clear_block (group, block); }
  void read_block (int group, BlockId block, std::span<std::byte> out) const override
  {
    context_->read_block (group, block, out);
  }
  void write_block (int group, BlockId block, std::span<const std::byte> in) override
  {
    context_->write_block (group, block, in);
  }

private:
  std::unique_ptr<ExecutionContext> context_;
  int pass_us_, token_us_;
};

class TimedModel final : public CompiledModel
{
public:
  TimedModel (const FakeOptions &options, int pass_us, int token_us)
      : fake_ (options)
      , pass_us_ (pass_us)
      , token_us_ (token_us)
  {
  }
  KvLayout kv_layout (KvType type) const override { return fake_.kv_layout (type); }
  std::string kv_identity () const override { return fake_.kv_identity (); }
  size_t weight_bytes () const override { return 0; }
  std::string description () const override { return "timed"; }
  std::unique_ptr<ExecutionContext> create_context (const ContextOptions &options) const override
  {
    return std::make_unique<TimedContext> (fake_.create_context (options), pass_us_, token_us_);
  }

private:
  FakeCompiled fake_;
  int pass_us_, token_us_;
};

std::shared_ptr<Model>
timed_model (const FakeOptions &options, int pass_us, int token_us)
{
  auto model = fake_model (options);
  model->compiled = std::make_shared<TimedModel> (options, pass_us, token_us);
  return model;
}

struct Timing {
  int streams = 1;
  int prompt = 50, tokens = 400;
  FakeOptions target{.max_positions = 4096};
};

/// Fake time that the requests take; all of them once before, so that what is learned of a machine is known.
int64_t
time_of (const Timing &timing, std::span<Drafter *const> drafters)
{
  const auto model = timed_model (timing.target, 8000, 600);
  LoopOptions options;
  options.scheduler = {.max_batch = timing.streams, .max_draft = 8, .kv_bytes = 1u << 20};
  options.scheduler.clock = [] { return fake_now_us; };
  options.drafters.assign (drafters.begin (), drafters.end ());
  options.draft = !drafters.empty ();
  Scheduler scheduler (model, options.scheduler);
  std::mt19937_64 random (7);
  int64_t began = 0;
  for (int pass = 0; pass < 2; pass++) {
    began = fake_now_us;
    std::vector<std::shared_ptr<Request>> requests;
    for (int i = 0; i < timing.streams; i++)
      requests.push_back (request_of (random_tokens (random, timing.prompt, 64), timing.tokens));
    run (scheduler, options, requests);
  }
  return fake_now_us - began;
}

/// A draft model of a tenth of the cost.
ModelDrafter
timed_drafter (const FakeOptions &options, int prefill_tokens = 256)
{
  return {timed_model (options, 800, 60), {.prefill_tokens = prefill_tokens, .kv_bytes = 4u << 20}};
}

} // namespace

TEST (ModelDrafterTime, AModelThatIsRightSavesTime)
{
  for (const int streams : {1, 4, 8}) {
    const Timing timing{.streams = streams};
    ModelDrafter drafter = timed_drafter (timing.target);
    const double direct = static_cast<double> (time_of (timing, {}));
    Drafter *drafters[] = {&drafter};
    const double speedup = direct / static_cast<double> (time_of (timing, drafters));
    std::printf ("%d streams: %.2f times as fast\n", streams, speedup);
    EXPECT_GT (speedup, streams == 8 ? 1.3 : 1.5);
  }
}

TEST (ModelDrafterTime, AModelThatIsWrongCostsLittle)
{
  for (const int streams : {1, 4, 8}) {
    for (const int prompt : {50, 1000}) {
      Timing timing{.streams = streams, .prompt = prompt};
      FakeOptions other = timing.target;
      other.window = 7; // hashes something else
      ModelDrafter drafter = timed_drafter (other);
      const double direct = static_cast<double> (time_of (timing, {}));
      Drafter *drafters[] = {&drafter};
      const double speedup = direct / static_cast<double> (time_of (timing, drafters));
      std::printf ("%d streams, prompt of %d: %.3f times as fast, %lld probes\n", streams, prompt, speedup,
                   static_cast<long long> (drafter.statistics ().probes));
      EXPECT_GT (speedup, 0.98);
    }
  }
}

// A short answer to a long prompt is over before the model has read what it would have helped with; a long one is not.
TEST (ModelDrafterTime, ALongPromptIsReadOnceGuessesWereMissed)
{
  const Timing timing;
  ModelDrafter drafter = timed_drafter (timing.target);
  LoopOptions options;
  options.scheduler = {.max_batch = 1, .max_draft = 1, .kv_bytes = 1u << 20};
  options.scheduler.clock = [] { return fake_now_us; };
  options.drafters = {&drafter};
  std::mt19937_64 random (7);
  Scheduler scheduler (timed_model (timing.target, 8000, 600), options.scheduler);
  const std::vector before_it{request_of (random_tokens (random, 50, 64), 300)};
  run (scheduler, options, before_it); // what the model is worth is known
  const std::vector requests{request_of (random_tokens (random, 1500, 64), 400)};
  const int64_t before = drafter.statistics ().tokens;
  int first = -1;
  run (scheduler, options, requests, [&] (Scheduler &, int) {
    if (first < 0 && drafter.statistics ().tokens > before)
      first = requests[0]->statistics.generated;
  });
  std::printf ("after %d tokens\n", first);
  EXPECT_GE (first, 3);
  EXPECT_LE (first, 30);
  EXPECT_GT (requests[0]->statistics.drafting.accepted, 120);
}

// What was measured while the machine was busy with something else is measured again.
TEST (ModelDrafterTime, ABadMomentDoesNotLast)
{
  const Timing timing{.streams = 2, .tokens = 3000};
  ModelDrafter drafter = timed_drafter (timing.target);
  const double direct = static_cast<double> (time_of (timing, {}));
  Drafter *drafters[] = {&drafter};
  slow_passes = 6;
  const double speedup = direct / static_cast<double> (time_of (timing, drafters));
  EXPECT_EQ (slow_passes, 0);
  EXPECT_GT (speedup, 1.5);
}

// Behind drafts that look things up: text that repeats, or not, and a model that is right, or not.
TEST (ModelDrafterTime, TogetherWithOthersNoWorseThanTheBetter)
{
  for (const bool repeats : {false, true}) {
    for (const bool right : {false, true}) {
      Timing timing{.streams = 2};
      timing.target.period = repeats ? 1 : 0;
      FakeOptions other = timing.target;
      if (!right)
        other.window = 7;
      const double direct = static_cast<double> (time_of (timing, {}));
      const auto lookup = make_lookup_drafter ();
      Drafter *one[] = {lookup.get ()};
      const double looked_up = direct / static_cast<double> (time_of (timing, one));
      ModelDrafter alone = timed_drafter (other);
      one[0] = &alone;
      const double modelled = direct / static_cast<double> (time_of (timing, one));
      ModelDrafter drafter = timed_drafter (other);
      const auto before = make_lookup_drafter ();
      Drafter *both[] = {before.get (), &drafter};
      const double combined = direct / static_cast<double> (time_of (timing, both));
      std::printf ("repeats %d, right %d: %.2f looking up, %.2f by the model, %.2f by both\n", repeats, right,
                   looked_up, modelled, combined);
      EXPECT_GE (combined, 0.98 * std::max (looked_up, modelled));
    }
  }
}
