// labels: unit oracle
// timeout: 300
//
// Models that are written in other types: what is read of them is exactly what their files mean, and near what it was.
#include "engine/conversion/conversion.hpp"
#include "engine/model/model.hpp"
#include "engine/model/quantization.hpp"
#include "engine/weights/float_rows.hpp"
#include "engine/weights/gguf_fields.hpp"
#include "tests/coded_checkpoints.hpp"
#include "tests/gguf_models.hpp"
#include "tests/model_runner.hpp"
#include "tests/oracle_models.hpp"
#include "tests/relative_error.hpp"
#include "tests/synthetic_model.hpp"

#include <atomic>
#include <cmath>
#include <iostream>
#include <iterator>
#include <system_error>

namespace fs = std::filesystem;
using namespace millrace;
using namespace millrace::testing;

namespace
{

constexpr const char *kFolderTypes[] = {"affine2g32", "affine3g64",  "affine4", "affine5g32",
                                        "affine6",    "affine8g128", "MXFP4"};
constexpr const char *kGgufTypes[] = {"BF16",   "Q8_0",   "Q4_0",   "Q4_1",   "Q5_0",   "Q5_1",
                                      "Q2_K",   "Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_K_S", "Q4_K_M",
                                      "Q5_K_S", "Q5_K_M", "Q6_K",   "IQ4_NL", "MXFP4"};

constexpr SyntheticModel kShape{.family = "qwen3",
                                .vocab = 96,
                                .hidden = 256,
                                .layers = 3,
                                .heads = 4,
                                .kv_heads = 2,
                                .head_dim = 64,
                                .intermediate = 512,
                                .dtype = DType::kBF16};

ConversionSummary
convert (const fs::path &from, const fs::path &to, const char *type, std::vector<TypeOverride> overrides = {},
         int threads = 2)
{
  return convert_model ({from, to, *parse_wanted_type (type), std::move (overrides), threads, {}});
}

std::string
contents (const fs::path &file)
{
  std::ifstream stream (file, std::ios::binary);
  return {std::istreambuf_iterator<char> (stream), {}};
}

RunnableModel
opened (const fs::path &path)
{
  ModelOptions options;
  options.weights = WeightFormat::kF32;
  options.cpu.threads = 2;
  const auto model = Model::open (path, options);
  return {model->spec, model->compiled};
}

std::vector<float>
logits_of (const RunnableModel &model, std::span<const TokenId> tokens)
{
  const auto length = static_cast<int> (tokens.size ());
  SequenceRunner runner (model, length, length);
  runner.run (tokens, length);
  const auto logits = runner.outputs ().logits;
  return {logits.begin (), logits.end ()};
}

std::vector<TokenId>
some_tokens (int vocab)
{
  std::vector<TokenId> tokens;
  for (int i = 0; i < 40; ++i)
    tokens.push_back ((i * 37 + 11) % vocab);
  return tokens;
}

WeightFiles
weights_of (const fs::path &path)
{
  if (!fs::is_directory (path))
    return WeightFiles::open_file (path);
  WeightFiles files = WeightFiles::open (path);
  if (const auto quantization = load_quantization (path / "config.json"))
    apply_quantization (files, *quantization);
  return files;
}

std::vector<float>
values_of (const WeightFiles &files, const std::string &name)
{
  const auto rows = float_rows (files, name);
  std::vector<float> values (static_cast<size_t> (rows->rows () * rows->columns ()));
  for (int64_t row = 0; row < rows->rows (); ++row)
    rows->read (row, values.data () + row * rows->columns ());
  return values;
}

/// Of the matrices of two files of equal names.
double
matrix_error (const fs::path &expected, const fs::path &found)
{
  const WeightFiles expected_files = weights_of (expected), found_files = weights_of (found);
  double error = 0, power = 0;
  for (const auto &[name, tensor] : expected_files.tensors ()) {
    if (tensor.shape.size () < 2)
      continue;
    const auto a = values_of (expected_files, name), b = values_of (found_files, name);
    const double part = relative_error (a, b);
    double own = 0;
    for (const float value : a)
      own += value * static_cast<double> (value);
    error += part * part * own;
    power += own;
  }
  return std::sqrt (error / power);
}

class ConversionTest : public ::testing::Test
{
protected:
  void SetUp () override
  {
    fs::create_directory (plain ());
    std::mt19937 random (17);
    write_safetensors (plain () / "model.safetensors", random_tensors (kShape, random));
    write_file (plain () / "config.json", synthetic_config (kShape));
  }

