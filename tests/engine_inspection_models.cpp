// labels: unit oracle
// timeout: 300
//
// What is said of a model without loading it is what loading finds, and all that is wrong is said at once.
#include "engine/inspection/inspection.hpp"
#include "engine/kv/kv_layout.hpp"
#include "engine/model/model.hpp"
#include "tests/gguf_models.hpp"
#include "tests/oracle_models.hpp"
#include "tests/resident_memory.hpp"
#include "tests/synthetic_model.hpp"

#include <simdjson.h>

#include <algorithm>
#include <numeric>

namespace fs = std::filesystem;
using namespace millrace;
using namespace millrace::testing;

namespace
{

constexpr SyntheticModel kShape{.family = "qwen3",
                                .vocab = 96,
                                .hidden = 256,
                                .layers = 3,
                                .heads = 4,
                                .kv_heads = 2,
                                .head_dim = 64,
                                .intermediate = 512,
                                .dtype = DType::kBF16};

bool
names (const std::vector<InspectionProblem> &problems, const std::string &subject, const std::string &part)
{
  return std::ranges::any_of (problems, [&] (const InspectionProblem &problem) {
    return problem.subject == subject && problem.message.find (part) != std::string::npos;
  });
}

/// All problems, for messages.
std::string
shown (const Inspection &inspection)
{
  std::string text;
  for (const InspectionProblem &problem : inspection.problems)
    text += problem.subject + ": " + problem.message + "\n";
  return text;
}

const TensorGroup *
group_of (const Inspection &inspection, const std::string &role)
{
  const auto found = std::ranges::find (inspection.tensors, role, &TensorGroup::role);
  return found == inspection.tensors.end () ? nullptr : &*found;
}

class InspectionTest : public ::testing::Test
{
protected:
  void SetUp () override { write (kShape); }

  fs::path folder () const { return folder_.path (); }

  void write (const SyntheticModel &shape,
              const std::function<void (std::vector<SyntheticTensor> &)> &change = {})
  {
    std::mt19937 random (17);
    auto tensors = random_tensors (shape, random);
    if (change)
      change (tensors);
    write_safetensors (folder () / "model.safetensors", tensors);
    write_file (folder () / "config.json", synthetic_config (shape));
  }

  Inspection inspect (const InspectionOptions &options = {}) const
  {
    return inspect_model (folder (), options);
  }

