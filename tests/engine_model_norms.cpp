// labels: unit
//
// Checkpoints of hybrid models as published, as converted for MLX, and as converted in part: the same numbers where it is certain
// what the file holds, and an error that says why where it is not.
#include "engine/error.hpp"
#include "tests/model_runner.hpp"
#include "tests/random_checkpoint.hpp"
#include "tests/test_paths.hpp"

#include <gtest/gtest.h>

#include <functional>

namespace fs = std::filesystem;
using namespace millrace;
using namespace millrace::testing;

namespace
{

constexpr const char *kConfig =
    R"({"model_type": "qwen3_5_text", "vocab_size": 41, "hidden_size": 24, "num_hidden_layers": 4,
"num_attention_heads": 2, "head_dim": 16, "intermediate_size": 32, "max_position_embeddings": 64,
"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 6, "linear_value_head_dim": 9})";

using Change = std::function<void (SyntheticTensor &)>;

std::vector<SyntheticTensor>
tensors_of (const fs::path &folder)
{
  const WeightFiles files = WeightFiles::open (folder);
  std::vector<SyntheticTensor> tensors;
  for (const auto &[name, view] : files.tensors ()) {
    SyntheticTensor tensor{name, view.shape, DType::kF32, {}};
    for (const uint16_t half : tensor_values<uint16_t> (files, name))
      tensor.values.push_back (bf16_to_f32 (half));
    tensors.push_back (std::move (tensor));
  }
  return tensors;
}

/// The logits of some tokens, of a model whose tensors have been changed; the same random one each time.
std::vector<float>
logits_of (const Change &change, const std::string &config = kConfig)
{
  const TemporaryFolder original, changed;
  write_random_model (original.path (), config, 3);
  auto tensors = tensors_of (original.path ());
  for (SyntheticTensor &tensor : tensors)
    change (tensor);
  write_file (changed.path () / "config.json", config);
  write_safetensors (changed.path () / "model.safetensors", tensors);
  const auto model = load_runnable (changed.path (), WeightFormat::kAuto, {.threads = 1});
  SequenceRunner runner (model, 12, 12);
  runner.run (std::vector<TokenId>{3, 14, 15, 9, 26, 5, 35, 8, 9, 7, 9, 3}, 12);
  return runner.outputs ().logits;
}

bool
is_centred_norm (const std::string &name)
{
  return name.find ("norm") != std::string::npos && name.find ("linear_attn") == std::string::npos;
}

void
add_one (SyntheticTensor &tensor)
{
  for (float &value : tensor.values)
    value += is_centred_norm (tensor.name) ? 1 : 0;
}

void
swap_axes (SyntheticTensor &tensor)
{
  if (tensor.name.ends_with ("conv1d.weight"))
    std::swap (tensor.shape[1], tensor.shape[2]);
}

void
as_published (SyntheticTensor &)
{
}

void
expect_error (const Change &change, const std::string &name, const std::string &reason)
{
  try {
    logits_of (change);
    ADD_FAILURE () << "no LoadError";
  } catch (const LoadError &error) {
    EXPECT_NE (error.field.find (name), std::string::npos) << error.what ();
    EXPECT_NE (std::string (error.what ()).find (reason), std::string::npos) << error.what ();
  }
}

TEST (Norms, converted_checkpoints_give_the_same_numbers)
{
  const auto expected = logits_of (as_published);
  EXPECT_TRUE (same_bits (logits_of ([] (SyntheticTensor &tensor) {
                            add_one (tensor);
                            swap_axes (tensor);
                          }),
                          expected));
  EXPECT_TRUE (same_bits (logits_of (swap_axes), expected)) << "norms are certain: not converted";
  for (const auto shift : {0.5f, 2.5f}) { // neither around 0 nor around 1: as the axes say
    const auto shifted = [&] (SyntheticTensor &tensor) {
      for (float &value : tensor.values)
        value = is_centred_norm (tensor.name) ? std::abs (value) / 4 + shift : value;
    };
    EXPECT_TRUE (same_bits (logits_of (shifted), logits_of ([&] (SyntheticTensor &tensor) {
                              shifted (tensor);
                              add_one (tensor);
                              swap_axes (tensor);
                            })));
  }
}

TEST (Norms, what_is_not_certain_is_refused)
{
  expect_error (add_one, "norm.weight", "around 1");
  expect_error (
      [] (SyntheticTensor &tensor) {
        if (tensor.name.find ("layers.1.") != std::string::npos)
          swap_axes (tensor);
      },
      "conv1d.weight", "another order");
  expect_error (
      [] (SyntheticTensor &tensor) {
        if (tensor.name.ends_with ("conv1d.weight"))
          tensor.shape = {tensor.shape[2], 1, tensor.shape[0]};
      },
      "conv1d.weight", "axes");
}

TEST (Norms, a_wrapper_may_have_its_tensors_by_other_names)
{
  const std::string text = kConfig;
  const std::string wrapper = R"({"model_type": "qwen3_5", "text_config": )" + text + "}";
  const auto expected = logits_of (as_published, wrapper);
  EXPECT_TRUE (same_bits (logits_of (
                              [] (SyntheticTensor &tensor) {
                                const std::string prefix = "model.language_model.";
                                tensor.name =
                                    "language_model." + (tensor.name.starts_with (prefix)
                                                             ? "model." + tensor.name.substr (prefix.size ())
                                                             : tensor.name);
                              },
                              wrapper),
                          expected));
}

} // namespace
