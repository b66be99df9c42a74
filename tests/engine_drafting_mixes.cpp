// labels: property
// timeout: 300
// soak: ROUNDS=20000
// One answer: random mixes of requests, whatever is batched, chunked, shared, preempted, cancelled, drafted or read back
// from disk around them, get the tokens and log-probabilities that they get alone.

#include "tests/fake_model.hpp"
#include "tests/family_configs.hpp"
#include "tests/random_checkpoint.hpp"
#include "tests/request_loop.hpp"
#include "tests/seed.hpp"
#include "tests/synthetic_model.hpp"
#include "tests/test_paths.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

using namespace millrace;
using namespace millrace::testing;

namespace
{

struct Totals {
  int64_t runs = 0, mixes = 0, accepted = 0, preemptions = 0, cached = 0, disk = 0, cancelled = 0, copied = 0;
};

class Mix
{
public:
  Mix (uint64_t seed, std::shared_ptr<Model> model, size_t bytes_per_block, size_t other_bytes,
       size_t state_bytes = 0, int longest_prefix = 100)
      : random_ (seed)
      , model_ (std::move (model))
      , bytes_per_block_ (bytes_per_block)
      , other_bytes_ (other_bytes)
      , state_bytes_ (state_bytes)
      , longest_prefix_ (longest_prefix)
  {
  }

  void run (Totals &totals)
  {
    make_requests ();
    const auto alone = run_alone (model_, requests_);
    for (const auto &request : requests_) {
      if (below (2))
        predict (*request, alone.at (request->serial).tokens);
    }
    const int variants = 1 + below (3);
    for (int variant = 0; variant < variants && !::testing::Test::HasFatalFailure (); variant++)
      run_variant (alone, totals);
    totals.mixes++;
  }

private:
  int below (int bound) { return static_cast<int> (random_ () % static_cast<uint64_t> (bound)); }

  // Prompts that begin alike, end alike inside a block, repeat, or have nothing in common.
  void make_requests ()
  {
    std::vector<std::vector<TokenId>> prefixes (1 + static_cast<size_t> (below (3)));
    for (auto &prefix : prefixes) {
      for (int i = below (longest_prefix_); i > 0; i--)
        prefix.push_back (below (model_->spec.vocab));
    }
    const int count = 2 + below (9);
    for (int i = 0; i < count; i++) {
      auto request = random_request (random_, model_->spec.vocab);
      if (below (4) > 0) {
        auto prompt = prefixes[static_cast<size_t> (below (static_cast<int> (prefixes.size ())))];
        prompt.resize (prompt.size () -
                       static_cast<size_t> (below (static_cast<int> (prompt.size ()) + 1)) / 3);
        request->prompt.resize (
            std::min<size_t> (request->prompt.size (), 1 + static_cast<size_t> (below (40))));
        prompt.insert (prompt.end (), request->prompt.begin (), request->prompt.end ());
        request->prompt = prompt;
      }
      request->priority = static_cast<Priority> (below (3));
      longest_ =
          std::max (longest_, static_cast<int> (request->prompt.size ()) + request->sampling.max_tokens);
      requests_.push_back (request);
    }
  }

  // What will be said, with mistakes: so that drafts are right for a while and break, whatever the model says.
  void predict (Request &request, const std::vector<TokenId> &said)
  {
    request.prediction = said;
    for (TokenId &token : request.prediction)
      token = below (8) ? token : below (model_->spec.vocab);
  }

  LoopOptions random_options ()
  {
    LoopOptions options;
    options.scheduler.max_batch = 1 + below (8);
    const int chunks[] = {16, 64, 512, 1 + below (100)};
    options.scheduler.prefill_tokens = chunks[below (4)];
    options.scheduler.max_draft = below (2) ? below (kMaxDraft + 1) : 0;
    options.scheduler.prefix_cache = below (5) > 0;
    options.scheduler.max_step_ms = below (3) ? 0 : 0.001;
    // From just enough for the longest to plenty.
    const auto blocks = static_cast<size_t> (blocks_for (longest_) + below (below (2) ? 6 : 100));
    const size_t states = std::min<size_t> (16, std::max<size_t> (2, blocks / 8)) + blocks / 32;
    options.scheduler.kv_bytes = blocks * bytes_per_block_ + states * state_bytes_ + other_bytes_;
    options.prefill = below (2);
    options.draft = below (4) > 0;
    options.choose = below (2) > 0;
    options.defer_below = below (20);
    return options;
  }

