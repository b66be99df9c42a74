// labels: unit
//
// Experts that a checkpoint has in one tensor, written in codes: each kind gets a matrix of its own, and MXFP4 stays MXFP4 until
// something else is asked for.
#include "engine/conversion/conversion.hpp"
#include "engine/model/quantization.hpp"
#include "engine/weights/coded_matrix.hpp"
#include "tests/checkpoint_models.hpp"

#include <regex>

namespace fs = std::filesystem;
using namespace millrace;
using namespace millrace::testing;

namespace
{

constexpr const char *kLayer = "model.layers.1.mlp.experts.";
constexpr size_t kHidden = 64, kWidth = 96, kExperts = 3;
constexpr int kLayers = 5;

/// All experts are chosen: where some are, a rounding may choose others, and what that does has no bound.
std::string
small_config (const std::string &family)
{
  std::string config = wide_family_config (family);
  const auto set = [&] (const char *key, size_t value) {
    config = std::regex_replace (config, std::regex ("\"" + std::string (key) + "\": *[0-9]+"),
                                 "\"" + std::string (key) + "\": " + std::to_string (value));
  };
  set ("hidden_size", kHidden);
  set ("intermediate_size", kWidth);
  set ("head_dim", 16);
  set ("moe_intermediate_size", kWidth);
  for (const char *experts : {"num_experts", "num_local_experts"})
    set (experts, kExperts);
  for (const char *chosen : {"num_experts_per_tok", "top_k_experts"})
    set (chosen, kExperts);
  return config;
}

class ExpertConversionTest : public CheckpointTest
{
protected:
  fs::path at (const std::string &name) const { return folder_.path () / name; }

  static ConversionSummary convert_to (const fs::path &from, const fs::path &to, const char *type,
                                       std::vector<TypeOverride> overrides = {})
  {
    return convert_model ({from, to, *parse_wanted_type (type), std::move (overrides), 2, {}});
  }

  static std::vector<float> float_logits (const fs::path &path)
  {
    return logits_of (*open (path, WeightFormat::kF32));
  }

  /// What is read of `path` is what its dequantized form means, and is computed with as it is held: that rounds what codes are
  /// multiplied with, and does no more to the model than 8 bits, which round the dequantized weights too.
  void expect_means_its_codes (const fs::path &path)
  {
    const fs::path plain = path.string () + "-f32";
    convert_to (path, plain, "F32");
    const auto expected = float_logits (plain);
    EXPECT_TRUE (same_bits (float_logits (path), expected));
    const auto held = open (path, WeightFormat::kAuto);
    EXPECT_EQ (held->load_warning (), "");
    const double error = relative_error (expected, logits_of (*held));
    EXPECT_GT (error, 0) << "nothing is rounded: it is not computed with what was written";
    EXPECT_LT (error, relative_error (expected, logits_of (*open (plain, WeightFormat::kInt8))));
  }

  struct Opened {
    explicit Opened (const fs::path &path)
        : files (open_model_files (path))
    {
    }
    const WeightFiles &weights () const { return files->weights (); }
    std::vector<float> values (const std::string &name) const
    {
      const auto rows = float_rows (weights (), name);
      std::vector<float> values (static_cast<size_t> (rows->rows () * rows->columns ()));
      for (int64_t row = 0; row < rows->rows (); ++row)
        rows->read (row, values.data () + row * rows->columns ());
      return values;
    }
    bool is_mxfp4 (const std::string &name) const
    {
      const CodedMatrix *coded = weights ().coded (name);
      return coded && coded->form ().type == DType::kMXFP4;
    }
    std::unique_ptr<ModelFiles> files;
  };

