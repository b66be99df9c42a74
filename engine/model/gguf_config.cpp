// Metadata of a GGUF file → ArchitectureSpec.
#include "engine/model/gguf_config.hpp"

#include "engine/error.hpp"
#include "engine/json_text.hpp"
#include "engine/model/families/decoder_fields.hpp"
#include "engine/model/families/families.hpp"
#include "engine/model/json_fields.hpp"
#include "engine/weights/gguf_fields.hpp"
#include "engine/weights/weight_files.hpp"

#include <array>
#include <cmath>
#include <cstdio>
#include <cstring>

namespace millrace
{

namespace
{

constexpr const char *kArchitectureKey = "general.architecture";
constexpr const char *kEmbedding = "token_embd.weight";
constexpr const char *kHead = "output.weight";
constexpr const char *kRopeFactors = "rope_freqs.weight";
constexpr double kMaxRopeFactor = 1e6;
constexpr const char *kShortFactors = "rope_factors_short.weight", *kLongFactors = "rope_factors_long.weight";

struct Renamed {
  const char *name; ///< in config.json
  const char *key;  ///< in the metadata, after the architecture and a dot
};

constexpr std::array<Renamed, 9> kRenamed{{{"hidden_size", "embedding_length"},
                                           {"max_position_embeddings", "context_length"},
                                           {"num_hidden_layers", "block_count"},
                                           {"intermediate_size", "feed_forward_length"},
                                           {"num_attention_heads", "attention.head_count"},
                                           {"num_key_value_heads", "attention.head_count_kv"},
                                           {"head_dim", "attention.key_length"},
                                           {"rms_norm_eps", "attention.layer_norm_rms_epsilon"},
                                           {"rope_theta", "rope.freq_base"}}};

constexpr std::array<Renamed, 4> kRenamedScaling{
    {{"factor", "rope.scaling.factor"},
     {"original_max_position_embeddings", "rope.scaling.original_context_length"},
     {"beta_fast", "rope.scaling.yarn_beta_fast"},
     {"beta_slow", "rope.scaling.yarn_beta_slow"}}};

/// What an architecture's files are like beside the common part.
struct GgufFamily {
  std::string_view architecture;
  std::string_view model_type;
  bool paired = false;  ///< WeightRef::paired: converters write q and k for a rotation of neighbours
  bool windows = false; ///< may have attention.sliding_window
  bool partial = false; ///< may rotate a part of each head
  bool experts = false; ///< has some, whose weights are divided by their sum: files do not say it
  int layers_of_other_scale =
      0; ///< gemma: a model of so many layers scales scores by hidden size over heads, not by head size
  std::array<Renamed, 4> renamed = {};
};

// clang-format off: an architecture is an entry
constexpr std::array kFamilies{
    GgufFamily{.architecture = "gemma2",
               .model_type = "gemma2",
               .windows = true,
               .layers_of_other_scale = 46,
               .renamed = {{{"sliding_window", "attention.sliding_window"},
                            {"attn_logit_softcapping", "attn_logit_softcapping"},
                            {"final_logit_softcapping", "final_logit_softcapping"}}}},
    GgufFamily{.architecture = "gemma3",
               .model_type = "gemma3_text",
               .windows = true,
               .layers_of_other_scale = 62,
               .renamed = {{{"sliding_window", "attention.sliding_window"},
                            {"rope_local_base_freq", "rope.freq_base_swa"},
                            {"final_logit_softcapping", "final_logit_softcapping"}}}},
    GgufFamily{.architecture = "granite",
               .model_type = "granite",
               .paired = true,
               .renamed = {{{"embedding_multiplier", "embedding_scale"},
                            {"residual_multiplier", "residual_scale"},
                            {"attention_multiplier", "attention.scale"},
                            {"logits_scaling", "logit_scale"}}}},
    GgufFamily{.architecture = "llama", .model_type = "llama", .paired = true},
    GgufFamily{.architecture = "olmo2", .model_type = "olmo2"},
    GgufFamily{.architecture = "phi3",
               .model_type = "phi3",
               .windows = true,
               .partial = true,
               .renamed = {{{"sliding_window", "attention.sliding_window"}}}},
    GgufFamily{.architecture = "qwen2", .model_type = "qwen2"},
    GgufFamily{.architecture = "qwen3", .model_type = "qwen3"},
    GgufFamily{.architecture = "qwen3moe",
               .model_type = "qwen3_moe",
               .experts = true,
               .renamed = {{{"num_experts", "expert_count"},
                            {"num_experts_per_tok", "expert_used_count"},
                            {"moe_intermediate_size", "expert_feed_forward_length"}}}},
    GgufFamily{.architecture = "smollm3", .model_type = "smollm3", .paired = true},
};
// clang-format on

/// One architecture's metadata, written as a config.json.
class Translation
{
public:
  Translation (const GgufFields &fields, const WeightFiles &weights)
      : fields_ (fields)
      , weights_ (weights)
      , architecture_ (fields.text (kArchitectureKey))
  {
  }