  fs::path at (const std::string &name) const { return folder_.path () / name; }
  fs::path plain () const { return at ("plain"); }

  /// Names in the folder, hidden and temporary ones too.
  std::set<std::string> names () const
  {
    std::set<std::string> names;
    for (const auto &entry : fs::directory_iterator (folder_.path ()))
      names.insert (entry.path ().filename ().string ());
    return names;
  }

  /// An error of each matrix reaches the logits through at most the layers behind it, each of which adds the errors of its
  /// own two products in a row; independent errors add by squares.
  static double bound (double weight_error) { return 3 * weight_error * std::sqrt (2.0 * kShape.layers + 2); }

  TemporaryFolder folder_;
};

TEST_F (ConversionTest, folders_mean_their_codes_and_are_near)
{
  const auto tokens = some_tokens (kShape.vocab);
  const auto original = logits_of (opened (plain ()), tokens);
  for (const std::string type : kFolderTypes) {
    convert (plain (), at (type), type.c_str ());
    const auto found = logits_of (opened (at (type)), tokens);
    convert (at (type), at (type + "-f32"), "F32");
    EXPECT_FALSE (load_quantization (at (type + "-f32") / "config.json"));
    EXPECT_EQ (found, logits_of (opened (at (type + "-f32")), tokens)) << type;
    const double weights = matrix_error (plain (), at (type)), logits = relative_error (original, found);
    EXPECT_LE (logits, bound (weights)) << type;
    EXPECT_GT (logits, 0) << type;
    std::printf ("%s: relative errors %.5f of weights, %.5f of logits\n", type.c_str (), weights, logits);
  }
}

TEST_F (ConversionTest, gguf_files_mean_their_blocks_and_are_near)
{
  write_gguf_model (plain (), at ("plain.gguf"));
  const auto tokens = some_tokens (kShape.vocab);
  const auto original = logits_of (opened (at ("plain.gguf")), tokens);
  for (const std::string type : kGgufTypes) {
    const fs::path file = at (type + ".gguf"), dequantized = at (type + "-f32.gguf");
    convert (at ("plain.gguf"), file, type.c_str ());
    const auto found = logits_of (opened (file), tokens);
    convert (file, dequantized, "F32");
    EXPECT_EQ (found, logits_of (opened (dequantized), tokens)) << type;
    const double weights = matrix_error (at ("plain.gguf"), file), logits = relative_error (original, found);
    EXPECT_LE (logits, bound (weights)) << type;
    std::printf ("%s: relative errors %.5f of weights, %.5f of logits\n", type.c_str (), weights, logits);
  }
}

TEST_F (ConversionTest, gguf_metadata_stay)
{
  GgufConversion conversion;
  conversion.more = [] (GgufWriter &writer) {
    writer.set ("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b\xff", ""});
    writer.set ("tokenizer.ggml.scores", std::vector<float>{1, 2});
    writer.set ("x.signed", int16_t{-3});
    writer.set ("x.flag", true);
    writer.set ("general.alignment", uint32_t{32});
    writer.set ("general.file_type", uint32_t{0});
  };
  write_gguf_model (plain (), at ("plain.gguf"), conversion);
  convert (at ("plain.gguf"), at ("q.gguf"), "Q4_K_M");
  const MappedFile before (at ("plain.gguf")), after (at ("q.gguf"));
  const GgufHeader old_header = parse_gguf (before.path (), before.bytes ());
  const GgufHeader header = parse_gguf (after.path (), after.bytes ());
  for (const auto &[key, value] : old_header.metadata) {
    if (key == "general.alignment" || key == "general.file_type")
      continue;
    const auto found = header.metadata.find (key);
    ASSERT_NE (found, header.metadata.end ()) << key;
    EXPECT_EQ (found->second.type, value.type) << key;
    EXPECT_EQ (found->second.text, value.text) << key;
    EXPECT_EQ (found->second.texts, value.texts) << key;
    EXPECT_TRUE (std::ranges::equal (found->second.bytes, value.bytes)) << key;
  }
  EXPECT_EQ (header.metadata.size (),
             old_header.metadata.size ()); // less the alignment, and the version of the blocks
  int64_t file_type = 0;
  ASSERT_TRUE (gguf_integer (GgufType::kUint32, header.metadata.at ("general.file_type").bytes, file_type));
  EXPECT_EQ (file_type, 15);
  ASSERT_EQ (header.tensors.size (), old_header.tensors.size ());
  for (size_t i = 0; i < header.tensors.size (); ++i) {
    EXPECT_EQ (header.tensors[i].name, old_header.tensors[i].name);
    EXPECT_EQ (header.tensors[i].shape, old_header.tensors[i].shape);
  }
}

