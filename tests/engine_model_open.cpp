// labels: unit
//
// Opening model folders: what a good one gives, and that every damage is a LoadError naming file and field.
#include "engine/error.hpp"
#include "engine/model/decoder.hpp"
#include "engine/model/model.hpp"
#include "tests/synthetic_model.hpp"
#include "tests/test_paths.hpp"

#include <cstdarg>
#include <fcntl.h>
#include <random>
#include <stop_token>
#include <sys/syscall.h>
#include <unistd.h>

namespace fs = std::filesystem;
using namespace millrace;
using namespace millrace::testing;

namespace
{

constexpr const char *kTokenizer = R"({"version":"1.0","added_tokens":[],"normalizer":null,
"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true},
"post_processor":null,"decoder":{"type":"ByteLevel"},
"model":{"type":"BPE","unk_token":null,"continuing_subword_prefix":null,"end_of_word_suffix":null,
"fuse_unk":false,"byte_fallback":false,"vocab":{"a":0,"b":1,"c":2,"ab":)";

/// A tokenizer.model of <unk>, <s>, "▁", "a", "b" and "ab": a BPE model.
std::string
pieces ()
{
  const auto piece = [] (const std::string &content, char type) {
    const std::string body =
        "\x0A" + std::string (1, static_cast<char> (content.size ())) + content + "\x18" + type;
    return "\x0A" + std::string (1, static_cast<char> (body.size ())) + body;
  };
  return piece ("<unk>", 2) + piece ("<s>", 3) + piece ("▁", 1) + piece ("a", 1) + piece ("b", 1) +
         piece ("ab", 1) + "\x12\x02\x18\x02";
}

/// Sees which of a folder's files are opened, and asks for a stop as one of them is.
struct Watch {
  fs::path folder;
  std::string stop_at;
  std::stop_source stop{};
  std::vector<std::string> opened{};
};
Watch *watch = nullptr;

/// In front of the C library's, under its name.
extern "C" int watched_open (const char *path, int flags, ...) __asm__("open");
int
watched_open (const char *path, int flags, ...)
{
  va_list more;
  va_start (more, flags);
  const mode_t mode = flags & O_CREAT ? va_arg (more, mode_t) : 0;
  va_end (more);
  if (watch && fs::path (path).parent_path () == watch->folder) {
    watch->opened.push_back (fs::path (path).filename ());
    if (watch->opened.back () == watch->stop_at)
      watch->stop.request_stop ();
  }
  return static_cast<int> (syscall (SYS_openat, AT_FDCWD, path, flags, mode));
}

class OpenTest : public ::testing::Test
{
protected:
  void SetUp () override { write_model (path (), {.vocab = 60}, 41); }

  const fs::path &path () const { return folder_.path (); }
  void write (const char *file, const std::string &text) { write_file (path () / file, text); }

  std::shared_ptr<const Model> open (const ModelOptions &options = {.weights = WeightFormat::kAuto,
                                                                    .cpu = {.threads = 1}})
  {
    return Model::open (path (), options);
  }

  // The error of opening `directory`; fails the test when there is none.
  static LoadError error_of (const fs::path &directory)
  {
    try {
      Model::open (directory);
    } catch (const LoadError &error) {
      return error;
    }
    ADD_FAILURE () << directory << " was opened";
    return {"", "", ""};
  }

  void expect_error (const std::string &file, const std::string &field, const std::string &part = "")
  {
    const LoadError error = error_of (path ());
    EXPECT_EQ (error.file.filename ().string (), file) << error.what ();
    EXPECT_EQ (error.field, field) << error.what ();
    EXPECT_NE (std::string (error.what ()).find (part), std::string::npos) << error.what ();
  }

  std::vector<SyntheticTensor> tensors ()
  {
    std::mt19937 random (41);
    return random_tensors ({.vocab = 60}, random);
  }

  TemporaryFolder folder_;
};

TEST_F (OpenTest, config_and_weights_are_enough)
{
  const auto model = open ();
  EXPECT_EQ (model->directory, path ());
  EXPECT_EQ (model->spec.family, "llama");
  EXPECT_EQ (model->spec.vocab, 60);
  EXPECT_EQ (model->eos_token_ids, std::vector<TokenId>{2});
  EXPECT_EQ (model->tokenizer, nullptr);
  EXPECT_EQ (model->chat_template, nullptr);
  EXPECT_EQ (model->bos_token, "");
  ASSERT_NE (model->compiled, nullptr);
  EXPECT_NE (model->compiled->description ().find ("f32 weights, 1 thread"), std::string::npos);
}

TEST_F (OpenTest, the_weight_format_is_the_one_asked_for)
{
  const auto model = open ({.weights = WeightFormat::kInt8, .cpu = {.threads = 1}});
  EXPECT_NE (model->compiled->description ().find ("int8 weights"), std::string::npos);
}

TEST_F (OpenTest, demo_model_opens_with_everything)
{
  const auto model = Model::open (source_path ("models/demo-draft"));
  ASSERT_NE (model->tokenizer, nullptr);
  ASSERT_NE (model->chat_template, nullptr);
  EXPECT_EQ (model->eos_token_ids, (std::vector<TokenId>{8179, 8177}));
  EXPECT_EQ (model->eos_token, "<|im_end|>");
  EXPECT_EQ (model->bos_token, "");
  EXPECT_EQ (model->generation.temperature, 0.4);
}

TEST_F (OpenTest, generation_config_overrides_end_of_sequence)
{
  write ("generation_config.json", R"({"eos_token_id": [7, 9]})");
  EXPECT_EQ (open ()->eos_token_ids, (std::vector<TokenId>{7, 9}));
}

TEST_F (OpenTest, special_tokens_are_strings_or_objects)
{
  write ("tokenizer_config.json",
         R"({"bos_token": {"content": "<s>", "lstrip": false}, "eos_token": "</s>"})");
  const auto model = open ();
  EXPECT_EQ (model->bos_token, "<s>");
  EXPECT_EQ (model->eos_token, "</s>");
}

TEST_F (OpenTest, the_template_file_comes_before_the_configuration)
{
  write ("tokenizer_config.json", R"({"chat_template": "configured"})");
  EXPECT_EQ (open ()->chat_template->render ("{}", 0), "configured");
  write ("chat_template.jinja", "from the file");
  EXPECT_EQ (open ()->chat_template->render ("{}", 0), "from the file");
}

TEST_F (OpenTest, of_several_templates_the_default_is_taken)
{
  write (
      "tokenizer_config.json",
      R"({"chat_template": [{"name": "rag", "template": "other"}, {"name": "default", "template": "this"}]})");
  EXPECT_EQ (open ()->chat_template->render ("{}", 0), "this");
  write ("tokenizer_config.json", R"({"chat_template": [{"name": "rag", "template": "other"}]})");
  EXPECT_EQ (open ()->chat_template, nullptr);
}

TEST_F (OpenTest, a_folder_that_is_not_there_says_what_a_model_is)
{
  const LoadError error = error_of (path () / "nowhere");
  EXPECT_EQ (error.file.filename (), "nowhere");
  EXPECT_NE (std::string (error.what ()).find ("model.safetensors"), std::string::npos) << error.what ();
}

TEST_F (OpenTest, a_file_is_not_a_model_folder)
{
  const LoadError error = error_of (path () / "model.safetensors");
  EXPECT_NE (std::string (error.what ()).find ("not a folder"), std::string::npos) << error.what ();
}

TEST_F (OpenTest, an_empty_folder_says_what_a_model_is)
{
  TemporaryFolder empty;
  const LoadError error = error_of (empty.path ());
  EXPECT_EQ (error.field, "config.json");
  EXPECT_NE (std::string (error.what ()).find ("model.safetensors"), std::string::npos) << error.what ();
}

TEST_F (OpenTest, missing_weights_are_named)
{
  fs::remove (path () / "model.safetensors");
  EXPECT_NE (std::string (error_of (path ()).what ()).find ("model.safetensors"), std::string::npos);
}

TEST_F (OpenTest, a_broken_config_is_named)
{
  write ("config.json", "{");
  EXPECT_EQ (error_of (path ()).file.filename (), "config.json");
}

TEST_F (OpenTest, all_missing_tensors_are_named)
{
  auto weights = tensors ();
  std::erase_if (weights, [] (const SyntheticTensor &tensor) {
    return tensor.name.find ("layers.1.mlp.") != std::string::npos || tensor.name == "model.norm.weight";
  });
  write_safetensors (path () / "model.safetensors", weights);
  const LoadError error = error_of (path ());
  for (const char *name : {"layers.1.mlp.gate_proj.weight", "layers.1.mlp.up_proj.bias",
                           "layers.1.mlp.down_proj.weight", "model.norm.weight"})
    EXPECT_NE (std::string (error.what ()).find (name), std::string::npos) << error.what ();
}

TEST_F (OpenTest, tensors_that_nothing_is_computed_with_are_a_warning)
{
  EXPECT_EQ (open ()->load_warning (), "");
  auto weights = tensors ();
  for (const char *name :
       {"model.layers.0.self_attn.rotary_emb.inv_freq", "model.layers.2.mlp.up_proj.weight",
        "mtp.norm.weight", "model.layers.1.self_attn.gate_proj.weight", "score.weight"})
    weights.push_back ({name, {3}, DType::kF32, {1, 2, 3}});
  write_safetensors (path () / "model.safetensors", weights);
  const std::string warning = open ()->load_warning ();
  EXPECT_NE (warning.find (path ().string () + ": holds 2 tensors"), std::string::npos) << warning;
  EXPECT_NE (warning.find (": model.layers.1.self_attn.gate_proj.weight, score.weight"), std::string::npos)
      << warning;
}

TEST_F (OpenTest, a_missing_tensor_is_named)
{
  auto some = tensors ();
  std::erase_if (some, [] (const SyntheticTensor &tensor) {
    return tensor.name == "model.layers.1.mlp.up_proj.weight";
  });
  write_safetensors (path () / "model.safetensors", some);
  EXPECT_EQ (error_of (path ()).field, "model.layers.1.mlp.up_proj.weight");
}

TEST_F (OpenTest, a_tensor_of_another_shape_is_named)
{
  auto some = tensors ();
  for (SyntheticTensor &tensor : some) {
    if (tensor.name == "model.layers.0.self_attn.k_proj.weight")
      std::swap (tensor.shape[0], tensor.shape[1]);
  }
  write_safetensors (path () / "model.safetensors", some);
  expect_error ("model.safetensors", "model.layers.0.self_attn.k_proj.weight", "[20, 40]");
}

TEST_F (OpenTest, end_of_sequence_outside_the_vocabulary_is_named)
{
  write ("generation_config.json", R"({"eos_token_id": 60})");
  expect_error ("generation_config.json", "eos_token_id", "60");
}

TEST_F (OpenTest, a_tokenizer_for_more_tokens_than_the_model_has_is_refused)
{
  write ("tokenizer.json", std::string (kTokenizer) + R"(59},"merges":["a b"]}})");
  EXPECT_EQ (open ()->tokenizer->vocab_size (), 60);
  write ("tokenizer.json", std::string (kTokenizer) + R"(60},"merges":["a b"]}})");
  expect_error ("tokenizer.json", "", "vocab_size is 60");
}

TEST_F (OpenTest, pieces_are_the_tokenizer_where_there_is_no_json)
{
  write ("tokenizer.model", pieces ());
  using Ids = std::vector<TokenId>;
  const EncodeOptions special{.add_special_tokens = true};
  EXPECT_EQ (open ()->tokenizer->encode ("ab", special), (Ids{1, 2, 5}));
  write ("tokenizer_config.json",
         R"({"add_bos_token": false, "added_tokens_decoder": {"7": {"content": "<turn>",
                                      "special": true, "rstrip": true}}})");
  EXPECT_EQ (open ()->tokenizer->encode ("<turn> ab", special), (Ids{7, 2, 5}));
  write ("added_tokens.json", R"({"<tool>": 6})");
  EXPECT_EQ (open ()->tokenizer->encode ("<tool>ab", special), (Ids{6, 2, 5}));
  write ("added_tokens.json", R"({"<tool>": 60})");
  expect_error ("tokenizer_config.json", "added_tokens_decoder", "has the id 60");
  write ("added_tokens.json", R"({"<tool>": "x"})");
  expect_error ("added_tokens.json", "<tool>", "id of a token");
  write ("added_tokens.json", "{}");
  write ("tokenizer_config.json", R"({"added_tokens_decoder": {"x": {"content": "y"}}})");
  expect_error ("tokenizer_config.json", "added_tokens_decoder", "under their ids");
  write ("tokenizer_config.json", R"({"add_bos_token": 1})");
  expect_error ("tokenizer_config.json", "add_bos_token", "true or false");
  write ("tokenizer_config.json", "{}");
  write ("tokenizer.model", "\x0A");
  EXPECT_EQ (error_of (path ()).file.filename (), "tokenizer.model");
  write ("tokenizer.json", std::string (kTokenizer) + R"(59},"merges":["a b"]}})");
  EXPECT_EQ (open ()->tokenizer->encode ("ab"), (Ids{59})) << "tokenizer.json comes first";
}