  ArchitectureSpec spec ()
  {
    check_architecture ();
    refuse_unsupported ();
    text_member ("model_type", std::string (family ().model_type), kArchitectureKey);
    vocabulary ();
    for (const auto &[name, key] : kRenamed)
      copy (name, key);
    for (const auto &[name, key] : family ().renamed)
      if (name)
        copy (name, key);
    if (family ().experts)
      json_ += ",\"norm_topk_prob\":true";
    score_scale ();
    rotated_part ();
    fields_.number (key ("attention.layer_norm_rms_epsilon"), 0,
                    1); // config.json has a default, GGUF has none
    json_ += std::string (",\"tie_word_embeddings\":") + (weights_.contains (kHead) ? "false" : "true");
    scaling ();
    simdjson::dom::parser parser;
    simdjson::dom::object config;
    const std::string text = "{" + json_.substr (1) + "}";
    if (parser.parse (text).get (config))
      fields_.fail (kArchitectureKey, "its metadata hold text that is not Unicode; fetch the file again");
    return load_family (JsonFields (fields_.file (), "", config, &names_));
  }

  std::string key (const char *name) const { return architecture_ + "." + name; }
  const GgufFamily &family () const { return *family_; }

private:
  /// Before anything else is asked of the file: other architectures have other keys.
  void check_architecture ()
  {
    std::string supported;
    for (const GgufFamily &family : kFamilies) {
      if (family.architecture == architecture_)
        family_ = &family;
      supported += (supported.empty () ? "" : ", ") + std::string (family.architecture);
    }
    if (!family_)
      fields_.fail (kArchitectureKey,
                    "\"" + printable (architecture_) + "\" is not supported; supported are " + supported);
  }

  /// Gemma's query_pre_attn_scalar, which files do not have.
  void score_scale ()
  {
    if (family ().layers_of_other_scale == 0)
      return;
    const int64_t heads = fields_.integer (key ("attention.head_count"), 1, INT32_MAX);
    const int64_t hidden = fields_.integer (key ("embedding_length"), 1, INT32_MAX);
    const bool other = fields_.integer (key ("block_count"), 1, INT32_MAX) == family ().layers_of_other_scale;
    const int64_t head_dim = fields_.integer_or (key ("attention.key_length"), 1, INT32_MAX, 256);
    member ("query_pre_attn_scalar",
            number (other ? static_cast<double> (hidden) / static_cast<double> (heads)
                          : static_cast<double> (head_dim)),
            key ("attention.key_length"));
  }