TEST_F (ConversionTest, bytes_do_not_depend_on_threads)
{
  write_gguf_model (plain (), at ("plain.gguf"));
  for (const int threads : {1, 3}) {
    const std::string name = std::to_string (threads);
    convert (plain (), at (name), "affine3g32", {}, threads);
    convert (at ("plain.gguf"), at (name + ".gguf"), "Q3_K_M", {}, threads);
  }
  for (const char *file : {"model.safetensors", "config.json"})
    EXPECT_EQ (contents (at ("1") / file), contents (at ("3") / file)) << file;
  EXPECT_EQ (contents (at ("1.gguf")), contents (at ("3.gguf")));
}

TEST_F (ConversionTest, a_type_again_changes_nothing)
{
  convert (plain (), at ("once"), "affine4g32");
  convert (at ("once"), at ("twice"), "affine4g32");
  EXPECT_EQ (contents (at ("once") / "model.safetensors"), contents (at ("twice") / "model.safetensors"));
  EXPECT_EQ (contents (at ("once") / "config.json"), contents (at ("twice") / "config.json"));
  write_gguf_model (plain (), at ("plain.gguf"));
  convert (at ("plain.gguf"), at ("once.gguf"), "Q5_K_M");
  convert (at ("once.gguf"), at ("twice.gguf"), "Q5_K_M");
  EXPECT_EQ (contents (at ("once.gguf")), contents (at ("twice.gguf")));
}

TEST_F (ConversionTest, tensors_may_differ)
{
  const auto summary =
      convert (plain (), at ("q"), "affine4",
               {parse_type_override ("*down_proj*=affine8g32"), parse_type_override ("lm_head*=F16"),
                parse_type_override ("*q_norm.weight=affine4")});
  const auto coding = load_quantization (at ("q") / "config.json");
  ASSERT_TRUE (coding);
  const auto *quantization = std::get_if<AffineSettings> (&*coding);
  ASSERT_TRUE (quantization);
  EXPECT_EQ (quantization->common.bits, 4);
  EXPECT_EQ (quantization->of ("model.layers.1.mlp.down_proj")->bits, 8);
  EXPECT_EQ (quantization->of ("model.layers.1.mlp.down_proj")->group, 32);
  const WeightFiles files = weights_of (at ("q"));
  EXPECT_EQ (files.affine ("model.layers.0.mlp.down_proj.weight")->codes.bits, 8);
  EXPECT_EQ (files.affine ("model.layers.0.mlp.up_proj.weight")->codes.bits, 4);
  EXPECT_EQ (files.affine ("model.layers.0.mlp.up_proj.weight")->scale_type, DType::kBF16);
  EXPECT_EQ (files.find ("lm_head.weight")->dtype, DType::kF16);
  EXPECT_EQ (files.find ("model.norm.weight")->dtype, DType::kBF16);
  EXPECT_EQ (summary.notes.size (), 3u) << "a norm cannot be codes, and the note says so";
  EXPECT_EQ (summary.types.at ("affine8g32").tensors, 3);
  EXPECT_EQ (summary.types.at ("F16").elements, 96u * 256);
  opened (at ("q"));
}

