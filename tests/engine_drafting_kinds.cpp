// labels: property
// timeout: 300
// soak: ROUNDS=70
// Each kind of drafter on each kind of model: random requests, alone and in batches, get the tokens, log-probabilities, text
// and end that they get without drafts. Drafts are right for a while and then wrong, whatever the model says and however hot:
// predictions are the answers with mistakes, and the draft model is told them (telling_model.hpp).

#include "engine/drafting/model_drafter.hpp"
#include "engine/scheduling/text_stream.hpp"
#include "tests/family_configs.hpp"
#include "tests/random_checkpoint.hpp"
#include "tests/request_loop.hpp"
#include "tests/seed.hpp"
#include "tests/telling_model.hpp"
#include "tests/test_paths.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>

using namespace millrace;
using namespace millrace::testing;

namespace
{

enum Kind : size_t { kNgramOnly, kSuffixOnly, kModelOnly, kSeries, kDrafterKinds };
constexpr std::array<const char *, kDrafterKinds> kKindNames = {"ngram", "suffix", "model", "series of two"};

struct Totals {
  int64_t compared = 0, batched = 0; ///< requests; of those, beside others
  int64_t greedy = 0, hot = 0, penalties = 0, stopped = 0;
  int64_t accepted = 0, rejected = 0;
  int64_t broken = 0;   ///< drafts of which some tokens were right and some wrong
  int64_t replayed = 0; ///< tokens computed again after their state was taken back

  void add (const Totals &other)
  {
    compared += other.compared, batched += other.batched, greedy += other.greedy, hot += other.hot;
    penalties += other.penalties, stopped += other.stopped, accepted += other.accepted;
    rejected += other.rejected, broken += other.broken, replayed += other.replayed;
  }
  void print (const char *model, const char *kind) const
  {
    std::printf (
        "%-14s %-14s %6lld compared (%lld in batches; %lld greedy, %lld hotter than 1, %lld with penalties, "
        "%lld ended by a stop string); %lld drafts accepted, %lld rejected, %lld broken, %lld tokens "
        "replayed\n",
        model, kind, static_cast<long long> (compared), static_cast<long long> (batched),
        static_cast<long long> (greedy), static_cast<long long> (hot), static_cast<long long> (penalties),
        static_cast<long long> (stopped), static_cast<long long> (accepted),
        static_cast<long long> (rejected), static_cast<long long> (broken),
        static_cast<long long> (replayed));
  }
};

/// What a request's user gets.
struct Answer {
  std::string text, stop_string;
  FinishReason finish = FinishReason::kNone;
  int tokens = 0;
  bool operator== (const Answer &) const = default;
};

/// The detokenizer's part for one request.
struct Reader {
  Reader (const Request &request, const Tokenizer &tokenizer)
      : stream (request, tokenizer)
  {
  }
  void read (std::span<const TokenId> tokens, FinishReason end) { stream.push (tokens, end, text); }
  Answer answer () const
  {
    return {text, stream.stop_string (), stream.finish (), stream.usage ().completion_tokens};
  }
  TextStream stream;
  std::string text;
};

class Round
{
public:
  Round (uint64_t seed, std::shared_ptr<const Model> model, std::shared_ptr<const Tokenizer> tokenizer)
      : random_ (seed)
      , model_ (std::move (model))
      , tokenizer_ (std::move (tokenizer))
  {
    for (const KvGroup &group : model_->compiled->kv_layout (KvType::kF32))
      recurrent_ = recurrent_ || group.kind == KvGroup::Kind::kRecurrent;
    make_requests ();
  }