  void run_variant (const std::map<uint64_t, Result> &alone, Totals &totals)
  {
    LoopOptions options = random_options ();
    std::unique_ptr<TemporaryFolder> disk;
    if (options.scheduler.prefix_cache && below (4) == 0) {
      disk = std::make_unique<TemporaryFolder> ();
      options.scheduler.cache_directory = disk->path ();
    }
    auto scheduler = std::make_unique<Scheduler> (model_, options.scheduler);
    const int passes = disk ? 2 : 1 + below (2); // cold, then warm
    for (int pass = 0; pass < passes; pass++) {
      if (pass > 0 && disk) {
        scheduler->save ();
        scheduler = std::make_unique<Scheduler> (model_, options.scheduler);
      }
      run_pass (*scheduler, options, alone, totals);
      if (::testing::Test::HasFatalFailure ())
        return;
    }
  }

  void run_pass (Scheduler &scheduler, LoopOptions options, const std::map<uint64_t, Result> &alone,
                 Totals &totals)
  {
    std::vector<std::shared_ptr<Request>> batch;
    for (const auto &request : requests_)
      batch.push_back (copy (*request));
    std::vector<std::shared_ptr<Request>> doomed; // come along and are cancelled at some point
    for (int i = below (4); i > 0; i--) {
      doomed.push_back (
          copy (*requests_[static_cast<size_t> (below (static_cast<int> (requests_.size ())))]));
      doomed.back ()->serial += uint64_t{1} << 40;
      doomed.back ()->serial += static_cast<uint64_t> (i) << 41;
      batch.push_back (doomed.back ());
    }
    std::shuffle (batch.begin (), batch.end (), random_);
    const bool staggered = below (2);
    for (size_t i = 0; i < batch.size (); i++)
      options.arrivals.push_back (staggered ? below (40) : 0);
    const auto before = scheduler.statistics ();
    const auto kv_before = scheduler.kv ().statistics ();
    std::string books;
    const auto results = millrace::testing::run (scheduler, options, batch, [&] (Scheduler &live, int turn) {
      for (const auto &request : doomed) {
        if (below (15) == 0)
          request->end (FinishReason::kCancelled);
      }
      if (turn % 4 == 0 && books.empty ())
        books = live.inconsistency ();
    });
    ASSERT_EQ (books, "");
    for (const auto &request : requests_) {
      const Result &expected = alone.at (request->serial), &actual = results.at (request->serial);
      ASSERT_EQ (actual.tokens, expected.tokens);
      ASSERT_EQ (actual.logprobs, expected.logprobs);
      ASSERT_EQ (actual.finish, expected.finish);
      ASSERT_EQ (actual.endings, 1);
      totals.runs++;
    }
    for (const auto &request : doomed) {
      const Result &cut = results.at (request->serial);
      ASSERT_EQ (cut.endings, 1);
      totals.cancelled += cut.finish == FinishReason::kCancelled;
    }
    totals.accepted +=
        static_cast<int64_t> (scheduler.statistics ().drafting.accepted - before.drafting.accepted);
    totals.preemptions += static_cast<int64_t> (scheduler.statistics ().preemptions - before.preemptions);
    totals.cached += static_cast<int64_t> (scheduler.kv ().statistics ().hit_tokens - kv_before.hit_tokens);
    totals.copied +=
        static_cast<int64_t> (scheduler.kv ().statistics ().copied_blocks - kv_before.copied_blocks);
    totals.disk +=
        static_cast<int64_t> (scheduler.kv ().statistics ().disk_hit_tokens - kv_before.disk_hit_tokens);
  }