TEST_F (ConversionTest, what_belongs_to_the_model_comes_along)
{
  std::string config = synthetic_config (kShape);
  config.insert (1, "\"exact\": 0.10000000000000000555, \"quantization_config\": {\"bits\": 3}, ");
  config.insert (1, "\"quantization\": {\"group_size\": 64, \"bits\": 4}, ");
  write_file (plain () / "config.json", config);
  for (const char *name :
       {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "tokenizer.model", "LICENSE"})
    write_file (plain () / name, std::string ("text of ") + name);
  write_file (plain () / "optimizer.bin", "no part of it");
  convert (plain (), at ("q"), "affine4g32");
  for (const char *name :
       {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "tokenizer.model", "LICENSE"})
    EXPECT_EQ (contents (at ("q") / name), std::string ("text of ") + name);
  EXPECT_FALSE (fs::exists (at ("q") / "optimizer.bin"));
  const std::string written = contents (at ("q") / "config.json");
  EXPECT_NE (written.find ("0.10000000000000000555"), std::string::npos)
      << "numbers stay as they were written";
  EXPECT_EQ (written.find ("\"bits\": 3"), std::string::npos);
  EXPECT_EQ (std::get<AffineSettings> (*load_quantization (at ("q") / "config.json")).common.group, 32);
}

TEST_F (ConversionTest, rows_that_do_not_fit_get_smaller_groups_or_stay)
{
  SyntheticModel odd = kShape;
  odd.hidden = 96;
  odd.intermediate = 40;
  std::mt19937 random (3);
  write_safetensors (plain () / "model.safetensors", random_tensors (odd, random));
  write_file (plain () / "config.json", synthetic_config (odd));
  const auto summary = convert (plain (), at ("q"), "affine4g128");
  const WeightFiles files = weights_of (at ("q"));
  EXPECT_EQ (files.affine ("model.layers.0.mlp.up_proj.weight")->codes.group, 32);
  EXPECT_EQ (files.find ("model.layers.0.mlp.down_proj.weight")->dtype, DType::kBF16);
  EXPECT_EQ (summary.notes.size (), static_cast<size_t> (odd.layers));
  opened (at ("q"));
}

TEST_F (ConversionTest, nothing_is_left_of_what_fails)
{
  write_gguf_model (plain (), at ("plain.gguf"));
  const auto before = names ();
  EXPECT_THROW (convert (plain (), at ("q"), "Q4_K_M"), std::invalid_argument);
  EXPECT_THROW (convert (at ("plain.gguf"), at ("q.gguf"), "affine4"), std::invalid_argument);
  EXPECT_THROW (convert (plain (), at ("q"), "affine4", {parse_type_override ("*=Q8_0")}),
                std::invalid_argument);
  EXPECT_THROW (convert (plain (), at ("q"), "MXFP4_MOE"), std::invalid_argument);
  EXPECT_THROW (convert (plain (), plain (), "affine4"), std::system_error);
  EXPECT_THROW (convert (at ("none"), at ("q"), "affine4"), LoadError);
  EXPECT_THROW (convert (plain (), at ("no") / "folder.gguf", "Q8_0"), std::exception);
  std::atomic<bool> cancelled = true;
  for (const auto &[from, to, type] :
       {std::tuple (plain (), at ("q"), "affine4"), std::tuple (at ("plain.gguf"), at ("q.gguf"), "Q8_0")}) {
    ConversionRequest request{from, to, *parse_wanted_type (type), {}, 2, {}};
    request.progress.cancelled = &cancelled;
    EXPECT_THROW (convert_model (request), Cancelled);
  }
  write_file (plain () / "config.json", "{}");
  EXPECT_THROW (convert (plain (), at ("q"), "affine4"), LoadError);
  EXPECT_EQ (names (), before);
}

