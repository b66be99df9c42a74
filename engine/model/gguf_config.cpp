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
constexpr std::array<std::string_view, 2> kArchitectures{"llama", "qwen3"};

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
    text_member ("model_type", architecture_, kArchitectureKey);
    vocabulary ();
    for (const auto &[name, key] : kRenamed)
      copy (name, key);
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

private:
  /// Before anything else is asked of the file: other architectures have other keys.
  void check_architecture () const
  {
    std::string supported;
    for (const std::string_view name : kArchitectures) {
      if (name == architecture_)
        return;
      supported += (supported.empty () ? "" : ", ") + std::string (name);
    }
    fields_.fail (kArchitectureKey,
                  "\"" + printable (architecture_) + "\" is not supported; supported are " + supported);
  }

  void refuse_unsupported () const
  {
    const auto refuse = [&] (const char *name, const char *what) {
      if (fields_.integer_or (key (name), 0, INT64_MAX, 0) != 0)
        fields_.fail (key (name), std::string ("is ") + GgufFields::shown (*fields_.find (key (name))) +
                                      ": " + what + " not supported; use a dense model with full attention");
    };
    refuse ("expert_count", "mixtures of experts are");
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
      throw LoadError (
          weights_.file_of (kEmbedding), kEmbedding,
          embedding
              ? "has shape " + to_string (embedding->shape) + ", expected a matrix; fetch the file again"
          : weights_.contains (kEmbedding)
              ? "is of a type that is not supported; use a file of F32, F16, BF16, Q8_0, Q4_0, Q4_K "
                "and Q6_K tensors (Q4_K_M files have only such)"
              : "is missing; the file holds no model (perhaps a vocabulary only)");
    member ("vocab_size", std::to_string (rows), kEmbedding);
  }

  void scaling ()
  {
    const std::string type_key = key ("rope.scaling.type");
    // As its reference does: a factor alone means linear, and no factor at all means none.
    std::string type (fields_.text_or (type_key, "linear"));
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
  spec.mixer_norms.pre = prefix + "attn_norm.weight";
  spec.channel_norms.pre = prefix + "ffn_norm.weight";
  AttentionTensors &attention = attention_of (spec).tensors;
  attention.q = prefix + "attn_q.weight";
  attention.k = prefix + "attn_k.weight";
  attention.v = prefix + "attn_v.weight";
  attention.o = prefix + "attn_output.weight";
  attention.q_bias = bias ("attn_q");
  attention.k_bias = bias ("attn_k");
  attention.v_bias = bias ("attn_v");
  attention.o_bias = bias ("attn_output");
  if (!attention.q_norm.empty ()) {
    attention.q_norm = prefix + "attn_q_norm.weight";
    attention.k_norm = prefix + "attn_k_norm.weight";
  }
  MlpTensors &mlp = mlp_of (spec).tensors;
  mlp.gate = prefix + "ffn_gate.weight";
  mlp.up = prefix + "ffn_up.weight";
  mlp.down = prefix + "ffn_down.weight";
  mlp.gate_bias = bias ("ffn_gate");
  mlp.up_bias = bias ("ffn_up");
  mlp.down_bias = bias ("ffn_down");
}

/// The factors of rope_freqs.weight, one for each pair of a head; empty without that tensor.
std::vector<float>
rope_factors (const WeightFiles &weights, int dimensions)
{
  std::vector<float> factors;
  if (!weights.contains (kRopeFactors))
    return factors;
  const TensorView &tensor = weights.require (kRopeFactors, {dimensions / 2});
  if (tensor.dtype != DType::kF32)
    throw LoadError (weights.file_of (kRopeFactors), kRopeFactors,
                     "is of type " + std::string (dtype_name (tensor.dtype)) +
                         ", expected F32; fetch the file again");
  factors.resize (static_cast<size_t> (dimensions / 2));
  std::memcpy (factors.data (), tensor.data.data (), tensor.data.size ());
  for (const float factor : factors)
    if (!(factor > 0 && factor <= kMaxRopeFactor))
      throw LoadError (weights.file_of (kRopeFactors), kRopeFactors,
                       "holds " + std::to_string (factor) +
                           ", expected factors above 0; fetch the file again");
  return factors;
}

void
check_head_sizes (const GgufFields &fields, const Translation &translation, int head_dim)
{
  for (const char *name : {"attention.value_length", "rope.dimension_count"}) {
    const std::string key = translation.key (name);
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
  const std::vector<float> factors = rope_factors (weights, head_dim);
  for (size_t i = 0; i < spec.layers.size (); ++i) {
    name_tensors (static_cast<int> (i), weights, spec.layers[i]);
    AttentionSpec &attention = attention_of (spec.layers[i]);
    attention.rope.frequency_factors = factors;
    // Converters write the heads of llama for a rotation of neighbours, those of qwen3 as the checkpoint has them.
    attention.paired_rows = spec.family == "llama";
  }
  return spec;
}

} // namespace millrace