TEST_F (OpenTest, a_broken_tokenizer_is_named)
{
  write ("tokenizer.json", "[]");
  EXPECT_EQ (error_of (path ()).file.filename (), "tokenizer.json");
}

TEST_F (OpenTest, a_template_that_does_not_compile_is_named)
{
  write ("tokenizer_config.json", R"({"chat_template": "{% if %}"})");
  expect_error ("tokenizer_config.json", "chat_template", "line 1");
  write ("chat_template.jinja", "\n{{ ");
  expect_error ("chat_template.jinja", "", "chat template");
}

TEST_F (OpenTest, mistyped_tokenizer_configurations_are_named)
{
  write ("tokenizer_config.json", "[1]");
  expect_error ("tokenizer_config.json", "");
  write ("tokenizer_config.json", R"({"chat_template": 5})");
  expect_error ("tokenizer_config.json", "chat_template");
  write ("tokenizer_config.json", R"({"chat_template": [{"name": "default"}]})");
  expect_error ("tokenizer_config.json", "chat_template");
  write ("tokenizer_config.json", R"({"bos_token": 5})");
  expect_error ("tokenizer_config.json", "bos_token");
  write ("tokenizer_config.json", R"({"eos_token": {"content": null}})");
  expect_error ("tokenizer_config.json", "eos_token");
}