  std::mt19937_64 random_;
  std::shared_ptr<Model> model_;
  size_t bytes_per_block_, other_bytes_, state_bytes_;
  int longest_prefix_;
  std::vector<std::shared_ptr<Request>> requests_;
  int longest_ = 0;
};

void
print (const char *what, const Totals &totals)
{
  std::printf ("%s: %lld mixes, %lld requests compared; %lld preemptions, %lld tokens from the cache (%lld "
               "from disk), "
               "%lld blocks copied, %lld drafts accepted, %lld cancelled\n",
               what, static_cast<long long> (totals.mixes), static_cast<long long> (totals.runs),
               static_cast<long long> (totals.preemptions), static_cast<long long> (totals.cached),
               static_cast<long long> (totals.disk), static_cast<long long> (totals.copied),
               static_cast<long long> (totals.accepted), static_cast<long long> (totals.cancelled));
}

} // namespace

// Over a model that remembers everything, with all kinds of layers.
TEST (Mixes, OneAnswerWhateverRunsBesideIt)
{
  const uint64_t seed = test_seed ();
  const int rounds = test_rounds (2000);
  Totals totals;
  for (int round = 0; round < rounds; round++) {
    SCOPED_TRACE ("seed " + std::to_string (seed) + ", round " + std::to_string (round));
    std::mt19937_64 random (seed + static_cast<uint64_t> (round));
    FakeOptions fake;
    fake.period = random () % 2 ? 0 : 1 + static_cast<int> (random () % 2);
    fake.window = random () % 3 ? 0 : 1 + static_cast<int> (random () % 50);
    fake.recurrent = random () % 4 == 0;
    auto model = fake_model (fake);
    model->eos_token_ids = {3};
    const size_t bytes_per_block = kBlockTokens * sizeof (TokenId) * (fake.window ? 2 : 1);
    Mix mix (random (), model, bytes_per_block, fake.recurrent ? 16 * 40 : 0);
    mix.run (totals);
    ASSERT_FALSE (HasFatalFailure ());
  }
  print ("hash model", totals);
  if (rounds >= 2000) {
    EXPECT_GT (totals.preemptions, 100);
    EXPECT_GT (totals.cached, 10'000);
    EXPECT_GT (totals.disk, 1'000);
    EXPECT_GT (totals.accepted, 1'000);
    EXPECT_GT (totals.cancelled, 100);
  }
}

// Over a real, tiny model: all of it through the kernels, with every KV type.
TEST (Mixes, OneAnswerOfARealModel)
{
  const uint64_t seed = test_seed ();
  const int rounds = std::max (1, test_rounds (2000) / 50);
  Totals totals;
  TemporaryFolder folder;
  write_model (folder.path (), {}, 5);
  std::vector<std::shared_ptr<Model>> models; // with 1 and 2 threads
  for (const int threads : {1, 2}) {
    auto opened = Model::open (folder.path (), {.cpu = {.threads = threads}});
    models.push_back (std::make_shared<Model> (*opened));
  }
  for (int round = 0; round < rounds; round++) {
    SCOPED_TRACE ("seed " + std::to_string (seed) + ", round " + std::to_string (round));
    std::mt19937_64 random (seed + static_cast<uint64_t> (round));
    auto model = models[random () % 2];
    Mix mix (random (), model, model->compiled->kv_layout (KvType::kF32)[0].block_bytes, 0);
    mix.run (totals);
    ASSERT_FALSE (HasFatalFailure ());
  }
  print ("real model", totals);
}

// Over models with recurrent layers, whose state cannot take back rejected drafts and is cached as snapshots: beside
// attention, and alone. Long sequences, as memory is divided so that short ones never run out of blocks.
TEST (Mixes, OneAnswerOfAHybridModel)
{
  const uint64_t seed = test_seed ();
  const int rounds = std::max (1, test_rounds (2000) / 20);
  Totals totals;
  std::vector<std::shared_ptr<Model>> models;
  for (const char *types : {R"(["linear_attention", "full_attention", "linear_attention"])",
                            R"(["linear_attention", "linear_attention", "linear_attention"])"}) {
    TemporaryFolder folder;
    write_random_model (folder.path (),
                        std::string (R"({"model_type": "qwen3_5_text", "vocab_size": 31, "hidden_size": 24,
                          "num_hidden_layers": 3, "num_attention_heads": 2, "head_dim": 16, "intermediate_size": 32,
                          "max_position_embeddings": 4096, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
                          "linear_key_head_dim": 6, "linear_value_head_dim": 9, "layer_types": )") +
                            types + "}",
                        11);
    for (const int threads : {1, 2})
      models.push_back (
          std::make_shared<Model> (*Model::open (folder.path (), {.cpu = {.threads = threads}})));
  }
  for (int round = 0; round < rounds; round++) {
    SCOPED_TRACE ("seed " + std::to_string (seed) + ", round " + std::to_string (round));
    std::mt19937_64 random (seed + static_cast<uint64_t> (round));
    auto model = models[random () % models.size ()];
    const KvLayout layout = model->compiled->kv_layout (KvType::kF32);
    ASSERT_EQ (layout.back ().kind, KvGroup::Kind::kRecurrent);
    Mix mix (random (), model, layout[0].block_bytes, 0, layout.back ().block_bytes, 900);
    mix.run (totals);
    ASSERT_FALSE (HasFatalFailure ());
  }
  print ("hybrid model", totals);
  if (rounds >= 100) {
    EXPECT_GT (totals.preemptions, 2);
    EXPECT_GT (totals.cached, 1'000);
    EXPECT_GT (totals.accepted, 10);
    EXPECT_GT (totals.cancelled, 10);
  }
}

// Each kind of layer that there is: an oracle's model where oracles are, a random one of the family everywhere. Weights are
// as they are, or in 8 bits.
TEST (Mixes, OneAnswerOfEachKindOfModel)
{
  struct Kind {
    const char *oracle, *family;
  };
  constexpr Kind kKinds[] = {{"gemma3", "gemma3_text"},
                             {"gemma4_e2b", "gemma4_text"},
                             {"gpt_oss", "gpt_oss"},
                             {"qwen3_next", "qwen3_next, experts"},
                             {"nemotron_h", "nemotron_h"},
                             {"deepseek_v3", "deepseek_v3"},
                             {"glm4_moe_lite", "glm4_moe_lite"},
                             {"qwen3_moe", "qwen3_moe"},
                             {"qwen3_5_moe", "qwen3_5_moe_text"},
                             {"olmo3", "olmo3"}};
  const uint64_t seed = test_seed ();
  const int rounds = std::max (2, test_rounds (2000) / 1000);
  for (const Kind &kind : kKinds) {
    TemporaryFolder folder;
    // Long enough for states to be cached, which are at few places of a sequence.
    std::string config = family_config (kind.family);
    const std::string positions = "\"max_position_embeddings\": 300";
    config.replace (config.find (positions), positions.size (), "\"max_position_embeddings\": 4096");
    write_random_model (folder.path (), config, 17);
    const auto oracle = oracle_path ("oracles") / kind.oracle;
    Totals totals;
    for (const auto &path : {folder.path (), oracle}) {
      if (!std::filesystem::exists (path / "config.json"))
        continue;
      for (int round = 0; round < rounds; round++) {
        SCOPED_TRACE (path.string () + ", seed " + std::to_string (seed) + ", round " +
                      std::to_string (round));
        std::mt19937_64 random (seed + static_cast<uint64_t> (round));
        ModelOptions options;
        options.weights = random () % 3 ? WeightFormat::kAuto : WeightFormat::kInt8;
        options.cpu.threads = 1 + static_cast<int> (random () % 2);
        const auto model = std::make_shared<Model> (*Model::open (path, options));
        size_t block_bytes = 0, state_bytes = 0;
        for (const KvGroup &group : model->compiled->kv_layout (KvType::kF32))
          (group.kind == KvGroup::Kind::kRecurrent ? state_bytes : block_bytes) += group.block_bytes;
        const int longest_prefix = state_bytes > 0 ? std::min (900, model->spec.max_positions - 250) : 100;
        Mix mix (random (), model, block_bytes, 0, state_bytes, longest_prefix);
        mix.run (totals);
        ASSERT_FALSE (HasFatalFailure ());
      }
    }
    print (kind.family, totals);
    EXPECT_GT (totals.runs, 0);
  }
}