  void rotated_part ()
  {
    const std::string name = key ("rope.dimension_count");
    if (!family ().partial || !fields_.has (name))
      return;
    const int64_t heads = fields_.integer (key ("attention.head_count"), 1, INT32_MAX);
    const int64_t hidden = fields_.integer (key ("embedding_length"), 1, INT32_MAX);
    const int64_t head_dim = fields_.integer_or (key ("attention.key_length"), 1, INT32_MAX, hidden / heads);
    const int64_t rotated = fields_.integer (name, 1, std::max<int64_t> (1, head_dim));
    if (rotated < head_dim) // such that the whole part of the product is `rotated`
      member ("partial_rotary_factor",
              number ((static_cast<double> (rotated) + 0.5) / static_cast<double> (head_dim)), name);
  }

  void refuse_unsupported () const
  {
    const auto refuse = [&] (const char *name, const char *what) {
      if (fields_.integer_or (key (name), 0, INT64_MAX, 0) != 0)
        fields_.fail (key (name), std::string ("is ") + GgufFields::shown (*fields_.find (key (name))) +
                                      ": " + what + " not supported; use a dense model with full attention");
    };
    if (!family ().experts)
      refuse ("expert_count", "mixtures of experts are");
    if (!family ().windows)
      refuse ("attention.sliding_window", "sliding-window attention is");
    if (!fields_.boolean_or (key ("attention.causal"), true))
      fields_.fail (key ("attention.causal"),
                    "is false: models that do not generate are not supported; use another model");
    if (fields_.number_or (key ("rope.scaling.yarn_log_multiplier"), -kMaxRopeFactor, kMaxRopeFactor, 0) != 0)
      fields_.fail (key ("rope.scaling.yarn_log_multiplier"), "is not supported; use a model without it");
  }

  /// The embedding has a row for each token. vocab_size is not looked at: many files have none, some a stale one.
  void vocabulary ()
  {
    const TensorView *embedding = weights_.find (kEmbedding);
    const int64_t rows = embedding && embedding->shape.size () == 2 ? embedding->shape[0] : 0;
    if (rows == 0)
      throw LoadError (weights_.file_of (kEmbedding), kEmbedding,
                       embedding ? "has shape " + to_string (embedding->shape) +
                                       ", expected a matrix; fetch the file again"
                       : weights_.contains (kEmbedding)
                           ? "is of a type that is not supported; use a file of F32, F16, BF16, Q8_0, Q4_0 "
                             "and Q2_K to Q6_K tensors (Q4_K_M files have only such)"
                           : "is missing; the file holds no model (perhaps a vocabulary only)");
    member ("vocab_size", std::to_string (rows), kEmbedding);
  }

  void scaling ()
  {
    const std::string type_key = key ("rope.scaling.type");
    // As its reference does: a factor alone means linear, and no factor at all means none.
    std::string type (fields_.text_or (type_key, "linear"));
    if (type == "longrope" && weights_.contains (kLongFactors)) // said by that tensor
      type = "none";
    if (type != "none" && type != "linear" && type != "yarn")
      fields_.fail (type_key,
                    "\"" + printable (type) + "\" is not supported; supported are none, linear and yarn");
    if (type == "none" ||
        (type == "linear" && fields_.number_or (key ("rope.scaling.factor"), 0, kMaxRopeFactor, 0) == 0))
      return;
    std::string outer = std::move (json_);
    json_.clear ();
    prefix_ = "rope_parameters.";
    text_member ("rope_type", type, type_key);
    for (const auto &[name, key] : kRenamedScaling)
      copy (name, key);
    if (type == "yarn" && fields_.has (key ("rope.scaling.attn_factor"))) {
      // On top of what the length of the context demands, which config.json's attention_factor includes.
      const double factor = fields_.number (key ("rope.scaling.factor"), 1, kMaxRopeFactor);
      const double attention = fields_.number (key ("rope.scaling.attn_factor"), 1e-3, 100);
      member ("attention_factor", number ((0.1 * std::log (factor) + 1) * attention),
              key ("rope.scaling.attn_factor"));
    }
    json_ = std::move (outer) + ",\"rope_parameters\":{" + json_.substr (1) + "}";
    prefix_.clear ();
  }

  static std::string number (double value)
  {
    char text[32];
    std::snprintf (text, sizeof text, "%.17g", value);
    return text;
  }