TEST_F (OpenTest, packed_weights_are_kept_beside_the_model_or_where_it_is_said)
{
  const auto kept_in = [] (const fs::path &folder) {
    size_t count = 0;
    for (const auto &entry : fs::directory_iterator (folder))
      count += entry.path ().extension () == ".packed";
    return count;
  };
  ModelOptions options = {.weights = WeightFormat::kAuto, .cpu = {.threads = 1}};
  const std::string identity = open (options)->compiled->kv_identity ();
  EXPECT_EQ (kept_in (path ()), 0u);
  options.weight_cache = "model";
  const TemporaryFolder other;
  for (const fs::path &folder : {path (), other.path () / "a/b"}) {
    for (int start = 0; start < 2; ++start) {
      const auto model = open (options);
      EXPECT_EQ (model->compiled->load_warning (), "");
      EXPECT_EQ (model->compiled->kv_identity (), identity);
      EXPECT_EQ (kept_in (folder), 1u);
    }
    options.weight_cache = other.path () / "a/b";
  }
}

TEST_F (OpenTest, loading_that_is_told_to_stop_goes_no_further)
{
  write ("tokenizer_config.json", "{}");
  write ("tokenizer.model", pieces ());
  const auto stopped_at = [&] (Watch &files) {
    watch = &files;
    EXPECT_THROW (open ({.cpu = {.threads = 1}, .stop = files.stop.get_token ()}), LoadStopped);
    watch = nullptr;
    return files.opened.empty () ? "" : files.opened.back ();
  };
  Watch before{path (), ""};
  before.stop.request_stop ();
  EXPECT_EQ (stopped_at (before), "");
  // Each begins a part of the work; the last is what weights are packed from.
  for (const char *name : {"tokenizer_config.json", "tokenizer.model", "model.safetensors"}) {
    Watch files{path (), name};
    EXPECT_EQ (stopped_at (files), name);
  }
  Watch files{path (), "no such file"};
  watch = &files;
  EXPECT_NE (open ({.cpu = {.threads = 1}, .stop = files.stop.get_token ()}), nullptr);
  watch = nullptr;
  EXPECT_EQ (files.opened.back (), "model.safetensors");
}

