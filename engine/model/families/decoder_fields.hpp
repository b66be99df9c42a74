// What the config.json of decoder-only families have in common: sizes, kinds of layers, names of tensors.
//
// Private to engine/model. Bounds are far above what exists and keep every later product of sizes within
// 64 bits. Key names: transformers' PretrainedConfig; defaults are those of its config classes.
#pragma once

#include "engine/model/architecture_spec.hpp"
#include "engine/model/families/rope_fields.hpp"
#include "engine/model/json_fields.hpp"

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace millrace
{

/// How a family's layers differ from the plain llama layer.
struct DecoderTraits {
  enum class Norms : uint8_t {
    kPre,  ///< before each mixer
    kPost, ///< after it (olmo2)
    kBoth, ///< gemma2
  };
  Norms norms = Norms::kPre;
  std::optional<QkNorm> qk_norm = std::nullopt;
  bool qkv_bias = false;
  bool output_bias = false;
  bool mlp_bias = false;
  bool fused = false;           ///< q, k and v are one tensor, gate and up another (phi3)
  bool tied_by_default = false; ///< the head, where the file does not say
  bool own_attention = false;   ///< the family sets the layers' mixers itself
  bool kinds_of_layers = false; ///< the family reads layer_types; else all must be full attention
  const char *intermediate_key = "intermediate_size";
  const char *activation_key = "hidden_act";
  const char *default_activation = "silu";
  std::string prefix = "model."; ///< of tensors' names
  int layers = 0;                ///< 0: num_hidden_layers
  RopeKind rope = {};
};

/// The spec of a model whose layers are all alike, for the family to go on with: attention and gated MLP.
ArchitectureSpec decoder_spec (const JsonFields &config, const DecoderTraits &traits);

/// Of a layer that has one.
AttentionSpec &attention_of (LayerSpec &layer);
MlpSpec &mlp_of (LayerSpec &layer);

/// Of each layer whether it sees a window only: what layer_types says, or what `by_default` does where that is absent.
/// Throws LoadError when layer_types has another length than the model or names a kind that is neither full_attention
/// nor sliding_attention.
std::vector<bool> sliding_layers (const JsonFields &config, size_t layers,
                                  const std::function<bool (int)> &by_default);

/// The same for any kind beside full_attention.
std::vector<bool> layers_of_kind (const JsonFields &config, size_t layers, std::string_view kind,
                                  const std::function<bool (int)> &by_default);

/// sliding_window of the layers that slide, which must be there then; windows that hold all positions are none.
void set_windows (const JsonFields &config, const std::vector<bool> &sliding, ArchitectureSpec &spec);

/// As qwen2 and its like do: layers from max_window_layers on, or those that layer_types names, and only when
/// use_sliding_window is true.
void set_optional_windows (const JsonFields &config, ArchitectureSpec &spec);

/// A cap that is absent where the field is null, and `fallback` where there is none.
double softcap_or (const JsonFields &config, const char *name, double fallback);

/// Throws LoadError when the layers are not all of full attention.
void require_full_attention (const JsonFields &config, size_t layers);

} // namespace millrace
