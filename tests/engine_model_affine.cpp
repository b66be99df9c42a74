// labels: unit
// timeout: 300
//
// Checkpoints that MLX quantized: the numbers of their dequantized values, and what is refused by which field.
#include "engine/error.hpp"
#include "engine/model/model.hpp"
#include "tests/affine_models.hpp"
#include "tests/model_runner.hpp"
#include "tests/test_paths.hpp"

#include <cstring>
#include <numeric>

namespace fs = std::filesystem;
using namespace millrace;
using namespace millrace::testing;
using cpu::AffineFormat;
using cpu::ScaleType;

namespace
{

constexpr SyntheticModel kShape{.family = "qwen3",
                                .vocab = 96,
                                .hidden = 256,
                                .layers = 2,
                                .heads = 4,
                                .kv_heads = 2,
                                .head_dim = 64,
                                .intermediate = 384};

std::vector<float>
logits_of (const Model &model)
{
  std::vector<TokenId> tokens;
  for (int i = 0; i < 40; ++i)
    tokens.push_back ((i * 37 + 11) % model.spec.vocab);
  const auto count = static_cast<int> (tokens.size ()), blocks = blocks_for (count);
  std::vector<BlockId> table (static_cast<size_t> (blocks));
  std::iota (table.begin (), table.end (), 0);
  std::vector<float> logits (tokens.size () * static_cast<size_t> (model.spec.vocab));
  Slice slice;
  slice.tokens = tokens;
  slice.blocks[0] = table;
  slice.scored = count;
  slice.logits = logits.data ();
  model.compiled->create_context (context_options (blocks, count))->forward ({&slice, 1});
  return logits;
}

class AffineModelTest : public ::testing::Test
{
protected:
  fs::path affine () const { return folder_.path () / "affine"; }
  fs::path plain () const { return folder_.path () / "plain"; }

  void SetUp () override
  {
    fs::create_directory (affine ());
    fs::create_directory (plain ());
  }

  static std::vector<SyntheticTensor> tensors (const SyntheticModel &shape = kShape)
  {
    std::mt19937 random (17);
    return random_tensors (shape, random);
  }

  void write (const AffineCheckpoint &checkpoint, const std::string &quantization,
              const SyntheticModel &shape = kShape)
  {
    write_file (affine () / "config.json", affine_config (shape, quantization));
    write_raw_safetensors (affine () / "model.safetensors", checkpoint.tensors);
    write_file (plain () / "config.json", synthetic_config (shape));
    write_safetensors (plain () / "model.safetensors", checkpoint.plain);
  }

  static std::shared_ptr<const Model> open (const fs::path &path, WeightFormat weights = WeightFormat::kAuto,
                                            const fs::path &cache = {})
  {
    ModelOptions options;
    options.weights = weights;
    options.cpu.threads = 2;
    options.weight_cache = cache;
    return Model::open (path, options);
  }

  /// The checkpoint has the logits of what it means: exactly as floats, nearly as it is.
  void expect_meant (const std::string &description)
  {
    const auto expected = logits_of (*open (plain (), WeightFormat::kF32));
    EXPECT_EQ (logits_of (*open (affine (), WeightFormat::kF32)), expected);
    const auto held = open (affine ());
    EXPECT_NE (held->compiled->description ().find (description), std::string::npos)
        << held->compiled->description ();
    expect_near (*held, expected, 0.08f);
  }

  static void expect_near (const Model &model, const std::vector<float> &expected, float most)
  {
    const auto found = logits_of (model);
    float largest = 0, scale = 0;
    for (size_t i = 0; i < expected.size (); ++i) {
      largest = std::max (largest, std::fabs (found[i] - expected[i]));
      scale = std::max (scale, std::fabs (expected[i]));
    }
    // Products round activations to 8 bits; the numbers are those tests' business.
    EXPECT_LE (largest, most * scale) << model.compiled->description ();
    EXPECT_GT (largest, 0) << model.compiled->description ();
  }

  void expect_refused (const std::string &file, const std::string &field, const std::string &part)
  {
    try {
      open (affine ());
    } catch (const LoadError &error) {
      EXPECT_EQ (error.file.filename (), file) << error.what ();
      EXPECT_EQ (error.field, field) << error.what ();
      EXPECT_NE (std::string (error.what ()).find (part), std::string::npos) << error.what ();
      return;
    }
    ADD_FAILURE () << "opened; expected an error about " << field << ": " << part;
  }