// A TiB, of which the file system keeps nothing.
TEST_F (OpenTest, a_model_that_cannot_fit_is_refused_with_the_arithmetic)
{
  write ("config.json", synthetic_config ({.family = "qwen3",
                                           .vocab = 1 << 22,
                                           .hidden = 1 << 16,
                                           .layers = 1,
                                           .heads = 2,
                                           .head_dim = 8,
                                           .intermediate = 16,
                                           .max_positions = 64}));
  std::string header;
  uint64_t end = 0;
  for (const WeightRef &weight : build_program (load_architecture (path () / "config.json")).weights) {
    const uint64_t begin = end;
    end += 2 * static_cast<uint64_t> (weight.outputs) * static_cast<uint64_t> (std::max (1, weight.inputs));
    header += (header.empty () ? "{\"" : ",\"") + weight.name + R"(":{"dtype":"BF16","shape":)" +
              to_string (weight.shape ()) + R"(,"data_offsets":[)" + std::to_string (begin) + "," +
              std::to_string (end) + "]}";
  }
  header += "}";
  const uint64_t length = header.size ();
  write ("model.safetensors", std::string (reinterpret_cast<const char *> (&length), sizeof length) + header);
  std::error_code error;
  fs::resize_file (path () / "model.safetensors", sizeof length + length + end, error);
  if (error)
    GTEST_SKIP () << "no file of that size here: " << error.message ();
  const std::string text = error_of (path ()).what ();
  EXPECT_NE (text.find ("the weights take 1.00 TiB (1.00 TiB bf16 + "), std::string::npos) << text;
  EXPECT_NE (text.find (" of memory are free"), std::string::npos) << text;
}

} // namespace
