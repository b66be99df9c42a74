// labels: unit
//
// Names of types, which tensors they are for, and the text of configuration files that are written again.
#include "engine/conversion/json_members.hpp"
#include "engine/conversion/wanted_type.hpp"

#include <gtest/gtest.h>

#include <map>
#include <stdexcept>

using namespace millrace;

namespace
{

TEST (WantedType, names_are_of_types)
{
  EXPECT_EQ (parse_wanted_type ("q4_k_m")->name, "Q4_K_M");
  EXPECT_EQ (parse_wanted_type ("q4_k_m")->encoding.type, DType::kQ4K);
  EXPECT_EQ (parse_wanted_type ("BF16")->encoding.type, DType::kBF16);
  EXPECT_TRUE (parse_wanted_type ("mxfp4")->is_blocks ());
  EXPECT_FALSE (parse_wanted_type ("f32")->is_blocks ());
  EXPECT_EQ (parse_wanted_type ("affine4")->name, "affine4g64");
  EXPECT_EQ (parse_wanted_type ("Affine8g128")->encoding.codes->group, 128);
  for (const char *wrong : {"", "Q4", "Q4_K_X", "affine", "affine7", "affine4g", "affine4g16", "affine4x64",
                            "affine4g64 ", "affine-4", "affine99999999999999999999"})
    EXPECT_FALSE (parse_wanted_type (wrong)) << wrong;
}

TEST (WantedType, the_last_override_that_fits_counts)
{
  const std::vector<TypeOverride> overrides{parse_type_override ("*.down_proj.weight=affine6"),
                                            parse_type_override ("*layers.1.*=F16"),
                                            parse_type_override ("a=b=Q8_0")};
  EXPECT_EQ (overridden_type (overrides, "model.layers.0.mlp.down_proj.weight")->name, "affine6g64");
  EXPECT_EQ (overridden_type (overrides, "model.layers.1.mlp.down_proj.weight")->name, "F16");
  EXPECT_EQ (overridden_type (overrides, "a=b")->name, "Q8_0");
  EXPECT_EQ (overridden_type (overrides, "model.norm.weight"), nullptr);
  for (const char *wrong : {"", "=Q8_0", "x", "x=", "x=Q4"})
    EXPECT_THROW (parse_type_override (wrong), std::invalid_argument) << wrong;
}

/// A dense model of so many layers, as its GGUF file has it.
std::vector<GgufTensorFacts>
dense_model (int layers, bool tied = false)
{
  std::vector<GgufTensorFacts> tensors{{"token_embd.weight", {32000, 4096}}, {"output_norm.weight", {4096}}};
  if (!tied)
    tensors.push_back ({"output.weight", {32000, 4096}});
  for (int i = 0; i < layers; ++i) {
    const std::string layer = "blk." + std::to_string (i) + ".";
    tensors.push_back ({layer + "attn_norm.weight", {4096}});
    for (const char *name : {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up"})
      tensors.push_back ({layer + name + ".weight", {4096, 4096}});
    tensors.push_back ({layer + "ffn_down.weight", {4096, 14336}});
  }
  return tensors;
}

/// How many of its tensors get which type.
std::map<std::string, int>
counts (const std::vector<GgufTensorFacts> &tensors, const char *type, int groups = 4, int experts = 0)
{
  const WantedType wanted = *parse_wanted_type (type);
  const GgufTypes types (tensors, groups, experts);
  std::map<std::string, int> counts;
  for (const GgufTensorFacts &tensor : tensors)
    ++counts[is_quantizable_gguf (tensor)
                 ? std::string (dtype_name (types.type_of (tensor, wanted.encoding.type, wanted.mix)))
                 : "float"];
  return counts;
}

using Counts = std::map<std::string, int>;

// The figures are those of files of 32-layer models as they are published.
TEST (GgufMix, a_model_gets_the_types_that_its_name_stands_for)
{
  const auto model = dense_model (32);
  EXPECT_EQ (counts (model, "Q4_K_M"), (Counts{{"Q4_K", 193}, {"Q6_K", 33}, {"float", 33}}));
  EXPECT_EQ (counts (model, "Q5_K_M"), (Counts{{"Q5_K", 193}, {"Q6_K", 33}, {"float", 33}}));
  EXPECT_EQ (counts (model, "Q4_K_S"), (Counts{{"Q4_K", 217}, {"Q5_K", 8}, {"Q6_K", 1}, {"float", 33}}));
  EXPECT_EQ (counts (model, "Q3_K_M"),
             (Counts{{"Q3_K", 129}, {"Q4_K", 92}, {"Q5_K", 4}, {"Q6_K", 1}, {"float", 33}}));
  EXPECT_EQ (counts (model, "Q2_K"),
             (Counts{{"Q2_K", 129}, {"Q3_K", 64}, {"Q4_K", 32}, {"Q6_K", 1}, {"float", 33}}));
  EXPECT_EQ (counts (model, "Q6_K"), (Counts{{"Q6_K", 226}, {"float", 33}}));
  EXPECT_EQ (counts (model, "Q8_0"), (Counts{{"Q8_0", 226}, {"float", 33}}));
  EXPECT_EQ (counts (model, "Q4_0"), (Counts{{"Q4_0", 225}, {"Q6_K", 1}, {"float", 33}}));
  EXPECT_EQ (counts (model, "BF16"), (Counts{{"BF16", 226}, {"float", 33}}));
}

TEST (GgufMix, tied_embeddings_are_heads)
{
  EXPECT_EQ (counts (dense_model (2, true), "Q4_0"), (Counts{{"Q4_0", 14}, {"Q6_K", 1}, {"float", 3}}));
}

TEST (GgufMix, values_get_more_where_queries_share_them)
{
  const auto model = dense_model (8);
  const GgufTypes shared (model, 8, 0), own (model, 1, 0), mixtral (model, 4, 8);
  const GgufTensorFacts values{"blk.3.attn_v.weight", {1024, 4096}};
  EXPECT_EQ (shared.type_of (values, DType::kQ2K, GgufMix::kQ2K), DType::kQ4K);
  EXPECT_EQ (own.type_of (values, DType::kQ2K, GgufMix::kQ2K), DType::kQ3K);
  EXPECT_EQ (mixtral.type_of (values, DType::kQ4K, GgufMix::kQ4KM), DType::kQ8_0);
}

TEST (GgufMix, rows_that_are_no_whole_blocks_get_smaller_ones)
{
  EXPECT_EQ (fitting_gguf_type (DType::kQ4K, 512), DType::kQ4K);
  EXPECT_EQ (fitting_gguf_type (DType::kQ4K, 96), DType::kQ5_0);
  EXPECT_EQ (fitting_gguf_type (DType::kQ5K, 96), DType::kQ5_1);
  EXPECT_EQ (fitting_gguf_type (DType::kQ6K, 96), DType::kQ8_0);
  EXPECT_EQ (fitting_gguf_type (DType::kQ2K, 96), DType::kIQ4NL);
  EXPECT_EQ (fitting_gguf_type (DType::kQ8_0, 40), DType::kF16);
  EXPECT_EQ (fitting_gguf_type (DType::kF32, 7), DType::kF32);
}

TEST (GgufMix, what_is_not_multiplied_with_or_chooses_stays)
{
  for (const char *name : {"blk.0.ffn_gate_inp.weight", "blk.0.ssm_conv1d.weight", "blk.0.attn_q_norm.weight",
                           "blk.0.ffn_gate_inp_shexp.weight", "blk.0.ssm_a", "per_layer_model_proj.weight"})
    EXPECT_FALSE (is_quantizable_gguf ({name, {64, 64}})) << name;
  EXPECT_FALSE (is_quantizable_gguf ({"blk.0.x.weight", {64}}));
  EXPECT_FALSE (is_quantizable_gguf ({"blk.0.x.weight", {1, 64}}));
  EXPECT_TRUE (is_quantizable_gguf ({"blk.0.ffn_up_exps.weight", {8, 64, 64}}));
  const std::vector<GgufTensorFacts> model{{"blk.0.ffn_up_exps.weight", {8, 64, 64}},
                                           {"blk.0.attn_q.weight", {64, 64}}};
  EXPECT_EQ (counts (model, "MXFP4_MOE"), (Counts{{"MXFP4", 1}, {"Q8_0", 1}}));
}

TEST (JsonMembers, are_the_text_they_were)
{
  const std::string text = R"( { "a" : 1e-06, "b":[1, {"c": "}\"],"}] ,"d\"e":"x\\", "f": {"g": null} } )";
  const auto members = json_members (text);
  ASSERT_EQ (members.size (), 4u);
  EXPECT_EQ (members[0].name, "a");
  EXPECT_EQ (members[0].value, "1e-06");
  EXPECT_EQ (members[1].value, R"([1, {"c": "}\"],"}])");
  EXPECT_EQ (members[2].name, R"(d\"e)");
  EXPECT_EQ (members[2].value, R"("x\\")");
  EXPECT_EQ (members[3].value, R"({"g": null})");
  EXPECT_EQ (json_members (json_object (members)).size (), 4u);
  EXPECT_EQ (json_object ({{"a", "1"}, {"b", "[]"}}), "{\n  \"a\": 1,\n  \"b\": []\n}\n");
  for (const char *none : {"", "[]", "1", "{}", " "})
    EXPECT_TRUE (json_members (none).empty ()) << none;
  for (size_t length = 0; length < text.size (); ++length) // what is cut off is read without going beyond
    json_members (std::string (text, 0, length));
}

} // namespace