  TemporaryFolder folder_;
};

/// What inspection says is what is found by loading.
void
expect_loaded (const fs::path &path, WeightFormat weights)
{
  const Inspection inspection =
      inspect_model (path, {.weights = weights, .kv_type = KvType::kQ8, .kv_tokens = 50});
  ASSERT_TRUE (inspection.loads ()) << path << "\n" << shown (inspection);
  ModelOptions options;
  options.weights = weights;
  options.cpu.threads = 1;
  const auto model = Model::open (path, options);
  EXPECT_EQ (inspection.weight_bytes, model->compiled->weight_bytes ()) << path;
  uint64_t positional = 0, states = 0;
  for (const KvGroup &group : model->compiled->kv_layout (KvType::kQ8)) {
    const uint64_t bytes = group.block_bytes * static_cast<uint64_t> (most_blocks (group, 50, 1));
    (group.kind == KvGroup::Kind::kRecurrent ? states : positional) += bytes;
  }
  EXPECT_EQ (inspection.kv.front ().type, "q8");
  EXPECT_EQ (inspection.kv.front ().bytes, positional) << path;
  EXPECT_EQ (inspection.kv.size (), static_cast<size_t> (kKvTypes));
  EXPECT_EQ (inspection.state_bytes, states) << path;
  EXPECT_EQ (inspection.eos_ids, model->eos_token_ids);
  EXPECT_EQ (static_cast<size_t> (
                 std::accumulate (inspection.layers.begin (), inspection.layers.end (), 0,
                                  [] (int sum, const LayerGroup &group) { return sum + group.layers; })),
             model->spec.layers.size ());
  uint64_t used = 0;
  for (const TensorGroup &group : inspection.tensors)
    used += group.role == "other" ? 0 : group.parameters;
  EXPECT_EQ (used, inspection.parameters) << path << ": tensors that are computed with have roles";
  EXPECT_LE (inspection.active_parameters, inspection.parameters);
}

TEST_F (InspectionTest, a_model_is_said_to_be_what_it_is)
{
  const Inspection inspection = inspect ({.kv_tokens = 100});
  EXPECT_EQ (shown (inspection), "");
  EXPECT_EQ (inspection.form, "safetensors folder");
  EXPECT_EQ (inspection.architecture, "qwen3");
  EXPECT_EQ (inspection.files, 1);
  EXPECT_EQ (inspection.file_bytes, fs::file_size (folder () / "model.safetensors"));
  ASSERT_EQ (inspection.layers.size (), 1u);
  EXPECT_EQ (inspection.layers[0].mixer, "full attention");
  EXPECT_EQ (inspection.layers[0].channel, "MLP of 512");
  EXPECT_EQ (inspection.heads, std::vector<std::string>{"4 of 64, 2 of keys and values"});
  const uint64_t layer = 256 * 64 * (4 + 2 + 2 + 4) + 3 * 256 * 512 + 2 * 256 + 2 * 64;
  EXPECT_EQ (inspection.parameters, 3 * layer + 2 * 96 * 256 + 256);
  EXPECT_EQ (inspection.active_parameters, inspection.parameters);
  EXPECT_EQ (group_of (inspection, "attention")->tensors, 12);
  EXPECT_EQ (group_of (inspection, "attention")->type, "BF16");
  EXPECT_EQ (group_of (inspection, "mlp")->parameters, 3u * 3 * 256 * 512);
  EXPECT_EQ (group_of (inspection, "norm")->tensors, 3 * 4 + 1);
  EXPECT_EQ (group_of (inspection, "head")->bytes, 96u * 256 * 2);
  EXPECT_EQ (inspection.kv.front ().bytes, 112u * 3 * 2 * 2 * 64 * 4); // whole blocks of 16
  EXPECT_TRUE (inspection.fits ());
  EXPECT_EQ (inspection.missing_tensors, std::vector<std::string>{});
  expect_loaded (folder (), WeightFormat::kAuto);
  expect_loaded (folder (), WeightFormat::kInt4);
}

TEST_F (InspectionTest, gguf_files_are_inspected_as_folders_are)
{
  write_gguf_model (folder (), folder () / "x.gguf");
  const Inspection inspection = inspect_model (folder () / "x.gguf", {});
  EXPECT_EQ (inspection.form, "GGUF file");
  EXPECT_EQ (inspection.parameters, inspect ().parameters);
  EXPECT_EQ (group_of (inspection, "attention")->type, "F32");
  expect_loaded (folder () / "x.gguf", WeightFormat::kAuto);
}

TEST_F (InspectionTest, all_that_is_wrong_is_said_at_once)
{
  write (kShape, [] (std::vector<SyntheticTensor> &tensors) {
    std::erase_if (tensors, [] (const SyntheticTensor &tensor) {
      return tensor.name == "model.layers.1.self_attn.q_proj.weight" || tensor.name == "model.norm.weight";
    });
    for (SyntheticTensor &tensor : tensors)
      if (tensor.name == "model.layers.0.mlp.up_proj.weight" ||
          tensor.name == "model.layers.2.mlp.down_proj.weight")
        std::swap (tensor.shape[0], tensor.shape[1]);
    tensors.push_back ({"model.layers.0.extra.weight", {2, 2}, DType::kF32, {1, 2, 3, 4}});
  });
  write_file (folder () / "tokenizer.json", "{\"model\": {\"type\": \"Nonsense\"}}");
  write_file (folder () / "tokenizer_config.json", "{\"chat_template\": \"{% for %}\", \"bos_token\": 3}");
  write_file (folder () / "generation_config.json", "{\"temperature\": \"hot\"}");
  const Inspection inspection = inspect ();
  EXPECT_FALSE (inspection.loads ());
  EXPECT_EQ (inspection.missing_tensors,
             (std::vector<std::string>{"model.layers.1.self_attn.q_proj.weight", "model.norm.weight"}));
  EXPECT_EQ (inspection.left_over_tensors, std::vector<std::string>{"model.layers.0.extra.weight"});
  for (const auto &[subject, part] : std::vector<std::pair<const char *, const char *>>{
           {"weights", "model.layers.1.self_attn.q_proj.weight"},
           {"weights", "model.layers.0.mlp.up_proj.weight"},
           {"weights", "model.layers.2.mlp.down_proj.weight"},
           {"tokenizer", "Nonsense"},
           {"tokenizer", "bos_token"},
           {"chat_template", "does not compile"},
           {"generation", "temperature"}})
    EXPECT_TRUE (names (inspection.problems, subject, part)) << subject << ", " << part << "\n"
                                                             << shown (inspection);
  EXPECT_EQ (inspection.problems.size (), 7u) << shown (inspection);
  EXPECT_EQ (group_of (inspection, "other")->parameters, 4u);
  EXPECT_GT (inspection.kv.front ().bytes, 0u) << "what the configuration says can be said";
}

TEST_F (InspectionTest, models_that_cannot_be_computed_are_described_as_far_as_can_be)
{
  SyntheticModel other = kShape;
  other.family = "no_such_family";
  write_file (folder () / "config.json", synthetic_config (other));
  const Inspection inspection = inspect ();
  EXPECT_FALSE (inspection.loads ());
  EXPECT_EQ (inspection.architecture, "no_such_family");
  EXPECT_TRUE (names (inspection.problems, "architecture", "no_such_family")) << shown (inspection);
  EXPECT_EQ (inspection.tensors.size (), 1u);
  EXPECT_GT (inspection.tensors[0].parameters, 1000000u);
  EXPECT_FALSE (inspection.spec);

  write_file (folder () / "config.json", "{");
  EXPECT_TRUE (names (inspect ().problems, "architecture", "config.json"));
  fs::remove (folder () / "config.json");
  EXPECT_EQ (inspect ().form, "");
  EXPECT_TRUE (names (inspect_model (folder () / "none", {}).problems, "model", "none"));
  write_file (folder () / "broken.gguf", "GGUF");
  EXPECT_FALSE (inspect_model (folder () / "broken.gguf", {}).loads ());
}

TEST_F (InspectionTest, weights_are_not_read)
{
  // 25 GB of zeros that are on no disk.
  SyntheticModel big = kShape;
  big.vocab = 100'000;
  big.hidden = 8192;
  big.heads = 64;
  big.kv_heads = 8;
  big.head_dim = 128;
  big.intermediate = 28672;
  big.layers = 14;
  write_file (folder () / "config.json", synthetic_config (big));
  std::string header;
  uint64_t at = 0;
  const auto add = [&] (const std::string &name, std::vector<int64_t> shape) {
    uint64_t bytes = 2;
    std::string sizes;
    for (const int64_t size : shape) {
      bytes *= static_cast<uint64_t> (size);
      sizes += (sizes.empty () ? "" : ",") + std::to_string (size);
    }
    header += (header.empty () ? "{\"" : ",\"") + name + "\":{\"dtype\":\"BF16\",\"shape\":[" + sizes +
              "],\"data_offsets\":[" + std::to_string (at) + "," + std::to_string (at + bytes) + "]}";
    at += bytes;
  };
  SyntheticModel tiny = big;
  tiny.vocab = tiny.hidden = tiny.heads = tiny.kv_heads = tiny.head_dim = tiny.intermediate = 1;
  std::mt19937 random (1);
  for (const SyntheticTensor &tensor : random_tensors (tiny, random)) {
    const auto has = [&] (const char *part) { return tensor.name.find (part) != std::string::npos; };
    const int64_t q = big.heads * big.head_dim, kv = big.kv_heads * big.head_dim;
    if (has ("q_norm") || has ("k_norm"))
      add (tensor.name, {big.head_dim});
    else if (has ("norm"))
      add (tensor.name, {big.hidden});
    else if (has ("embed") || has ("lm_head"))
      add (tensor.name, {big.vocab, big.hidden});
    else if (has ("down_proj"))
      add (tensor.name, {big.hidden, big.intermediate});
    else if (has ("mlp"))
      add (tensor.name, {big.intermediate, big.hidden});
    else if (has ("o_proj"))
      add (tensor.name, {big.hidden, q});
    else
      add (tensor.name, {has ("q_proj") ? q : kv, big.hidden});
  }
  header += "}";
  const uint64_t length = header.size ();
  const fs::path file = folder () / "model.safetensors";
  write_file (file, std::string (reinterpret_cast<const char *> (&length), sizeof length) + header);
  fs::resize_file (file, 8 + length + at);
  const long before = resident_kib ();
  const Inspection inspection = inspect ({.weights = WeightFormat::kF32, .kv_tokens = 256});
  EXPECT_LT (resident_kib (), before + (64 << 10));
  EXPECT_TRUE (inspection.loads ()) << shown (inspection);
  EXPECT_GT (inspection.file_bytes, uint64_t{25'000'000'000});
  EXPECT_GE (inspection.weight_bytes, 2 * (inspection.file_bytes - 8 - length));
  if (!inspection.fits ()) {
    EXPECT_TRUE (names (inspection.problems, "memory", "are free")) << shown (inspection);
  }
}

TEST_F (InspectionTest, json_is_an_object_with_what_is_documented)
{
  write_file (folder () / "tokenizer_config.json", "{\"chat_template\": \"{{ \\\"quoted\\\" }}\"}");
  for (const std::string &config :
       {synthetic_config (kShape), std::string (R"({"model_type": "\u0001\"other\""})")}) {
    write_file (folder () / "config.json", config);
    const Inspection inspection = inspect ();
    simdjson::dom::parser parser;
    simdjson::dom::object root;
    const std::string json = inspection_json (inspection);
    ASSERT_EQ (parser.parse (json).get (root), simdjson::SUCCESS) << json;
    for (const char *name : {"path", "form", "architecture", "weights", "tokenizer", "chat_template",
                             "memory", "loads", "fits", "problems", "warnings"})
      EXPECT_EQ (root[name].error (), simdjson::SUCCESS) << name;
    EXPECT_EQ (bool (root["loads"]), inspection.loads ());
    EXPECT_EQ (root["chat_template"].get_string ().value (), "tokenizer_config.json");
    EXPECT_EQ (root["weights"]["tensors"].get_array ().size (), inspection.tensors.size ());
    EXPECT_NE (inspection_text (inspection).find (inspection.loads () ? "yes" : "problem"),
               std::string::npos);
  }
}

TEST (InspectionOracle, every_family_is_inspected_as_it_loads)
{
  REQUIRE_ORACLES ("oracles");
  for (const OracleModel &model : oracle_models ()) {
    SCOPED_TRACE (model.name);
    expect_loaded (model.folder, WeightFormat::kAuto);
    expect_loaded (model.folder, WeightFormat::kInt8);
  }
}

} // namespace
