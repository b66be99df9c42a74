// labels: unit
// timeout: 300
//
// Checkpoints with experts and latent attention's matrices in the layouts of other tools: the same numbers under other names and in
// another order have the same logits, bit by bit; and quantized by MLX, those of what the codes mean.
#include "tests/affine_models.hpp"
#include "tests/checkpoint_models.hpp"
#include "tests/coded_checkpoints.hpp"

#include <regex>

namespace fs = std::filesystem;
using namespace millrace;
using namespace millrace::testing;
using cpu::AffineFormat;

namespace
{

/// Experts' tensors put together by `name` (expert number taken out): name → stack.
Tensors
stacked_experts (Tensors &tensors,
                 const std::function<std::string (const std::string &prefix, const std::string &kind)> &name)
{
  static const std::regex kExpert ("(.*\\.)experts\\.([0-9]+)\\.(gate|up|down)_proj\\.weight");
  std::map<std::string, std::map<int, const SyntheticTensor *>> experts;
  for (const auto &[own, tensor] : tensors) {
    std::smatch match;
    if (std::regex_match (own, match, kExpert))
      experts[name (match[1], match[3])][std::stoi (match[2])] = &tensor;
  }
  Tensors stacks;
  for (const auto &[own, members] : experts) {
    SyntheticTensor stack{own, members.begin ()->second->shape, DType::kF32, {}};
    stack.shape.insert (stack.shape.begin (), static_cast<int64_t> (members.size ()));
    for (const auto &[index, tensor] : members)
      stack.values.insert (stack.values.end (), tensor->values.begin (), tensor->values.end ());
    stacks.emplace (own, std::move (stack));
  }
  std::erase_if (tensors, [&] (const auto &entry) { return std::regex_match (entry.first, kExpert); });
  return stacks;
}

class LayoutTest : public CheckpointTest
{
protected:
  /// Writes the tensors to coded () and expects the logits of original (), bit by bit.
  void expect_same (const Tensors &tensors)
  {
    std::vector<SyntheticTensor> list;
    for (const auto &[name, tensor] : tensors)
      list.push_back (tensor);
    write_safetensors (coded () / "model.safetensors", list);
    write_file (coded () / "config.json", text_of (original () / "config.json"));
    const auto model = open (coded (), WeightFormat::kF32);
    EXPECT_EQ (model->load_warning (), "");
    EXPECT_TRUE (same_bits (logits_of (*model), logits_of (*open (original (), WeightFormat::kF32))));
  }
};

constexpr const char *kFamiliesOfExperts[] = {"qwen3_moe",          "deepseek_v2",      "deepseek_v3",
                                              "glm4_moe",           "qwen3_5_moe_text", "qwen3_next, experts",
                                              "nemotron_h, experts"};

TEST_F (LayoutTest, experts_of_mlx)
{
  for (const std::string family : kFamiliesOfExperts) {
    SCOPED_TRACE (family);
    write_original (family_config (family));
    Tensors tensors = read_tensors (original ());
    const size_t before = tensors.size ();
    const bool two = family.starts_with ("nemotron_h");
    tensors.merge (stacked_experts (tensors, [&] (const std::string &prefix, const std::string &kind) {
      return prefix + "switch_mlp." + (!two ? kind + "_proj" : kind == "up" ? "fc1" : "fc2") + ".weight";
    }));
    ASSERT_LT (tensors.size (), before);
    expect_same (tensors);
  }
}

TEST_F (LayoutTest, experts_of_transformers)
{
  for (const std::string family : kFamiliesOfExperts) {
    if (family.starts_with ("nemotron_h"))
      continue; // has no gates
    SCOPED_TRACE (family);
    write_original (family_config (family));
    Tensors tensors = read_tensors (original ());
    Tensors stacks = stacked_experts (tensors, [&] (const std::string &prefix, const std::string &kind) {
      return prefix + "experts." + kind + "_proj";
    });
    for (auto &[name, stack] : stacks) {
      if (name.ends_with ("down_proj"))
        tensors.emplace (name, stack);
      if (!name.ends_with ("gate_proj"))
        continue;
      const std::string prefix = name.substr (0, name.size () - std::string ("gate_proj").size ());
      const SyntheticTensor &up = stacks.at (prefix + "up_proj");
      SyntheticTensor both{prefix + "gate_up_proj", stack.shape, DType::kF32, {}};
      both.shape[1] *= 2;
      const auto each = stack.shape[1] * stack.shape[2];
      for (int64_t i = 0; i < stack.shape[0]; ++i)
        for (const SyntheticTensor *part : {&std::as_const (stack), &up})
          both.values.insert (both.values.end (), part->values.begin () + i * each,
                              part->values.begin () + (i + 1) * each);
      tensors.emplace (both.name, both);
    }
    expect_same (tensors);
  }
}

/// Every second output from `first` on of matrices [.., outputs, inputs], or elements of vectors.
SyntheticTensor
taking_turns (const SyntheticTensor &tensor, const std::string &name, int64_t first)
{
  SyntheticTensor result{name, tensor.shape, DType::kF32, {}};
  const bool matrix = tensor.shape.size () == 3;
  result.shape[1] /= 2;
  const int64_t width = matrix ? tensor.shape[2] : 1;
  const auto rows = static_cast<int64_t> (tensor.values.size ()) / width;
  for (int64_t row = first; row < rows; row += 2)
    result.values.insert (result.values.end (), tensor.values.begin () + row * width,
                          tensor.values.begin () + (row + 1) * width);
  return result;
}

Tensors
gpt_oss_of_mlx (Tensors tensors)
{
  Tensors result;
  for (auto &[name, tensor] : tensors) {
    const std::string prefix = name.substr (0, name.rfind ('.') + 1);
    const auto add = [&] (SyntheticTensor own) { result.emplace (own.name, std::move (own)); };
    if (name.ends_with ("experts.gate_up_proj") || name.ends_with ("experts.gate_up_proj_bias")) {
      const bool matrix = tensor.shape.size () == 3;
      const SyntheticTensor rows = matrix ? transposed (tensor) : tensor;
      add (taking_turns (rows, prefix + (matrix ? "gate_proj.weight" : "gate_proj.bias"), 0));
      add (taking_turns (rows, prefix + (matrix ? "up_proj.weight" : "up_proj.bias"), 1));
    } else if (name.ends_with ("experts.down_proj") || name.ends_with ("experts.down_proj_bias")) {
      const bool matrix = tensor.shape.size () == 3;
      SyntheticTensor own = matrix ? transposed (tensor) : tensor;
      own.name = prefix + (matrix ? "down_proj.weight" : "down_proj.bias");
      add (std::move (own));
    } else {
      add (tensor);
    }
  }
  return result;
}

TEST_F (LayoutTest, experts_of_gpt_oss_and_gemma4_of_mlx)
{
  write_original (family_config ("gpt_oss"));
  expect_same (gpt_oss_of_mlx (read_tensors (original ())));

  write_original (family_config ("gemma4_text, experts"));
  Tensors tensors;
  for (auto &[name, tensor] : read_tensors (original ())) {
    const std::string prefix = name.substr (0, name.rfind ('.') + 1) + "switch_glu.";
    if (name.ends_with ("experts.down_proj")) {
      tensor.name = prefix + "down_proj.weight";
    } else if (name.ends_with ("experts.gate_up_proj")) {
      SyntheticTensor gate{prefix + "gate_proj.weight", tensor.shape, DType::kF32, {}};
      gate.shape[1] /= 2;
      SyntheticTensor up = gate;
      up.name = prefix + "up_proj.weight";
      const auto each = gate.shape[1] * gate.shape[2];
      for (int64_t i = 0; i < 2 * gate.shape[0]; ++i)
        (i % 2 == 0 ? gate : up)
            .values.insert ((i % 2 == 0 ? gate : up).values.end (), tensor.values.begin () + i * each,
                            tensor.values.begin () + (i + 1) * each);
      tensors.emplace (gate.name, gate);
      tensors.emplace (up.name, up);
      continue;
    }
    tensors.emplace (tensor.name, tensor);
  }
  expect_same (tensors);
}

/// kv_b's K transposed, and its V, each a stack of all heads'.
Tensors
latent_of_mlx (Tensors tensors, const ArchitectureSpec &spec)
{
  Tensors result;
  const auto &latent = std::get<LatentAttentionSpec> (spec.layers.front ().mixer);
  const int64_t rank = latent.kv_rank, rows = latent.plain + latent.value_dim;
  for (auto &[name, tensor] : tensors) {
    const size_t at = name.find ("kv_b_proj.weight");
    if (at == std::string::npos) {
      result.emplace (name, tensor);
      continue;
    }
    SyntheticTensor keys{
        name.substr (0, at) + "embed_q.weight", {latent.heads, rank, latent.plain}, DType::kF32, {}},
        values{name.substr (0, at) + "unembed_out.weight",
               {latent.heads, latent.value_dim, rank},
               DType::kF32,
               {}};
    const auto element = [&] (int64_t head, int64_t row, int64_t column) {
      return tensor.values[static_cast<size_t> ((head * rows + row) * rank + column)];
    };
    for (int64_t head = 0; head < latent.heads; ++head) {
      for (int64_t i = 0; i < rank; ++i)
        for (int64_t j = 0; j < latent.plain; ++j)
          keys.values.push_back (element (head, j, i));
      for (int64_t i = 0; i < latent.value_dim; ++i)
        for (int64_t j = 0; j < rank; ++j)
          values.values.push_back (element (head, latent.plain + i, j));
    }
    result.emplace (keys.name, keys);
    result.emplace (values.name, values);
  }
  return result;
}

TEST_F (LayoutTest, latent_attention_of_mlx)
{
  for (const char *family : {"deepseek_v3", "glm4_moe_lite"}) {
    write_original (family_config (family));
    expect_same (latent_of_mlx (read_tensors (original ()), load_architecture (original () / "config.json")));
  }
}

/// MLX's tensors of matrices, and of stacks of them.
Converter
affine_converter (const AffineFormat &format)
{
  return [=] (const SyntheticTensor &tensor) -> std::optional<Replacement> {
    const size_t dimensions = tensor.shape.size ();
    const bool stack = dimensions == 3 && tensor.name.ends_with (".weight") &&
                       tensor.name.find ("conv") == std::string::npos;
    if ((!is_quantized_matrix (tensor) && !stack) || tensor.shape.back () % format.group != 0)
      return std::nullopt;
    SyntheticTensor flat = tensor;
    flat.shape = {static_cast<int64_t> (tensor.values.size ()) / tensor.shape.back (), tensor.shape.back ()};
    auto parts = affine_tensors (flat, format);
    for (RawTensor &part : parts) {
      std::vector<int64_t> shape (tensor.shape.begin (), tensor.shape.end () - 1);
      shape.push_back (part.shape.back ());
      part.shape = std::move (shape);
    }
    return Replacement{std::move (parts), std::move (flat.values)};
  };
}

TEST_F (LayoutTest, quantized_models_of_mlx)
{
  const auto write = [&] (const Tensors &tensors) {
    std::vector<SyntheticTensor> list;
    for (const auto &[name, tensor] : tensors)
      list.push_back (tensor);
    write_safetensors (original () / "model.safetensors", list);
  };
  const auto stack = [] (Tensors tensors) {
    tensors.merge (stacked_experts (tensors, [] (const std::string &prefix, const std::string &kind) {
      return prefix + "switch_mlp." + kind + "_proj.weight";
    }));
    return tensors;
  };
  write_original (wide_family_config ("deepseek_v3"));
  write (latent_of_mlx (stack (read_tensors (original ())), load_architecture (original () / "config.json")));
  convert (original (), R"("quantization": {"group_size": 32, "bits": 4})",
           affine_converter ({4, 32, cpu::ScaleType::kBF16}));
  expect_meant (0.15, {"affine4/32 bf16"});

  // The keys of kv_b are needed transposed, and kept as floats.
  write_original (wide_family_config ("deepseek_v2"));
  write (stack (read_tensors (original ())));
  convert (original (), R"("quantization": {"group_size": 64, "bits": 6})",
           affine_converter ({6, 64, cpu::ScaleType::kF16}));
  expect_meant (0.15, {"affine6/64 f16", "f32"});

  write_original (wide_family_config ("gpt_oss"));
  write (gpt_oss_of_mlx (read_tensors (original ())));
  convert (original (), R"("quantization": {"group_size": 32, "bits": 4, "mode": "mxfp4"})",
           [] (const SyntheticTensor &tensor) -> std::optional<Replacement> {
             if (tensor.name.find ("experts.") == std::string::npos || tensor.shape.size () != 3)
               return std::nullopt;
             auto words = tensor.shape, scales = tensor.shape;
             words.back () /= 8;
             scales.back () /= 32;
             auto parts = mxfp4_tensors ({tensor.name, "U32", words, ""},
                                         {module_of (tensor) + ".scales", "U8", scales, ""}, tensor.values);
             return Replacement{std::move (parts.tensors), std::move (parts.values)};
           });
  expect_meant (0.1, {"mxfp4"});
}

} // namespace
