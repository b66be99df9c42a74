// The table of GGUF architectures, and what all of them have in common.
//
// Source of keys: GGUF specification, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
#include "engine/model/gguf_families.hpp"

#include "engine/error.hpp"
#include "engine/model/gguf_own_keys.hpp"
#include "engine/weights/tensor_entry.hpp"

#include <algorithm>
#include <cmath>

namespace millrace
{

namespace
{

constexpr const char *kEmbedding = "token_embd.weight";

constexpr std::array<GgufRenamed, 9> kRenamed{{{"hidden_size", "embedding_length"},
                                               {"max_position_embeddings", "context_length"},
                                               {"intermediate_size", "feed_forward_length"},
                                               {"num_attention_heads", "attention.head_count"},
                                               {"num_key_value_heads", "attention.head_count_kv"},
                                               {"head_dim", "attention.key_length"},
                                               {"rms_norm_eps", "attention.layer_norm_rms_epsilon"},
                                               {"rope_theta", "rope.freq_base"}}};

constexpr std::array<GgufRenamed, 4> kRenamedScaling{
    {{"factor", "rope.scaling.factor"},
     {"original_max_position_embeddings", "rope.scaling.original_context_length"},
     {"beta_fast", "rope.scaling.yarn_beta_fast"},
     {"beta_slow", "rope.scaling.yarn_beta_slow"}}};

constexpr const char *kYarnLog = "rope.scaling.yarn_log_multiplier";
constexpr GgufRenamed kWindow{"sliding_window", "attention.sliding_window"};

// clang-format off: an architecture is an entry
constexpr std::array kFamilies{
    GgufFamily{.architecture = "deepseek2",
               .model_type = "deepseek_v2", // or deepseek_v3
               .experts = true,
               .plain_heads = false,
               .yarn_log = true,
               .own = deepseek2_keys},
    GgufFamily{.architecture = "gemma2",
               .model_type = "gemma2",
               .windows = true,
               .renamed = {{kWindow,
                            {"attn_logit_softcapping", "attn_logit_softcapping"},
                            {"final_logit_softcapping", "final_logit_softcapping"}}},
               .own = gemma2_keys},
    GgufFamily{.architecture = "gemma3",
               .model_type = "gemma3_text",
               .windows = true,
               .renamed = {{kWindow,
                            {"rope_local_base_freq", "rope.freq_base_swa"},
                            {"final_logit_softcapping", "final_logit_softcapping"}}},
               .own = gemma3_keys},
    GgufFamily{.architecture = "gemma4",
               .model_type = "gemma4_text",
               .windows = true,
               .experts = true,
               .plain_heads = false,
               .renamed = {{kWindow, {"final_logit_softcapping", "final_logit_softcapping"}}},
               .own = gemma4_keys},
    GgufFamily{.architecture = "glm4moe",
               .model_type = "glm4_moe",
               .partial = true,
               .experts = true,
               .own = glm4moe_keys},
    GgufFamily{.architecture = "gpt-oss",
               .model_type = "gpt_oss",
               .windows = true,
               .experts = true,
               .yarn_truncates = false,
               .renamed = {{kWindow}},
               .own = gpt_oss_keys},
    GgufFamily{.architecture = "granite",
               .model_type = "granite",
               .paired = true,
               .renamed = {{{"embedding_multiplier", "embedding_scale"},
                            {"residual_multiplier", "residual_scale"},
                            {"attention_multiplier", "attention.scale"},
                            {"logits_scaling", "logit_scale"}}}},
    GgufFamily{.architecture = "llama",
               .model_type = "llama", // or mistral
               .paired = true,
               .windows = true,
               .own = llama_keys},
    GgufFamily{.architecture = "mistral3",
               .model_type = "llama",
               .paired = true,
               .windows = true,
               .own = llama_keys},
    GgufFamily{.architecture = "nemotron_h",
               .model_type = "nemotron_h",
               .plain_heads = false,
               .own = nemotron_h_keys},
    GgufFamily{.architecture = "nemotron_h_moe",
               .model_type = "nemotron_h",
               .experts = true,
               .plain_heads = false,
               .own = nemotron_h_keys},
    GgufFamily{.architecture = "olmo2",
               .model_type = "olmo2", // or olmo3
               .windows = true,
               .own = olmo2_keys},
    GgufFamily{.architecture = "phi3",
               .model_type = "phi3",
               .windows = true,
               .partial = true,
               .renamed = {{kWindow}}},
    GgufFamily{.architecture = "qwen2", .model_type = "qwen2"},
    GgufFamily{.architecture = "qwen3", .model_type = "qwen3"},
    GgufFamily{.architecture = "qwen35",
               .model_type = "qwen3_5_text",
               .partial = true,
               .turning_heads = true,
               .own = gated_delta_keys},
    GgufFamily{.architecture = "qwen35moe",
               .model_type = "qwen3_5_moe_text",
               .partial = true,
               .experts = true,
               .turning_heads = true,
               .own = gated_delta_keys},
    GgufFamily{.architecture = "qwen3moe", .model_type = "qwen3_moe", .experts = true, .own = qwen3moe_keys},
    GgufFamily{.architecture = "qwen3next",
               .model_type = "qwen3_next",
               .partial = true,
               .experts = true,
               .own = gated_delta_keys},
    GgufFamily{.architecture = "smollm3", .model_type = "smollm3", .paired = true},
};
// clang-format on

void
refuse_unsupported (const GgufFamily &family, const GgufTranslation &translation)
{
  const GgufFields &fields = translation.fields ();
  const auto refuse = [&] (const char *name, const char *what) {
    if (translation.integer_or (name, 0, INT64_MAX, 0) != 0)
      fields.fail (translation.key (name),
                   std::string ("is ") + GgufFields::shown (*fields.find (translation.key (name))) + ": " +
                       what + " not supported; use a dense model with full attention");
  };
  if (!family.experts)
    refuse ("expert_count", "mixtures of experts are");
  if (!family.windows)
    refuse ("attention.sliding_window", "sliding-window attention is");
  if (!fields.boolean_or (translation.key ("attention.causal"), true))
    fields.fail (translation.key ("attention.causal"),
                 "is false: models that do not generate are not supported; use another model");
  const std::string temperature = translation.key ("attention.temperature_scale");
  if (fields.number_or (temperature, -kMaxRopeFactor, kMaxRopeFactor, 0) != 0)
    fields.fail (temperature, "is not supported; use a model without it");
}

/// The embedding has a row for each token. vocab_size is not looked at: many files have none, some a stale one.
void
translate_vocabulary (GgufTranslation &translation)
{
  const WeightFiles &weights = translation.weights ();
  const TensorView *embedding = weights.find (kEmbedding);
  const int64_t rows = embedding && embedding->shape.size () == 2 ? embedding->shape[0] : 0;
  if (rows == 0)
    throw LoadError (weights.file_of (kEmbedding), kEmbedding,
                     embedding ? "has shape " + to_string (embedding->shape) +
                                     ", expected a matrix; fetch the file again"
                     : weights.contains (kEmbedding)
                         ? "is of a type that is not supported; use a file of F32, F16, BF16, Q8_0, Q4_0 "
                           "and Q2_K to Q6_K tensors (Q4_K_M files have only such)"
                         : "is missing; the file holds no model (perhaps a vocabulary only)");
  translation.member ("vocab_size", std::to_string (rows), kEmbedding);
}

void
translate_rotated_part (const GgufFamily &family, GgufTranslation &translation)
{
  constexpr const char *kRotated = "rope.dimension_count";
  if (!family.partial || !translation.has (kRotated))
    return;
  const int64_t heads = translation.integer ("attention.head_count", 1, INT32_MAX);
  const int64_t hidden = translation.integer ("embedding_length", 1, INT32_MAX);
  const int64_t head_dim = translation.integer_or ("attention.key_length", 1, INT32_MAX, hidden / heads);
  const int64_t rotated = translation.integer (kRotated, 1, std::max<int64_t> (1, head_dim));
  const auto whole = static_cast<double> (head_dim);
  // Such that the whole part of its product with the head's size is `rotated`.
  translation.number ("partial_rotary_factor",
                      rotated < head_dim ? (static_cast<double> (rotated) + 0.5) / whole : 1, kRotated);
}

/// What the file has multiplies what the length of the context demands; config.json's attention_factor is both.
void
translate_yarn (GgufTranslation &translation)
{
  constexpr const char *kFactor = "rope.scaling.factor", *kGiven = "rope.scaling.yarn_attn_factor",
                       *kMore = "rope.scaling.attn_factor";
  const GgufFields &fields = translation.fields ();
  // Ten times too small in files of deepseek2, which are the only ones that have it; mscale is then the same.
  if (translation.has (kYarnLog)) {
    const auto log = static_cast<float> (fields.number (translation.key (kYarnLog), 0, 100));
    for (const char *name : {"mscale", "mscale_all_dim"})
      translation.number (name, static_cast<double> (log / 0.1f), kYarnLog);
  }
  const double factor = fields.number (translation.key (kFactor), 1, kMaxRopeFactor);
  const double more = fields.number_or (translation.key (kMore), 1e-3, 100, 1);
  if (translation.has (kGiven))
    translation.number ("attention_factor", fields.number (translation.key (kGiven), 1e-3, 1000) * more,
                        kGiven);
  else if (translation.has (kMore))
    translation.number ("attention_factor", (0.1 * std::log (factor) + 1) * more, kMore);
}

void
translate_scaling (const GgufFamily &family, GgufTranslation &translation)
{
  constexpr const char *kType = "rope.scaling.type";
  const GgufFields &fields = translation.fields ();
  const std::string type_key = translation.key (kType);
  // As its reference does: a factor alone means linear, and no factor at all means none.
  std::string type (fields.text_or (type_key, "linear"));
  if (type == "longrope" && translation.weights ().contains (kGgufLongFactors)) // said by that tensor
    type = "none";
  if (type != "none" && type != "linear" && type != "yarn")
    fields.fail (type_key,
                 "\"" + printable (type) + "\" is not supported; supported are none, linear and yarn");
  if (!family.yarn_log &&
      fields.number_or (translation.key (kYarnLog), -kMaxRopeFactor, kMaxRopeFactor, 0) != 0)
    fields.fail (translation.key (kYarnLog), "is not supported; use a model without it");
  const std::string factor_key = translation.key ("rope.scaling.factor");
  if (type == "none" || (type == "linear" && fields.number_or (factor_key, 0, kMaxRopeFactor, 0) == 0))
    return;
  translation.object ("rope_parameters", [&] {
    translation.text ("rope_type", type, kType);
    for (const auto &[name, key] : kRenamedScaling)
      translation.copy (name, key);
    if (type != "yarn")
      return;
    translate_yarn (translation);
    if (!family.yarn_truncates)
      translation.flag ("truncate", false, kType);
  });
}

} // namespace

std::span<const GgufFamily>
gguf_families ()
{
  return kFamilies;
}

void
translate_gguf (const GgufFamily &family, GgufTranslation &translation)
{
  refuse_unsupported (family, translation);
  if (family.own)
    family.own (translation);
  translate_vocabulary (translation);
  translation.member ("model_type", "\"" + std::string (family.model_type) + "\"", kGgufArchitecture);
  translation.member ("num_hidden_layers", std::to_string (translation.layers ()),
                      translation.key ("block_count"));
  for (const auto &[name, key] : kRenamed)
    if (name)
      translation.copy (name, key);
  for (const auto &[name, key] : family.renamed)
    if (name)
      translation.copy (name, key);
  translate_rotated_part (family, translation);
  if (!translation.holds ("rms_norm_eps")) // config.json has a default, GGUF has none
    translation.fields ().number (translation.key ("attention.layer_norm_rms_epsilon"), 0, 1);
  translation.member ("tie_word_embeddings", translation.weights ().contains (kGgufHead) ? "false" : "true",
                      kGgufHead);
  translate_scaling (family, translation);
}

} // namespace millrace
