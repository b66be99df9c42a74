// labels: unit oracle
// timeout: 300
//
// Checkpoints that other programs quantized, FP8, MXFP4, GPTQ, AWQ: each is made from a model here, and has the logits of what it
// means, exactly as floats, nearly as it is held.
#include "tests/checkpoint_models.hpp"
#include "tests/coded_checkpoints.hpp"
#include "tests/oracle_models.hpp"

namespace fs = std::filesystem;
using namespace millrace;
using namespace millrace::testing;

namespace
{

std::optional<Replacement>
fp8_blocks (const SyntheticTensor &tensor, int64_t rows = 128, int64_t columns = 128)
{
  if (!is_quantized_matrix (tensor))
    return std::nullopt;
  auto parts =
      fp8_tensors (tensor.name, tensor.name + "_scale_inv", tensor.shape, tensor.values, rows, columns,
                   {(tensor.shape[0] + rows - 1) / rows, (tensor.shape[1] + columns - 1) / columns});
  return Replacement{std::move (parts.tensors), std::move (parts.values)};
}

const std::string kFp8 = R"("quantization_config": {"quant_method": "fp8", "fmt": "e4m3",
  "activation_scheme": "dynamic", "weight_block_size": [128, 128]})";

// kv_b is needed transposed for keys, in rows for values.
TEST_F (CheckpointTest, fp8_with_scales_of_blocks)
{
  for (const char *family : {"deepseek_v3", "qwen3"}) {
    SCOPED_TRACE (family);
    write_original (wide_family_config (family));
    convert (original (), kFp8, [] (const SyntheticTensor &tensor) { return fp8_blocks (tensor); });
    expect_meant (0.05, {"bf16"}); // another expert now and then
  }
}

TEST_F (CheckpointTest, fp8_of_compressed_tensors)
{
  write_original (wide_family_config ("llama"));
  convert (
      original (),
      R"("quantization_config": {"quant_method": "compressed-tensors", "format": "float-quantized",
    "config_groups": {"group_0": {"targets": ["Linear"]}}, "ignore": ["lm_head"]})",
      [] (const SyntheticTensor &tensor) -> std::optional<Replacement> {
        if (!is_quantized_matrix (tensor))
          return std::nullopt;
        const bool whole = tensor.name.find ("o_proj") != std::string::npos;
        auto parts =
            fp8_tensors (tensor.name, tensor.name + "_scale", tensor.shape, tensor.values, !whole, 0,
                         whole ? std::vector<int64_t>{1} : std::vector<int64_t>{tensor.shape[0], 1}, "BF16");
        parts.tensors.push_back ({module_of (tensor) + ".input_scale", "F32", {1}, std::string (4, '\0')});
        return Replacement{std::move (parts.tensors), std::move (parts.values)};
      });
  expect_meant (0.02, {"bf16"});
}

TEST_F (CheckpointTest, mxfp4_blocks_of_gpt_oss)
{
  write_original (wide_family_config ("gpt_oss"));
  convert (original (), kMxfp4, gpt_oss_blocks);
  expect_meant (0.1, {"mxfp4", "f32"});
}

/// GPTQ's or AWQ's tensors of what they can hold.
Converter
integer_converter (const IntegerFormat &format, bool shuffled = false)
{
  return [=] (const SyntheticTensor &tensor) -> std::optional<Replacement> {
    if (!is_quantized_matrix (tensor) || tensor.shape[0] % 32 != 0 || tensor.shape[1] % 128 != 0)
      return std::nullopt;
    IntegerFormat own = format;
    for (int64_t i = 0; shuffled && i < tensor.shape[1]; ++i)
      own.groups.push_back (static_cast<int32_t> (i * 7 % tensor.shape[1] / format.group));
    auto parts = integer_tensors (module_of (tensor), tensor.shape[0], tensor.shape[1], tensor.values, own);
    return Replacement{std::move (parts.tensors), std::move (parts.values)};
  };
}

TEST_F (CheckpointTest, gptq)
{
  write_original (wide_family_config ("qwen2"));
  convert (original (), R"("quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128,
    "desc_act": false, "sym": false})",
           integer_converter ({}));
  expect_meant (0.05, {"affine4/128 f32"});
  convert (original (), R"("quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 64,
    "desc_act": true, "sym": true, "checkpoint_format": "gptq_v2"})",
           integer_converter ({.group = 64, .version_2 = true}, true));
  expect_meant (0.01, {"f16"});
  convert (original (), R"("quantization_config": {"quant_method": "gptq", "bits": 8, "group_size": -1,
    "desc_act": false})",
           integer_converter ({.bits = 8, .group = -1}));
  expect_meant (0.05, {"affine8/128 f32"});
}

TEST_F (CheckpointTest, awq)
{
  for (const char *family : {"llama", "qwen3_moe"}) {
    SCOPED_TRACE (family);
    write_original (wide_family_config (family));
    convert (original (),
             R"("quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 64, "version": "gemm",
    "zero_point": true, "modules_to_not_convert": null})",
             integer_converter ({.awq = true, .group = 64}));
    expect_meant (0.15, {"affine4/64 f32"});
  }
}