  void run (Kind kind, Totals &totals)
  {
    std::vector<std::unique_ptr<Drafter>> drafters;
    LoopOptions options;
    for (const Kind each : series_of (kind)) {
      drafters.push_back (drafter_of (each));
      options.drafters.push_back (drafters.back ().get ());
    }
    options.scheduler.max_batch = 1 + below (8);
    options.scheduler.prefill_tokens = 16 + below (200);
    options.scheduler.max_draft = 1 + below (kMaxDraft);
    options.scheduler.prefix_cache = below (3) > 0;
    options.scheduler.kv_bytes = 24u << 20;
    options.choose = below (4) > 0;
    options.defer_below = below (20);
    std::vector<std::shared_ptr<Request>> batch;
    for (const auto &request : requests_)
      batch.push_back (copy (*request));
    const bool staggered = below (2);
    for (size_t i = 0; i < batch.size (); i++)
      options.arrivals.push_back (staggered ? below (40) : 0);

    std::map<uint64_t, Reader> readers;
    for (const auto &request : batch)
      readers.emplace (std::piecewise_construct, std::tuple (request->serial),
                       std::tie (*request, *tokenizer_));
    options.sampled = [&] (const Step &step) { read (step, readers, totals); };
    Scheduler scheduler (model_, options.scheduler);
    const auto results = millrace::testing::run (scheduler, options, batch);
    for (const auto &request : batch)
      compare (*request, results.at (request->serial), readers.at (request->serial).answer (), totals);
    if (options.scheduler.max_batch > 1)
      totals.batched += static_cast<int64_t> (batch.size ());
    totals.accepted += scheduler.statistics ().drafting.accepted;
    totals.rejected += scheduler.statistics ().drafting.rejected ();
  }

private:
  int below (int bound) { return static_cast<int> (random_ () % static_cast<uint64_t> (bound)); }

  void make_requests ()
  {
    for (int i = 4 + below (7); i > 0; i--) {
      auto request = random_request (random_, model_->spec.vocab);
      request->sampling.min_tokens = std::min (request->sampling.min_tokens, request->sampling.max_tokens);
      if (below (3) == 0) // says little else, and so repeats itself
        for (int k = 1 + below (3); k > 0; k--)
          request->sampling.logit_bias.push_back ({below (model_->spec.vocab), 90.0F});
      requests_.push_back (request);
    }
    alone_ = run_alone (model_, requests_);
    told_->right_percent = 50 + below (50);
    for (const auto &request : requests_) {
      const std::vector<TokenId> &said = alone_.at (request->serial).tokens;
      told_->tell (request->prompt, said);
      if (below (4) > 0)
        request->prediction = with_mistakes (said);
      // Stop strings that come, in the middle of a token too, and some that may not.
      const std::string text = tokenizer_->decode (said);
      for (int k = below (3) ? 0 : 1 + below (2); k > 0 && !text.empty (); k--)
        request->sampling.stop.push_back (
            text.substr (static_cast<size_t> (below (static_cast<int> (text.size ()))),
                         static_cast<size_t> (1 + below (6))));
      Reader reader (*request, *tokenizer_);
      for (size_t i = 0; i < said.size (); i++)
        reader.read (std::span (said).subspan (i, 1),
                     i + 1 == said.size () ? alone_.at (request->serial).finish : FinishReason::kNone);
      if (said.empty ()) // refused
        reader.read ({}, alone_.at (request->serial).finish);
      answers_[request->serial] = reader.answer ();
    }
  }

  std::vector<TokenId> with_mistakes (const std::vector<TokenId> &said)
  {
    std::vector<TokenId> text;
    for (const TokenId token : said) {
      const int what = below (24);
      if (what == 0)
        continue;
      text.push_back (what < 3 ? below (model_->spec.vocab) : token);
      if (what == 3)
        text.push_back (below (model_->spec.vocab));
    }
    return text;
  }

  std::vector<Kind> series_of (Kind kind)
  {
    if (kind != kSeries)
      return {kind};
    constexpr Kind kPairs[][2] = {{kSuffixOnly, kModelOnly},
                                  {kModelOnly, kSuffixOnly},
                                  {kNgramOnly, kModelOnly},
                                  {kNgramOnly, kSuffixOnly}};
    const auto &pair = kPairs[below (4)];
    return {pair[0], pair[1]};
  }