  /// The value as JSON. Of an array only that it is one matters, as nothing is read from it.
  std::string json_of (const std::string &key, const GgufValue &value) const
  {
    int64_t integer = 0;
    double real = 0;
    std::string text;
    if (value.type == GgufType::kArray)
      return "[]";
    if (value.type == GgufType::kString)
      append_json_string (text, printable (value.text));
    else if (value.type == GgufType::kBool)
      text = GgufFields::shown (value);
    else if (gguf_integer (value.type, value.bytes, integer))
      text = std::to_string (integer);
    else if (gguf_number (value.type, value.bytes, real) && std::isfinite (real))
      text = number (real);
    else
      fields_.fail (key,
                    "is " + GgufFields::shown (value) + ", expected a finite number; fetch the file again");
    return text;
  }

  void copy (const char *name, const char *key_name)
  {
    const std::string full = key (key_name);
    names_.emplace (prefix_ + name, full);
    if (const GgufValue *value = fields_.find (full))
      member (name, json_of (full, *value), full);
  }

  void text_member (const char *name, const std::string &text, const std::string &key)
  {
    std::string json;
    append_json_string (json, printable (text));
    member (name, json, key);
  }

  void member (const char *name, const std::string &json, const std::string &key)
  {
    names_.emplace (prefix_ + name, key);
    json_ += std::string (",\"") + name + "\":" + json;
  }

