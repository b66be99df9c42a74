// labels: oracle
// timeout: 600
//
// The greedy text of every oracle through the whole loop (scheduler, prefix cache, drafts, chunks, other requests beside it)
// is that of transformers, cold and with a warm cache.
#include "engine/drafting/model_drafter.hpp"
#include "tests/model_runner.hpp"
#include "tests/oracle_models.hpp"
#include "tests/random_checkpoint.hpp"
#include "tests/request_loop.hpp"

using namespace millrace;
using namespace millrace::testing;

namespace
{

std::shared_ptr<Request>
greedy_request (std::vector<TokenId> prompt, int max_tokens, uint64_t serial)
{
  auto request = std::make_shared<Request> ();
  request->prompt = std::move (prompt);
  request->serial = serial;
  request->sampling.max_tokens = max_tokens;
  request->sampling.temperature = 0;
  request->sampling.ignore_eos = true;
  return request;
}

void
check_model (const OracleModel &oracle_model)
{
  const WeightFiles oracle = WeightFiles::open_file (oracle_model.folder / "oracle.safetensors");
  const auto expected = tensor_values<int32_t> (oracle, "greedy.ids");
  const auto model = Model::open (oracle_model.folder, {.cpu = {.threads = 2}});
  LoopOptions options;
  options.scheduler.max_batch = 4;
  options.scheduler.prefill_tokens = 20;
  Scheduler scheduler (model, options.scheduler);
  for (const bool warm : {false, true}) {
    SCOPED_TRACE (oracle_model.name + (warm ? ", warm" : ", cold"));
    std::vector<std::shared_ptr<Request>> requests;
    for (const char *prompt : {"prompt2", "prompt1", "prompt2", "prompt0"})
      requests.push_back (greedy_request (tensor_values<int32_t> (oracle, std::string (prompt) + ".ids"),
                                          static_cast<int> (expected.size ()),
                                          requests.size () + (warm ? 100 : 1)));
    const auto results = run (scheduler, options, requests);
    ASSERT_EQ (results.size (), 4u);
    for (const size_t index : {0u, 2u}) {
      const Result &result = results.at (requests[index]->serial);
      EXPECT_EQ (result.error, "");
      EXPECT_EQ (result.tokens, std::vector<TokenId> (expected.begin (), expected.end ()));
    }
  }
}

TEST (LoopOracle, greedy_text_is_that_of_transformers)
{
  REQUIRE_ORACLES ("oracles");
  const auto models = oracle_models ();
  ASSERT_FALSE (models.empty ());
  for (const OracleModel &model : models)
    check_model (model);
}

// By the long list of LongRoPE and by the short one equal tokens have other KV.
TEST (LoopOracle, long_and_short_sequences_share_no_kv)
{
  const TemporaryFolder folder;
  write_random_model (folder.path (),
                      R"({"model_type": "phi3", "vocab_size": 83, "hidden_size": 44, "num_hidden_layers": 3,
                          "num_attention_heads": 4, "head_dim": 8, "intermediate_size": 52,
                          "max_position_embeddings": 400, "original_max_position_embeddings": 64,
                          "rope_scaling": {"rope_type": "longrope", "short_factor": [1, 1.2, 1.3, 2],
                                           "long_factor": [1, 3, 5, 9]}})",
                      71);
  const auto model = Model::open (folder.path (), {.cpu = {.threads = 2}});
  std::vector<TokenId> prompt;
  for (int i = 0; i < 50; ++i)
    prompt.push_back (i * 31 % 83);
  const auto texts_of = [&] (Scheduler &scheduler, const std::vector<int> &lengths) {
    std::vector<std::shared_ptr<Request>> requests;
    for (const int length : lengths)
      requests.push_back (greedy_request (prompt, length, requests.size () + 1));
    std::map<int, std::vector<TokenId>> texts;
    for (const auto &[serial, result] : run (scheduler, {}, requests))
      texts[lengths[serial - 1]] = result.tokens;
    return texts;
  };
  std::map<int, std::vector<TokenId>> cold;
  for (const int length : {14, 15}) { // 64 and 65 positions
    Scheduler scheduler (model, {});
    cold[length] = texts_of (scheduler, {length})[length];
  }
  EXPECT_FALSE (std::ranges::equal (cold[14], std::span (cold[15]).first (14)))
      << "the lists differ too little";
  for (const std::vector<int> &order : {std::vector{14, 15}, {15, 14}}) {
    Scheduler scheduler (model, {});
    for (const int length : order)
      EXPECT_EQ (texts_of (scheduler, {length})[length], cold[length]);
    EXPECT_GT (scheduler.kv ().statistics ().lookups, 0u);
    EXPECT_EQ (scheduler.kv ().statistics ().hit_tokens, 0u);
    EXPECT_EQ (texts_of (scheduler, order), cold);
    EXPECT_GE (scheduler.kv ().statistics ().hit_tokens, 2u * 48);
  }

  // A draft model that is the model itself guesses right in both, or it rotates by another list.
  for (const std::vector<int> &order : {std::vector{14, 15}, {15, 14}}) {
    ModelDrafter drafter (model, {.gate = DraftGate::kNone});
    LoopOptions options;
    options.drafters = {&drafter};
    Scheduler scheduler (model, {});
    std::vector<std::shared_ptr<Request>> requests;
    for (const int length : order)
      requests.push_back (greedy_request (prompt, length, requests.size () + 1));
    for (const auto &[serial, result] : run (scheduler, options, requests)) {
      EXPECT_EQ (result.tokens, cold[order[serial - 1]]);
      const DraftStatistics &drafting = requests[serial - 1]->statistics.drafting;
      EXPECT_GT (drafting.drafted, 0);
      EXPECT_EQ (drafting.accepted, drafting.drafted) << order[serial - 1];
    }
  }
}

} // namespace