TEST_F (CheckpointTest, pack_quantized_of_compressed_tensors)
{
  for (const auto &[family, bits, group, zeros] :
       {std::tuple ("llama", 4, 64, false), std::tuple ("qwen3_moe", 4, 128, true),
        std::tuple ("qwen2", 8, -1, false)}) {
    SCOPED_TRACE (family);
    write_original (wide_family_config (family));
    const std::string number = std::to_string (bits);
    convert (original (),
             R"("quantization_config": {"quant_method": "compressed-tensors", "format": "pack-quantized",
    "ignore": ["lm_head"], "config_groups": {"group_0": {"targets": ["Linear"], "input_activations": null,
    "weights": {"type": "int", "num_bits": )" +
                 number + R"(, "strategy": "group", "actorder": null}}}})",
             [&] (const SyntheticTensor &tensor) -> std::optional<Replacement> {
               if (!is_quantized_matrix (tensor))
                 return std::nullopt;
               auto parts = packed_tensors (module_of (tensor), tensor.shape[0], tensor.shape[1],
                                            tensor.values, {.bits = bits, .group = group, .zeros = zeros});
               return Replacement{std::move (parts.tensors), std::move (parts.values)};
             });
    expect_meant (0.15, {"affine" + number + (group == 64 ? "/64 f32" : "/128 f32")});
  }
}

TEST_F (CheckpointTest, what_is_not_supported_is_refused_by_name)
{
  write_original (family_config ("qwen3"));
  const auto expect = [&] (const std::string &member, const std::string &field, const std::string &part) {
    convert (original (), member, [] (const SyntheticTensor &) { return std::nullopt; });
    expect_refused (field, part);
  };
  const auto settings = [] (const std::string &more) { return "\"quantization_config\": {" + more + "}"; };
  expect (settings (R"("quant_method": "bitsandbytes", "load_in_4bit": true)"),
          "quantization_config.quant_method", "\"bitsandbytes\" is not supported");
  expect (settings (""), "quantization_config.quant_method", "\"\" is not supported");
  expect (settings (R"("quant_method": "fp8", "fmt": "e5m2")"), "quantization_config.fmt", "\"e5m2\"");
  expect (settings (R"("quant_method": "fp8", "weight_block_size": [128])"),
          "quantization_config.weight_block_size", "two numbers");
  expect (settings (R"("quant_method": "gptq", "bits": 5, "group_size": 128)"), "quantization_config.bits",
          "is 5");
  expect (settings (R"("quant_method": "gptq", "bits": 4, "group_size": 0)"),
          "quantization_config.group_size", "is 0");
  expect (settings (R"("quant_method": "gptq", "bits": 4, "group_size": 128, "checkpoint_format": "marlin")"),
          "quantization_config.checkpoint_format", "\"marlin\"");
  expect (settings (R"("quant_method": "awq", "bits": 4, "group_size": 128, "version": "GEMV")"),
          "quantization_config.version", "\"gemv\"");
  expect (settings (R"("quant_method": "awq", "bits": 8, "group_size": 128)"), "quantization_config.bits",
          "is 8");
  expect (settings (R"("quant_method": "compressed-tensors", "format": "marlin-24")"),
          "quantization_config.format", "\"marlin-24\"");
  const auto packed = [&] (const std::string &weights) {
    return settings (R"("quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups":
      {"group_0": {"weights": {"num_bits": 8}}, "group_1": {"weights": {)" +
                     weights + "}}}");
  };
  const std::string group = "quantization_config.config_groups.group_1.weights.";
  expect (packed (R"("num_bits": 3)"), group + "num_bits", "is 3");
  expect (packed (R"("num_bits": 4)"), group + "num_bits", "another group");
  expect (packed (R"("num_bits": 8, "type": "float")"), group + "type", "\"float\"");
  expect (R"("quantization": {"group_size": 16, "bits": 4, "mode": "nvfp4"})", "quantization.mode",
          "\"nvfp4\"");
  expect (R"("quantization": {"group_size": 64, "bits": 4, "mode": "mxfp4"})", "quantization.group_size",
          "is 64");
}

// Oracle models: other shapes, and weights that are compared with transformers.
TEST_F (CheckpointTest, oracle_models_have_the_logits_of_what_they_mean)
{
  REQUIRE_ORACLES ("oracles");
  int quantized = 0;
  for (const OracleModel &model : oracle_models ()) {
    SCOPED_TRACE (model.name);
    const std::string type = model_type_of (model.folder / "config.json");
    if (model.name.ends_with ("_full"))
      continue; // the same text models
    const bool wide = type == "gpt_oss";
    convert (model.folder, wide ? kMxfp4 : kFp8, [&] (const SyntheticTensor &tensor) {
      return wide ? gpt_oss_blocks (tensor) : fp8_blocks (tensor);
    });
    const auto expected = logits_of (*open (plain (), WeightFormat::kF32));
    EXPECT_TRUE (same_bits (logits_of (*open (coded (), WeightFormat::kF32)), expected));
    if (!wide) {
      convert (model.folder,
               R"("quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128})",
               integer_converter ({.awq = true}));
      EXPECT_TRUE (same_bits (logits_of (*open (coded (), WeightFormat::kF32)),
                              logits_of (*open (plain (), WeightFormat::kF32))));
    }
    ++quantized;
  }
  EXPECT_GT (quantized, 0);
}

} // namespace