  std::unique_ptr<Drafter> drafter_of (Kind kind)
  {
    constexpr DraftGate kGates[] = {DraftGate::kNone, DraftGate::kNone, DraftGate::kEma, DraftGate::kCost};
    const DraftGate gate = kGates[below (4)];
    const int max_draft = 1 + below (kMaxDraft);
    if (kind == kModelOnly)
      return std::make_unique<ModelDrafter> (telling_model (told_, model_->spec.vocab, 4096),
                                             ModelDrafterSettings{.max_draft = max_draft,
                                                                  .gate = gate,
                                                                  .prefill_tokens = 20 + below (200),
                                                                  .kv_bytes = 1u << 20});
    return make_lookup_drafter ({.policy = kind == kNgramOnly ? LookupPolicy::kNgram : LookupPolicy::kSuffix,
                                 .max_draft = max_draft,
                                 .gate = gate});
  }

  void read (const Step &step, std::map<uint64_t, Reader> &readers, Totals &totals)
  {
    for (const Row &row : step.rows) {
      const auto reader = readers.find (row.sequence->request->serial);
      std::vector<TokenId> tokens;
      for (int i = 0; i < row.accepted_count; i++)
        tokens.push_back (row.accepted[static_cast<size_t> (i)].token);
      if (reader->second.stream.finish () == FinishReason::kNone)
        reader->second.read (tokens, row.finish);
      if (!row.ended () && reader->second.stream.finish () == FinishReason::kStop)
        row.sequence->request->end (FinishReason::kStop);
      const int right = row.right_drafts ();
      totals.broken += right > 0 && right < row.draft.count;
      // Nothing but a state that was taken back leaves answers to be computed again: nobody is preempted here.
      if (recurrent_ && row.sequence->generated () > 0)
        totals.replayed += row.prefill_tokens;
    }
  }

  void compare (const Request &request, const Result &actual, const Answer &answer, Totals &totals) const
  {
    const Result &expected = alone_.at (request.serial);
    const Answer &same = answers_.at (request.serial);
    ASSERT_EQ (answer.text, same.text);
    ASSERT_EQ (answer.stop_string, same.stop_string);
    ASSERT_EQ (answer.finish, same.finish);
    ASSERT_EQ (answer.tokens, same.tokens);
    ASSERT_EQ (actual.endings, 1);
    if (same.stop_string.empty ()) {
      ASSERT_EQ (actual.tokens, expected.tokens);
      ASSERT_EQ (actual.logprobs, expected.logprobs);
      ASSERT_EQ (actual.finish, expected.finish);
    } else { // its step may have had tokens behind the stop string
      ASSERT_GE (actual.tokens.size (), static_cast<size_t> (answer.tokens));
      ASSERT_LE (actual.tokens.size (), expected.tokens.size ());
      ASSERT_TRUE (
          std::ranges::equal (actual.tokens, std::span (expected.tokens).first (actual.tokens.size ())));
      ASSERT_TRUE (std::ranges::equal (actual.logprobs,
                                       std::span (expected.logprobs).first (actual.logprobs.size ())));
    }
    const SamplingParams &sampling = request.sampling;
    totals.compared++;
    totals.greedy += sampling.temperature == 0;
    totals.hot += sampling.temperature > 1;
    totals.penalties +=
        sampling.repetition_penalty != 1 || sampling.presence_penalty != 0 || sampling.frequency_penalty != 0;
    totals.stopped += !same.stop_string.empty ();
  }

