// GGUF keys of architectures with windows: what layers see, and with which rotation.
#include "engine/model/gguf_own_keys.hpp"

#include "engine/error.hpp"
#include "engine/model/gguf_families.hpp"

#include <algorithm>
#include <cstring>

namespace millrace
{

namespace
{

constexpr const char *kPattern = "attention.sliding_window_pattern", *kWindow = "attention.sliding_window";
constexpr const char *kSliding = "sliding_attention";
constexpr int64_t kMaxHeads = 1 << 16;

/// Gemma's query_pre_attn_scalar, which files do not have: a model of so many layers scales scores by hidden size over heads,
/// others by the size of a head.
void
score_scale (GgufTranslation &translation, int layers_of_other_scale)
{
  const auto heads = static_cast<double> (translation.integer ("attention.head_count", 1, INT32_MAX));
  const auto hidden = static_cast<double> (translation.integer ("embedding_length", 1, INT32_MAX));
  const bool other = translation.integer ("block_count", 1, INT32_MAX) == layers_of_other_scale;
  const int64_t head_dim = translation.integer_or ("attention.key_length", 1, INT32_MAX, 256);
  translation.number ("query_pre_attn_scalar", other ? hidden / heads : static_cast<double> (head_dim),
                      "attention.key_length");
}

bool
slides (const GgufTranslation &translation)
{
  return translation.integer_or (kWindow, 0, INT32_MAX, 0) > 0;
}

/// Pairs of a head that turn in gemma4's layers of full attention: those whose frequency is not divided by 1e30.
int64_t
turning_pairs (const GgufTranslation &translation, int64_t pairs)
{
  const WeightFiles &weights = translation.weights ();
  const TensorView &factors = weights.require (kGgufFactors, {pairs});
  int64_t turning = 0;
  bool known = factors.dtype == DType::kF32;
  for (int64_t i = 0; known && i < pairs; ++i) {
    float factor = 0;
    std::memcpy (&factor, factors.data.data () + static_cast<size_t> (i) * sizeof factor, sizeof factor);
    turning += factor == 1;
    known = factor == 1 ? turning == i + 1 : factor >= 1e29f;
  }
  if (!known || turning == 0)
    throw LoadError (weights.file_of (kGgufFactors), kGgufFactors,
                     "holds something else than ones and then 1e30; fetch the file again");
  return turning;
}

} // namespace

void
gemma2_keys (GgufTranslation &translation)
{
  score_scale (translation, 46);
  translation.layer_types (kPattern, kSliding, 0);
}

void
gemma3_keys (GgufTranslation &translation)
{
  score_scale (translation, 62);
  translation.layer_types (kPattern, kSliding, 0);
}

void
llama_keys (GgufTranslation &translation)
{
  if (!slides (translation))
    return;
  translation.text ("model_type", "mistral", kWindow);
  translation.copy ("sliding_window", kWindow);
  if (translation.has (kPattern))
    translation.layer_types (kPattern, kSliding, 0);
}

void
olmo2_keys (GgufTranslation &translation)
{
  if (!slides (translation))
    return;
  translation.text ("model_type", "olmo3", kWindow);
  translation.copy ("sliding_window", kWindow);
  translation.layer_types (kPattern, kSliding, 4);
  const GgufFields &fields = translation.fields ();
  const std::string base = translation.key ("rope.freq_base"),
                    sliding = translation.key ("rope.freq_base_swa");
  if (fields.has (sliding) && fields.number (sliding, 1, 1e15) != fields.number (base, 1, 1e15))
    fields.fail (sliding, "is another base than " + base + ", which is not supported; use another model");
}

void
gemma4_keys (GgufTranslation &translation)
{
  const int layers = translation.layers ();
  const std::vector<int> sliding = translation.per_layer (kPattern, 1);
  const std::vector<int> kv_heads = translation.per_layer ("attention.head_count_kv", kMaxHeads);
  const std::vector<int> widths = translation.per_layer ("feed_forward_length", INT32_MAX);
  const int64_t full_dim = translation.integer ("attention.key_length", 2, kMaxHeads);
  const auto first = [&] (int kind) {
    const auto found = std::ranges::find (sliding, kind);
    return static_cast<size_t> (found == sliding.end () ? 0 : found - sliding.begin ());
  };

  translation.layer_types (kPattern, kSliding, 0);
  translation.copy ("head_dim", "attention.key_length_swa");
  translation.number ("num_key_value_heads", kv_heads[first (1)], "attention.head_count_kv");
  translation.object ("per_layer_config", [&] {
    for (int i = 0; i < layers; ++i) {
      if (sliding[static_cast<size_t> (i)])
        continue;
      translation.object (std::to_string (i).c_str (), [&] {
        translation.copy ("head_dim", "attention.key_length");
        translation.number ("num_key_value_heads", kv_heads[static_cast<size_t> (i)],
                            "attention.head_count_kv");
      });
    }
  });
  translation.flag ("attention_k_eq_v",
                    !translation.layer_holds (static_cast<int> (first (0)), "attn_v.weight"), kPattern);
  translation.copy ("num_kv_shared_layers", "attention.shared_kv_layers");
  translation.number ("intermediate_size", widths.front (), "feed_forward_length");
  translation.flag ("use_double_wide_mlp", widths.back () != widths.front (), "feed_forward_length");

  const int64_t input_width = translation.integer_or ("embedding_length_per_layer_input", 0, kMaxHeads, 0);
  translation.number ("hidden_size_per_layer_input", static_cast<double> (input_width),
                      "embedding_length_per_layer_input");
  constexpr const char *kInputs = "per_layer_token_embd.weight";
  const TensorView *inputs = translation.weights ().find (kInputs);
  if (input_width > 0 && inputs && inputs->shape.size () == 2)
    translation.member ("vocab_size_per_layer_input", std::to_string (inputs->shape[0]), kInputs);

  if (translation.integer_or ("expert_count", 0, INT32_MAX, 0) > 0) {
    translation.flag ("enable_moe_block", true, "expert_count");
    expert_counts (translation, "num_experts", "top_k_experts", "moe_intermediate_size");
  }
  const int64_t pairs = full_dim / 2;
  const auto turning = static_cast<double> (turning_pairs (translation, pairs));
  translation.object ("rope_parameters", [&] {
    translation.object ("full_attention", [&] {
      translation.text ("rope_type", "proportional", "rope.dimension_count");
      // Such that the whole part of half its product with the head's size is what turns.
      translation.number ("partial_rotary_factor", (2 * turning + 0.5) / static_cast<double> (full_dim),
                          "rope.dimension_count");
      translation.copy ("rope_theta", "rope.freq_base");
    });
    translation.object (kSliding, [&] {
      translation.text ("rope_type", "default", "rope.dimension_count");
      translation.copy ("rope_theta", "rope.freq_base_swa");
    });
  });
}

} // namespace millrace
