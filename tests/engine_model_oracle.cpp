// labels: oracle
// timeout: 600
//
// The numbers of the decoder against Hugging Face transformers: every folder with a tiny random model of a family that
// is supported, then the demo model and its draft. Logits of all positions, hidden states, greedy text; in chunks and in
// batches the same bits. Formats: README.md in the oracle folders. Nothing here knows a model's shape.
#include "tests/model_runner.hpp"
#include "tests/oracle_models.hpp"
#include "tests/test_paths.hpp"

#include <simdjson.h>

#include <iostream>

namespace fs = std::filesystem;
using namespace millrace;
using namespace millrace::testing;

namespace
{

constexpr float kTolerance = 1e-3f; // float32 arithmetic on the stored weights: oracles/README.md

// The same model under the older keys: its files by links, config.hub.json as config.json.
void
link_hub_folder (const fs::path &folder, const fs::path &target)
{
  for (const auto &entry : fs::directory_iterator (folder)) {
    const std::string name = entry.path ().filename ().string ();
    if (name == "config.hub.json")
      fs::create_symlink (fs::absolute (entry.path ()), target / "config.json");
    else if (name != "config.json")
      fs::create_symlink (fs::absolute (entry.path ()), target / name);
  }
}

struct Prompt {
  std::string name;
  std::vector<TokenId> ids;
  std::vector<float> logits, hidden; ///< hidden: empty when the oracle has none
};

std::vector<Prompt>
read_prompts (const WeightFiles &oracle)
{
  std::vector<Prompt> prompts;
  for (int i = 0; oracle.find ("prompt" + std::to_string (i) + ".ids"); ++i) {
    Prompt prompt;
    prompt.name = "prompt" + std::to_string (i);
    prompt.ids = tensor_values<int32_t> (oracle, prompt.name + ".ids");
    prompt.logits = tensor_values<float> (oracle, prompt.name + ".logits");
    if (oracle.find (prompt.name + ".hidden"))
      prompt.hidden = tensor_values<float> (oracle, prompt.name + ".hidden");
    prompts.push_back (std::move (prompt));
  }
  return prompts;
}

struct Figures {
  float logits = 0, hidden = 0, greedy = 0;
};

void
check_prompts (const RunnableModel &model, const WeightFiles &oracle, Figures &figures)
{
  const auto prompts = read_prompts (oracle);
  ASSERT_FALSE (prompts.empty ());
  int hidden_checked = 0;
  for (const Prompt &prompt : prompts) {
    SCOPED_TRACE (prompt.name);
    const int length = static_cast<int> (prompt.ids.size ());
    SequenceRunner whole (model, length, length);
    whole.run (prompt.ids, length);
    figures.logits = std::max (figures.logits, largest_difference (whole.outputs ().logits, prompt.logits));
    if (!prompt.hidden.empty ()) {
      figures.hidden = std::max (figures.hidden, largest_difference (whole.outputs ().hidden, prompt.hidden));
      ++hidden_checked;
    }
    for (const int chunk : {1, 5, 16}) {
      SequenceRunner chunked (model, length, chunk);
      chunked.run (prompt.ids, chunk);
      EXPECT_TRUE (same_bits (chunked.outputs ().logits, whole.outputs ().logits))
          << "in chunks of " << chunk;
      EXPECT_TRUE (same_bits (chunked.outputs ().hidden, whole.outputs ().hidden))
          << "in chunks of " << chunk;
    }
  }
  EXPECT_LE (figures.logits, kTolerance);
  EXPECT_LE (figures.hidden, kTolerance);
  EXPECT_GT (hidden_checked, 0);
}

// All prompts together, in chunks that end in different passes.
void
check_batch (const RunnableModel &model, const WeightFiles &oracle)
{
  const auto prompts = read_prompts (oracle);
  const auto vocab = static_cast<size_t> (model.spec.vocab);
  const KvLayout layout = model.compiled->kv_layout (KvType::kF32);
  constexpr int kChunk = 12;
  int blocks = 0;
  for (const Prompt &prompt : prompts)
    blocks += blocks_for (static_cast<int64_t> (prompt.ids.size ()));
  const auto context =
      model.compiled->create_context (context_options (blocks, kChunk * static_cast<int> (prompts.size ())));
  std::vector<std::vector<BlockId>> tables;
  std::vector<std::vector<float>> logits;
  for (const Prompt &prompt : prompts) {
    std::vector<BlockId> &table =
        tables.emplace_back (static_cast<size_t> (blocks_for (static_cast<int64_t> (prompt.ids.size ()))));
    for (BlockId &block : table)
      block = --blocks;
    logits.emplace_back (prompt.ids.size () * vocab);
  }
  for (size_t begin = 0, running = 1; running > 0; begin += kChunk) {
    std::vector<Slice> slices;
    for (size_t i = 0; i < prompts.size (); ++i) {
      const std::span<const TokenId> ids = prompts[i].ids;
      if (begin >= ids.size ())
        continue;
      Slice &slice = slices.emplace_back ();
      slice.tokens = ids.subspan (begin, std::min (ids.size () - begin, size_t{kChunk}));
      slice.position = static_cast<int> (begin);
      slice.max_positions = static_cast<int> (ids.size ());
      std::fill_n (slice.blocks.begin (), layout.size (), std::span<const BlockId> (tables[i]));
      slice.scored = static_cast<int> (slice.tokens.size ());
      slice.logits = logits[i].data () + begin * vocab;
    }
    running = slices.size ();
    if (running > 0)
      context->forward (slices);
  }
  for (size_t i = 0; i < prompts.size (); ++i) {
    const int length = static_cast<int> (prompts[i].ids.size ());
    SequenceRunner alone (model, length, length);
    alone.run (prompts[i].ids, length);
    EXPECT_TRUE (same_bits (logits[i], alone.outputs ().logits)) << prompts[i].name << " in a batch";
  }
}

void
check_greedy (const RunnableModel &model, const WeightFiles &oracle, Figures &figures)
{
  const auto prompt = tensor_values<int32_t> (oracle, "prompt2.ids");
  const auto ids = tensor_values<int32_t> (oracle, "greedy.ids");
  const auto logits = tensor_values<float> (oracle, "greedy.logits");
  const auto vocab = static_cast<size_t> (model.spec.vocab);
  ASSERT_EQ (logits.size (), ids.size () * vocab);

  const int length = static_cast<int> (prompt.size ());
  SequenceRunner runner (model, length + static_cast<int> (ids.size ()), length);
  runner.run (prompt, length);
  for (size_t i = 0; i < ids.size (); ++i) {
    const auto last = runner.last_logits ();
    figures.greedy =
        std::max (figures.greedy, largest_difference (last, std::span (logits).subspan (i * vocab, vocab)));
    ASSERT_EQ (argmax (last), ids[i]) << "at step " << i;
    runner.run ({&ids[i], 1}, 1);
  }
  EXPECT_LE (figures.greedy, kTolerance);
}

void
check_folder (const std::string &name, const fs::path &folder)
{
  const WeightFiles oracle = WeightFiles::open_file (folder / "oracle.safetensors");
  for (const auto isa : host_isas ()) {
    SCOPED_TRACE (name + " " + isa_name (isa));
    const auto model = load_runnable (folder, WeightFormat::kAuto, {.threads = 2, .isa = isa});
    Figures figures;
    check_prompts (model, oracle, figures);
    check_batch (model, oracle);
    check_greedy (model, oracle, figures);
    std::cout << name << ", " << isa_name (isa) << ": logits " << figures.logits << ", hidden "
              << figures.hidden << ", greedy logits " << figures.greedy << "\n";
  }
}

TEST (Oracle, logits_hidden_states_and_greedy_text_are_those_of_transformers)
{
  REQUIRE_ORACLES ("oracles");
  const auto models = oracle_models ();
  ASSERT_FALSE (models.empty ());
  for (const OracleModel &model : models)
    check_folder (model.name, model.folder);
}

// Of shapes and switches that were wrong once.
TEST (Oracle, models_of_the_test_data_are_those_of_transformers)
{
  int models = 0;
  for (const auto &entry : fs::directory_iterator (source_path ("tests/data/models"))) {
    if (!entry.is_directory ())
      continue;
    check_folder (entry.path ().filename ().string (), entry.path ());
    ++models;
  }
  EXPECT_GT (models, 0);
}

TEST (Oracle, the_older_configuration_keys_give_the_same_numbers)
{
  REQUIRE_ORACLES ("oracles");
  for (const OracleModel &model : oracle_models ()) {
    TemporaryFolder hub;
    link_hub_folder (model.folder, hub.path ());
    check_folder (model.name + " (config.hub.json)", hub.path ());
  }
}

void
check_reference_logits (const fs::path &folder, const fs::path &reference)
{
  const WeightFiles oracle = WeightFiles::open_file (reference);
  const auto prompts = read_prompts (oracle);
  ASSERT_FALSE (prompts.empty ());
  for (const auto isa : host_isas ()) {
    const auto model = load_runnable (folder, WeightFormat::kAuto, {.threads = 2, .isa = isa});
    float largest = 0;
    for (const Prompt &prompt : prompts) {
      const int length = static_cast<int> (prompt.ids.size ());
      SequenceRunner runner (model, length, length);
      runner.run (prompt.ids, length);
      largest = std::max (largest, largest_difference (runner.outputs ().logits, prompt.logits));
    }
    EXPECT_LE (largest, kTolerance) << isa_name (isa);
    std::cout << folder.filename ().string () << ", " << isa_name (isa) << ": logits " << largest << "\n";
  }
}

TEST (Oracle, demo_and_draft_logits_are_those_of_transformers)
{
  REQUIRE_ORACLES ("models/reference");
  check_reference_logits (source_path ("models/demo"),
                          oracle_path ("models/reference/demo_oracle.safetensors"));
  check_reference_logits (source_path ("models/demo-draft"),
                          oracle_path ("models/reference/draft_oracle.safetensors"));
}

// Token for token; where the reference's best two are closer than the tolerance, another choice is as good
// and the rest of the text may differ.
void
check_continuation (const RunnableModel &model, simdjson::dom::element entry)
{
  std::vector<TokenId> prompt, expected;
  std::vector<double> margins;
  for (const int64_t id : entry["prompt_ids"].get_array ())
    prompt.push_back (static_cast<TokenId> (id));
  for (const int64_t id : entry["greedy_ids"].get_array ())
    expected.push_back (static_cast<TokenId> (id));
  for (const double margin : entry["margins"].get_array ())
    margins.push_back (margin);
  ASSERT_FALSE (prompt.empty ());
  ASSERT_FALSE (expected.empty ());
  ASSERT_EQ (margins.size (), expected.size ());

  const int length = static_cast<int> (prompt.size ());
  SequenceRunner runner (model, length + static_cast<int> (expected.size ()), length);
  runner.run (prompt, length);
  for (size_t i = 0; i < expected.size (); ++i) {
    if (margins[i] < kTolerance) {
      std::cout << "the best two are " << margins[i] << " apart at step " << i << " of " << expected.size ()
                << ": compared up to there\n";
      return;
    }
    ASSERT_EQ (argmax (runner.last_logits ()), expected[i]) << "at step " << i << ", margin " << margins[i];
    runner.run ({&expected[i], 1}, 1);
  }
}

TEST (Oracle, demo_greedy_text_is_that_of_transformers)
{
  REQUIRE_ORACLES ("models/reference/demo_greedy.json");
  const auto model = load_runnable (source_path ("models/demo"));
  simdjson::dom::parser parser;
  const simdjson::dom::element root =
      parser.load (oracle_path ("models/reference/demo_greedy.json").string ());
  int continuations = 0;
  for (const simdjson::dom::element entry : root["continuations"].get_array ()) {
    SCOPED_TRACE (std::string (std::string_view (entry["name"])));
    check_continuation (model, entry);
    ++continuations;
  }
  EXPECT_GT (continuations, 0);
}

TEST (Oracle, draft_greedy_text_is_that_of_transformers)
{
  REQUIRE_ORACLES ("models/reference/draft_greedy.json");
  const auto model = load_runnable (source_path ("models/demo-draft"));
  simdjson::dom::parser parser;
  check_continuation (model, parser.load (oracle_path ("models/reference/draft_greedy.json").string ()));
}

} // namespace