  void write_mxfp4_folder ()
  {
    write_original (small_config ("gpt_oss"));
    convert (original (), kMxfp4, gpt_oss_blocks);
  }
};

TEST_F (ExpertConversionTest, mxfp4_of_gpt_oss_becomes_floats_as_transformers_has_them)
{
  write_mxfp4_folder ();
  for (const char *type : {"F32", "BF16"}) {
    convert_to (coded (), at (type), type);
    const Opened found (at (type));
    EXPECT_EQ (found.weights ().find (kLayer + std::string ("gate_up_proj"))->shape,
               (Shape{kExperts, kHidden, 2 * kWidth}));
    EXPECT_EQ (found.values (kLayer + std::string ("gate_up_proj")),
               Opened (plain ()).values (kLayer + std::string ("gate_up_proj")));
    EXPECT_TRUE (found.weights ().find (kLayer + std::string ("gate_up_proj_bias")));
    EXPECT_FALSE (load_quantization (at (type) / "config.json"));
  }
  EXPECT_TRUE (same_bits (float_logits (at ("F32")), float_logits (plain ())));
}

TEST_F (ExpertConversionTest, mxfp4_of_gpt_oss_stays_beside_codes_as_wide)
{
  write_mxfp4_folder ();
  const auto summary = convert_to (coded (), at ("q"), "affine4");
  EXPECT_EQ (summary.types.at ("MXFP4").tensors, 3 * kLayers);
  EXPECT_TRUE (summary.notes.empty ());
  const Opened found (at ("q")), meant (plain ());
  EXPECT_TRUE (found.is_mxfp4 (kLayer + std::string ("gate_proj.weight")));
  EXPECT_FALSE (found.weights ().contains (kLayer + std::string ("gate_up_proj")));
  EXPECT_FALSE (found.weights ().contains (kLayer + std::string ("gate_up_proj_bias")));
  EXPECT_TRUE (found.weights ().affine ("model.layers.1.self_attn.q_proj.weight"));
  // Element by element what the blocks meant: gates are every second output.
  const auto gates = found.values (kLayer + std::string ("gate_proj.weight")),
             ups = found.values (kLayer + std::string ("up_proj.weight")),
             both = meant.values (kLayer + std::string ("gate_up_proj"));
  ASSERT_EQ (gates.size () * 2, both.size ());
  for (size_t i = 0; i < gates.size (); ++i) {
    const size_t expert = i / (kWidth * kHidden), output = i / kHidden % kWidth, input = i % kHidden;
    const size_t pair = (expert * kHidden + input) * 2 * kWidth + 2 * output;
    ASSERT_EQ (gates[i], both[pair]) << i;
    ASSERT_EQ (ups[i], both[pair + 1]) << i;
  }
  expect_means_its_codes (at ("q"));
  // Once more, and finer: from MLX's form.
  convert_to (at ("q"), at ("again"), "affine8g32");
  EXPECT_TRUE (Opened (at ("again")).is_mxfp4 (kLayer + std::string ("down_proj.weight")));
  expect_means_its_codes (at ("again"));
}

TEST_F (ExpertConversionTest, mxfp4_becomes_codes_that_are_asked_for_or_narrower)
{
  write_mxfp4_folder ();
  const std::string gate = kLayer + std::string ("gate_proj.weight"),
                    down = kLayer + std::string ("down_proj.weight");
  convert_to (coded (), at ("narrow"), "affine3g32");
  EXPECT_EQ (Opened (at ("narrow")).weights ().affine (gate)->codes.bits, 3);
  expect_means_its_codes (at ("narrow"));
  convert_to (coded (), at ("asked"), "affine4", {parse_type_override ("*experts.gate_up_proj=affine8g32")});
  EXPECT_EQ (Opened (at ("asked")).weights ().affine (gate)->codes.bits, 8);
  EXPECT_TRUE (Opened (at ("asked")).is_mxfp4 (down));
  expect_means_its_codes (at ("asked"));
  convert_to (coded (), at ("mixed"), "BF16", {parse_type_override ("*experts.down_proj.weight=MXFP4")});
  EXPECT_TRUE (Opened (at ("mixed")).is_mxfp4 (down));
  EXPECT_TRUE (Opened (at ("mixed")).weights ().contains (kLayer + std::string ("gate_up_proj")));
  expect_means_its_codes (at ("mixed"));
}

TEST_F (ExpertConversionTest, floats_become_mxfp4)
{
  write_mxfp4_folder ();
  convert_to (coded (), at ("floats"), "BF16");
  const auto summary = convert_to (at ("floats"), at ("q"), "MXFP4");
  EXPECT_EQ (summary.types.count ("affine4g64"), 0u);
  const Opened found (at ("q")), meant (coded ());
  EXPECT_TRUE (found.is_mxfp4 ("model.layers.1.self_attn.q_proj.weight"));
  EXPECT_TRUE (found.is_mxfp4 (kLayer + std::string ("down_proj.weight")));
  EXPECT_EQ (found.values (kLayer + std::string ("down_proj.weight")),
             meant.values (kLayer + std::string ("down_proj")))
      << "what was MXFP4 once is no other number";
  expect_means_its_codes (at ("q"));
}

TEST_F (ExpertConversionTest, experts_of_one_tensor_of_floats_become_codes)
{
  for (const auto &[family, place] :
       {std::pair ("gpt_oss", "mlp.experts."), std::pair ("gemma4_text, experts", "experts.switch_glu.")}) {
    SCOPED_TRACE (family);
    write_original (small_config (family));
    const fs::path q = at (std::string ("q-") + place);
    const auto summary = convert_to (original (), q, "affine8g32");
    EXPECT_TRUE (summary.notes.empty ());
    const Opened found (q);
    int matrices = 0;
    for (const auto &[name, tensor] : found.weights ().tensors ())
      matrices += tensor.shape.size () == 3 && found.weights ().affine (name) &&
                  name.find (place) != std::string::npos;
    EXPECT_EQ (matrices, 3 * kLayers);
    const bool turns = std::string (family) == "gpt_oss";
    const std::string layer = turns ? "model.layers.1.mlp." : "model.layers.1.",
                      module = "model.layers.1." + std::string (place);
    const auto both = Opened (original ()).values (layer + "experts.gate_up_proj");
    std::vector<float> gates, ups;
    for (size_t row = 0; row < kExperts * kWidth; ++row)
      for (size_t input = 0; input < kHidden; ++input) {
        const size_t expert = row / kWidth, output = row % kWidth;
        const size_t gate = turns ? (expert * kHidden + input) * 2 * kWidth + 2 * output
                                  : (expert * 2 * kWidth + output) * kHidden + input;
        gates.push_back (both[gate]);
        ups.push_back (both[turns ? gate + 1 : gate + kWidth * kHidden]);
      }
    EXPECT_LT (relative_error (gates, found.values (module + "gate_proj.weight")), 0.01);
    EXPECT_LT (relative_error (ups, found.values (module + "up_proj.weight")), 0.01);
    expect_means_its_codes (q);
    convert_to (q, fs::path (q.string () + "-3"), "affine3g64");
    EXPECT_EQ (Opened (q.string () + "-3")
                   .weights ()
                   .affine ("model.layers.0." + std::string (place) + "up_proj.weight")
                   ->codes.bits,
               3)
        << "stacks of matrices are quantized as matrices are";
    expect_means_its_codes (q.string () + "-3");
  }
}

} // namespace