// Codes that other programs wrote become what they mean, or codes as near as those of floats.
TEST_F (ConversionTest, codes_of_other_programs_are_read)
{
  const auto tokens = some_tokens (kShape.vocab);
  std::mt19937 random (17);
  const auto tensors = random_tensors (kShape, random);
  for (const std::string method : {"awq", "gptq", "fp8"}) {
    SCOPED_TRACE (method);
    std::vector<RawTensor> stored;
    for (const SyntheticTensor &tensor : tensors) {
      if (tensor.name.find ("_proj.weight") == std::string::npos) {
        stored.push_back ({tensor.name, "BF16", tensor.shape, encode_values (tensor)});
        continue;
      }
      const std::string module = tensor.name.substr (0, tensor.name.size () - 7);
      auto parts = method == "fp8"
                       ? fp8_tensors (tensor.name, tensor.name + "_scale_inv", tensor.shape, tensor.values,
                                      64, 64, {tensor.shape[0] / 64, tensor.shape[1] / 64})
                       : integer_tensors (module, tensor.shape[0], tensor.shape[1], tensor.values,
                                          {.awq = method == "awq", .group = 64});
      std::ranges::move (parts.tensors, std::back_inserter (stored));
    }
    const fs::path folder = at (method);
    fs::create_directory (folder);
    write_raw_safetensors (folder / "model.safetensors", stored);
    std::string config = synthetic_config (kShape);
    const std::string more =
        method == "fp8" ? "\"weight_block_size\": [64, 64]" : "\"bits\": 4, \"group_size\": 64";
    write_file (folder / "config.json", config.insert (1, "\"quantization_config\": {\"quant_method\": \"" +
                                                              method + "\", " + more + "}, "));
    const auto expected = logits_of (opened (folder), tokens);
    convert (folder, at (method + "-f32"), "F32");
    EXPECT_FALSE (load_quantization (at (method + "-f32") / "config.json"));
    EXPECT_EQ (logits_of (opened (at (method + "-f32")), tokens), expected);
    convert (folder, at (method + "-affine"), "affine8g32");
    EXPECT_LT (relative_error (expected, logits_of (opened (at (method + "-affine")), tokens)), 0.03);
  }
}

TEST (ConversionOracle, every_family_means_its_codes)
{
  REQUIRE_ORACLES ("oracles");
  for (const OracleModel &model : oracle_models ()) {
    SCOPED_TRACE (model.name);
    const WeightFiles oracle = WeightFiles::open_file (model.folder / "oracle.safetensors");
    const auto tokens = tensor_values<int32_t> (oracle, "prompt2.ids");
    const auto expected = tensor_values<float> (oracle, "prompt2.logits");
    TemporaryFolder folder;
    std::vector<double> errors;
    for (const std::string type : {"affine4g32", "affine8g32"}) {
      convert (model.folder, folder.path () / type, type.c_str ());
      convert (folder.path () / type, folder.path () / (type + "-f32"), "F32");
      const auto found = logits_of (opened (folder.path () / type), tokens);
      EXPECT_EQ (found, logits_of (opened (folder.path () / (type + "-f32")), tokens)) << type;
      errors.push_back (relative_error (expected, found));
    }
    std::printf ("%s: relative errors of logits %.4f in 4 bits, %.4f in 8\n", model.name.c_str (), errors[0],
                 errors[1]);
    EXPECT_LT (errors[1], errors[0] / 2);
    EXPECT_GT (errors[1], 0);
  }
}

} // namespace