  const GgufFields &fields_;
  const WeightFiles &weights_;
  std::string architecture_;
  const GgufFamily *family_ = nullptr;
  std::string json_;   ///< members, a comma before each
  std::string prefix_; ///< of names in a nested object
  FieldNames names_;
};

void
name_tensors (int layer, const WeightFiles &weights, LayerSpec &spec)
{
  const std::string prefix = "blk." + std::to_string (layer) + ".";
  const auto bias = [&] (const char *name) {
    const std::string tensor = prefix + name + ".bias";
    return weights.contains (tensor) ? tensor : std::string ();
  };
  const auto rename = [&] (std::string &tensor, const char *name) {
    if (!tensor.empty ())
      tensor = prefix + name;
  };
  rename (spec.mixer_norms.pre, "attn_norm.weight");
  rename (spec.mixer_norms.post, "post_attention_norm.weight");
  rename (spec.channel_norms.pre, "ffn_norm.weight");
  rename (spec.channel_norms.post, "post_ffw_norm.weight");
  AttentionTensors &attention = attention_of (spec).tensors;
  const bool fused = attention.q == attention.k;
  attention.q = prefix + (fused ? "attn_qkv.weight" : "attn_q.weight");
  attention.k = prefix + (fused ? "attn_qkv.weight" : "attn_k.weight");
  attention.v = prefix + (fused ? "attn_qkv.weight" : "attn_v.weight");
  attention.o = prefix + "attn_output.weight";
  attention.q_bias = bias (fused ? "attn_qkv" : "attn_q");
  attention.k_bias = bias (fused ? "attn_qkv" : "attn_k");
  attention.v_bias = bias (fused ? "attn_qkv" : "attn_v");
  attention.o_bias = bias ("attn_output");
  rename (attention.q_norm, "attn_q_norm.weight");
  rename (attention.k_norm, "attn_k_norm.weight");
  if (auto *moe = std::get_if<MoeSpec> (&spec.channel)) {
    moe->routing.router = prefix + "ffn_gate_inp.weight";
    moe->tensors.layout = ExpertTensors::Layout::kStacked;
    moe->tensors.gate = prefix + "ffn_gate_exps.weight";
    moe->tensors.up = prefix + "ffn_up_exps.weight";
    moe->tensors.down = prefix + "ffn_down_exps.weight";
    return;
  }
  MlpTensors &mlp = mlp_of (spec).tensors;
  mlp.gate = prefix + (mlp.gate == mlp.up ? "ffn_up.weight" : "ffn_gate.weight");
  mlp.up = prefix + "ffn_up.weight";
  mlp.down = prefix + "ffn_down.weight";
  mlp.gate_bias = bias ("ffn_gate");
  mlp.up_bias = bias ("ffn_up");
  mlp.down_bias = bias ("ffn_down");
}

/// Factors of a tensor, one for each pair of rotated elements; empty without that tensor.
std::vector<float>
rope_factors (const WeightFiles &weights, const char *name, int dimensions)
{
  std::vector<float> factors;
  if (!weights.contains (name))
    return factors;
  const TensorView &tensor = weights.require (name, {dimensions / 2});
  if (tensor.dtype != DType::kF32)
    throw LoadError (weights.file_of (name), name,
                     "is of type " + std::string (dtype_name (tensor.dtype)) +
                         ", expected F32; fetch the file again");
  factors.resize (static_cast<size_t> (dimensions / 2));
  std::memcpy (factors.data (), tensor.data.data (), tensor.data.size ());
  for (const float factor : factors)
    if (!(factor > 0 && factor <= kMaxRopeFactor))
      throw LoadError (weights.file_of (name), name,
                       "holds " + std::to_string (factor) +
                           ", expected factors above 0; fetch the file again");
  return factors;
}

/// LongRoPE is told by two tensors.
void
set_longrope (const GgufFields &fields, const Translation &translation, const WeightFiles &weights,
              int max_positions, RopeSpec &rope)
{
  rope.frequency_factors = rope_factors (weights, kShortFactors, rope.dimensions);
  rope.long_frequency_factors = rope_factors (weights, kLongFactors, rope.dimensions);
  if (rope.frequency_factors.empty ())
    throw LoadError (weights.file_of (kShortFactors), kShortFactors,
                     std::string ("is missing though there is ") + kLongFactors + "; fetch the file again");
  rope.scaling = RopeSpec::Scaling::kLongRope;
  rope.original_max_positions = static_cast<int> (fields.integer_or (
      translation.key ("rope.scaling.original_context_length"), 2, INT32_MAX, max_positions));
  rope.attention_factor = fields.number_or (translation.key ("rope.scaling.attn_factor"), 1e-3, 1000, 1);
}

void
check_head_sizes (const GgufFields &fields, const Translation &translation, int head_dim)
{
  for (const char *name : {"attention.value_length", "rope.dimension_count"}) {
    const std::string key = translation.key (name);
    if (translation.family ().partial && name == std::string_view ("rope.dimension_count"))
      continue;
    const int64_t value = fields.integer_or (key, 1, INT32_MAX, head_dim);
    if (value != head_dim)
      fields.fail (key, "is " + std::to_string (value) + " but keys have " + std::to_string (head_dim) +
                            " elements a head; other sizes are not supported, use another model");
  }
}

} // namespace

ArchitectureSpec
gguf_architecture (const GgufFields &fields, const WeightFiles &weights)
{
  Translation translation (fields, weights);
  ArchitectureSpec spec = translation.spec ();
  spec.embedding_tensor = kEmbedding;
  spec.final_norm_tensor = "output_norm.weight";
  spec.head_tensor = spec.tied_head ? kEmbedding : kHead;
  const int head_dim = attention_of (spec.layers.front ()).head_dim;
  check_head_sizes (fields, translation, head_dim);
  spec.norm_offset = 0; // converters have added it
  const std::vector<float> factors = rope_factors (weights, kRopeFactors, head_dim);
  const bool longrope = weights.contains (kLongFactors);
  for (size_t i = 0; i < spec.layers.size (); ++i) {
    name_tensors (static_cast<int> (i), weights, spec.layers[i]);
    AttentionSpec &attention = attention_of (spec.layers[i]);
    if (longrope)
      set_longrope (fields, translation, weights, spec.max_positions, attention.rope);
    else
      attention.rope.frequency_factors = factors;
    attention.paired_rows = translation.family ().paired;
  }
  return spec;
}

} // namespace millrace