  std::mt19937_64 random_;
  std::shared_ptr<const Model> model_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  bool recurrent_ = false;
  std::vector<std::shared_ptr<Request>> requests_;
  std::map<uint64_t, Result> alone_;
  std::map<uint64_t, Answer> answers_;
  std::shared_ptr<Told> told_ = std::make_shared<Told> ();
};

struct Subject {
  const char *oracle, *family, *what;
  bool recurrent = false;
};
constexpr Subject kSubjects[] = {{"llama", "llama", "dense"},
                                 {"gemma3", "gemma3_text", "window"},
                                 {"olmo3", "olmo3", "window"},
                                 {"gpt_oss", "gpt_oss", "window, MoE"},
                                 {"qwen3_next", "qwen3_next, experts", "hybrid, MoE", true},
                                 {"qwen3_5", "qwen3_5_text", "hybrid", true},
                                 {"nemotron_h", "nemotron_h", "hybrid", true},
                                 {"deepseek_v3", "deepseek_v3", "MLA, MoE"},
                                 {"glm4_moe_lite", "glm4_moe_lite", "MLA, MoE"},
                                 {"qwen3_moe", "qwen3_moe", "MoE"}};

} // namespace

// An oracle's model where oracles are, else a random one of the family; weights as they are, or in 8 bits.
TEST (Drafters, EachKindGivesEachModelsAnswers)
{
  const uint64_t seed = test_seed ();
  const int rounds = test_rounds (3);
  const auto tokenizer = Tokenizer::load (source_path ("models/demo-draft/tokenizer.json"));
  std::array<Totals, kDrafterKinds> all;
  for (const Subject &subject : kSubjects) {
    TemporaryFolder folder;
    auto path = oracle_path ("oracles") / subject.oracle;
    if (!std::filesystem::exists (path / "config.json")) {
      write_random_model (folder.path (), family_config (subject.family), 17);
      path = folder.path ();
    }
    std::array<Totals, kDrafterKinds> totals;
    for (int round = 0; round < rounds; round++) {
      SCOPED_TRACE (path.string () + ", seed " + std::to_string (seed) + ", round " + std::to_string (round));
      ModelOptions options;
      options.weights = round % 3 ? WeightFormat::kAuto : WeightFormat::kInt8;
      options.cpu.threads = 1 + round % 2;
      Round requests (seed + static_cast<uint64_t> (round) * std::size (kSubjects) +
                          static_cast<uint64_t> (&subject - kSubjects),
                      Model::open (path, options), tokenizer);
      for (size_t kind = 0; kind < kDrafterKinds; kind++) {
        SCOPED_TRACE (kKindNames[kind]);
        requests.run (static_cast<Kind> (kind), totals[kind]);
        ASSERT_FALSE (HasFatalFailure ());
      }
    }
    Totals model;
    for (size_t kind = 0; kind < kDrafterKinds; kind++) {
      totals[kind].print (subject.oracle, kKindNames[kind]);
      model.add (totals[kind]);
      all[kind].add (totals[kind]);
      if (rounds >= 10) {
        EXPECT_GT (totals[kind].accepted, 50) << subject.oracle << " " << kKindNames[kind];
        EXPECT_GT (totals[kind].broken, 10) << subject.oracle << " " << kKindNames[kind];
        EXPECT_EQ (totals[kind].replayed > 10, subject.recurrent)
            << subject.oracle << " " << kKindNames[kind];
      }
    }
    EXPECT_GT (model.accepted, 0) << subject.oracle;
    EXPECT_GT (model.broken, 0) << subject.oracle;
    EXPECT_EQ (model.replayed > 0, subject.recurrent) << subject.oracle;
  }
  for (size_t kind = 0; kind < kDrafterKinds; kind++) {
    all[kind].print ("all models", kKindNames[kind]);
    if (rounds >= 70) {
      EXPECT_GE (all[kind].compared, 3000) << kKindNames[kind];
      for (const int64_t some :
           {all[kind].batched, all[kind].greedy, all[kind].hot, all[kind].penalties, all[kind].stopped})
        EXPECT_GE (some, 100) << kKindNames[kind];
    }
  }
}