  TemporaryFolder folder_;
};

TEST_F (AffineModelTest, every_width_group_and_type_has_the_logits_of_its_values)
{
  for (const int bits : cpu::kAffineBits) {
    for (const int group : cpu::kAffineGroups) {
      for (const ScaleType scales : {ScaleType::kF16, ScaleType::kBF16, ScaleType::kF32}) {
        const AffineFormat affine{bits, group, scales};
        SCOPED_TRACE (cpu::format_name (cpu::affine_format (affine)));
        write (affine_checkpoint (tensors (), [&] (const auto &) { return affine; }),
               "{\"group_size\":" + std::to_string (group) + ",\"bits\":" + std::to_string (bits) + "}");
        expect_meant (cpu::format_name (cpu::affine_format (affine)));
      }
    }
  }
}

TEST_F (AffineModelTest, modules_may_differ_and_some_may_be_floats)
{
  const auto format = [] (const std::string &name) -> std::optional<AffineFormat> {
    if (name == "lm_head.weight")
      return std::nullopt;
    if (name == "model.layers.1.mlp.down_proj.weight")
      return AffineFormat{6, 32, ScaleType::kBF16};
    return AffineFormat{4, 64, ScaleType::kBF16};
  };
  write (affine_checkpoint (tensors (), format),
         R"({"group_size": 64, "bits": 4, "mode": "affine", "lm_head": false, "model.embed_tokens": true,
             "model.layers.1.mlp.down_proj": {"group_size": 32, "bits": 6}})");
  expect_meant ("mixed");
}

TEST_F (AffineModelTest, a_tied_head_is_the_embedding_s_codes)
{
  SyntheticModel shape = kShape;
  shape.tied = true;
  write (affine_checkpoint (tensors (shape),
                            [] (const auto &) {
                              return AffineFormat{5, 64, ScaleType::kF16};
                            }),
         R"({"group_size": 64, "bits": 5})", shape);
  expect_meant ("affine5/64 f16");
}

TEST_F (AffineModelTest, other_formats_are_made_of_the_values)
{
  write (affine_checkpoint (tensors (),
                            [] (const auto &) {
                              return AffineFormat{6, 64, ScaleType::kBF16};
                            }),
         R"({"group_size": 64, "bits": 6})");
  const auto expected = logits_of (*open (plain (), WeightFormat::kF32));
  for (const WeightFormat format : {WeightFormat::kBF16, WeightFormat::kInt8, WeightFormat::kInt4}) {
    const auto model = open (affine (), format), same = open (plain (), format);
    EXPECT_EQ (logits_of (*model), logits_of (*same)) << static_cast<int> (format);
    expect_near (*model, expected, 0.5f);
  }
}

TEST_F (AffineModelTest, matrices_of_4_bits_stay_as_they_are_when_4_are_wanted)
{
  write (affine_checkpoint (tensors (),
                            [] (const auto &) {
                              return AffineFormat{4, 64, ScaleType::kBF16};
                            }),
         R"({"group_size": 64, "bits": 4})");
  EXPECT_EQ (logits_of (*open (affine (), WeightFormat::kInt4)), logits_of (*open (affine ())));
}

TEST_F (AffineModelTest, packed_weights_are_found_again)
{
  const auto format = [] (const auto &) { return AffineFormat{4, 64, ScaleType::kBF16}; };
  write (affine_checkpoint (tensors (), format), R"({"group_size": 64, "bits": 4})");
  const fs::path cache = folder_.path () / "cache";
  const auto count = [&] {
    return std::distance (fs::directory_iterator (cache), fs::directory_iterator ());
  };
  const auto first = logits_of (*open (affine (), WeightFormat::kAuto, cache));
  EXPECT_EQ (count (), 1);
  EXPECT_EQ (logits_of (*open (affine (), WeightFormat::kAuto, cache)), first);
  EXPECT_EQ (count (), 1);
}

TEST_F (AffineModelTest, wrong_settings_are_refused_by_their_names)
{
  const auto checkpoint = affine_checkpoint (tensors (), [] (const auto &) {
    return AffineFormat{4, 64, ScaleType::kBF16};
  });
  const struct {
    std::string quantization, field, part;
  } kCases[] = {
      {R"({"group_size": 64})", "quantization.bits", "missing"},
      {R"({"bits": 4})", "quantization.group_size", "missing"},
      {R"({"group_size": 64, "bits": 7})", "quantization.bits",
       "is 7; matrices must have 2, 3, 4, 5, 6 or 8"},
      {R"({"group_size": 64, "bits": 0})", "quantization.bits", "is 0"},
      {R"({"group_size": 48, "bits": 4})", "quantization.group_size", "is 48; groups must be"},
      {R"({"group_size": -1, "bits": 4})", "quantization.group_size", "is -1"},
      {R"({"group_size": 64, "bits": "4"})", "quantization.bits", "integer"},
      {R"({"group_size": 16, "bits": 4, "mode": "nvfp4"})", "quantization.mode",
       "\"nvfp4\" is not supported"},
      {R"({"group_size": 64, "bits": 4, "lm_head": 3})", "quantization.lm_head", "must be false, true or"},
      {R"({"group_size": 64, "bits": 4, "lm_head": {"bits": 4}})", "quantization.lm_head.group_size",
       "missing"},
      {R"([4])", "quantization", "expected an object"}};
  for (const auto &[quantization, field, part] : kCases) {
    SCOPED_TRACE (quantization);
    write (checkpoint, quantization);
    expect_refused ("config.json", field, part);
  }
  write (checkpoint, "null");
  expect_refused ("model.safetensors", "model.embed_tokens.weight", "has shape [96, 32], expected [96, 256]");
}

TEST_F (AffineModelTest, tensors_that_do_not_belong_together_are_refused)
{
  const auto checkpoint = affine_checkpoint (tensors (), [] (const auto &) {
    return AffineFormat{4, 64, ScaleType::kBF16};
  });
  const std::string module = "model.layers.0.mlp.up_proj", right = R"({"group_size": 64, "bits": 4})";
  const auto damaged = [&] (const std::string &name, const std::function<void (RawTensor &)> &change) {
    AffineCheckpoint copy = checkpoint;
    for (RawTensor &tensor : copy.tensors)
      if (tensor.name == name)
        change (tensor);
    write (copy, right);
  };
  for (const char *part : {".scales", ".biases"}) {
    damaged (module + part, [] (RawTensor &tensor) { tensor.name = "elsewhere"; });
    expect_refused ("model.safetensors", module + part,
                    "is missing, but " + module + ".weight is a quantized");
    damaged (module + part, [] (RawTensor &tensor) { std::swap (tensor.shape[0], tensor.shape[1]); });
    expect_refused ("model.safetensors", module + part, "has shape [4, 384], expected [384, 4]");
    damaged (module + part, [] (RawTensor &tensor) { tensor.dtype = "I16"; });
    expect_refused ("model.safetensors", module + part, "must be F32, F16 or BF16");
  }
  damaged (module + ".biases", [] (RawTensor &tensor) { tensor.dtype = "F16"; });
  expect_refused ("model.safetensors", module + ".biases", "is of another type");
  for (const std::vector<int64_t> &shape : {std::vector<int64_t>{384 * 32}, std::vector<int64_t>{384 * 32, 1},
                                            std::vector<int64_t>{384 * 16, 2}}) {
    damaged (module + ".weight", [&] (RawTensor &tensor) { tensor.shape = shape; });
    expect_refused ("model.safetensors", module + ".weight",
                    "cannot be those of a quantized matrix of 4 bits");
  }
  // Of the shape of another model.
  AffineCheckpoint wide = checkpoint;
  for (RawTensor &tensor : wide.tensors)
    if (tensor.name.starts_with (module + ".")) {
      tensor.shape[0] /= 2;
      tensor.bytes.resize (tensor.bytes.size () / 2);
    }
  write (wide, right);
  expect_refused ("model.safetensors", module + ".weight", "has shape [192, 256], expected [384, 256]");
  // Other bits or groups than the tensors have.
  for (const char *wrong : {R"({"group_size": 32, "bits": 4})", R"({"group_size": 64, "bits": 8})",
                            R"({"group_size": 64, "bits": 3})"}) {
    SCOPED_TRACE (wrong);
    write (checkpoint, wrong);
    EXPECT_THROW (open (affine ()), LoadError);
  }
  // Words that nobody says the meaning of.
  write (checkpoint, R"({"group_size": 64, "bits": 4, "model.layers.0.mlp.up_proj": false})");
  expect_refused ("model.safetensors", module + ".weight", "has shape [384, 32], expected [384, 256]");
}

} // namespace
