// Checkpoint folders written as GGUF files, as converters do it: metadata, names, and what becomes of the values. Source:
// llama.cpp's convert_hf_to_gguf.py and gguf-py, MIT.
#pragma once

#include "engine/model/decoder.hpp"
#include "engine/weights/weight_files.hpp"
#include "tests/gguf_metadata.hpp"
#include "tests/gguf_values.hpp"

#include <stdexcept>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace millrace::testing
{

/// Factors that turn the plain inverse frequencies into those of `rope`; where no float does so exactly, the nearest.
inline std::vector<float>
rope_factors_of (const RopeSpec &rope)
{
  RopeSpec plain = rope;
  plain.scaling = RopeSpec::Scaling::kNone;
  const auto from = rope_inverse_frequencies (plain), to = rope_inverse_frequencies (rope);
  std::vector<float> factors;
  for (size_t i = 0; i < from.size (); ++i) {
    float factor = from[i] / to[i];
    for (const float candidate : {factor, std::nextafter (factor, 0.0f), std::nextafter (factor, 1e9f)})
      if (from[i] / candidate == to[i])
        factor = candidate;
    factors.push_back (factor);
  }
  return factors;
}

class GgufConverter : GgufMetadata
{
public:
  GgufConverter (const std::filesystem::path &folder, const std::filesystem::path &file,
                 const GgufConversion &conversion)
      : GgufMetadata (folder, file, conversion)
      , weights_ (WeightFiles::open (folder))
  {
  }

  void run ()
  {
    write_metadata ();
    plan_tensors ();
    for (const Planned &tensor : planned_)
      writer_.add_tensor (tensor.name, tensor.type, tensor.shape);
    writer_.begin_data ();
    for (const Planned &tensor : planned_)
      writer_.write (tensor.bytes);
    writer_.finish ();
  }

private:
  struct Planned {
    std::string name;
    DType type;
    Shape shape;
    std::vector<std::byte> bytes;
  };

  Values read (const std::string &name) const
  {
    const TensorView *tensor = weights_.find (name);
    for (const std::string &other : spec_.tensor_prefixes) // as wrappers have them
      if (!tensor && name.starts_with (spec_.tensor_prefixes.front ()))
        tensor = weights_.find (other + name.substr (spec_.tensor_prefixes.front ().size ()));
    if (!tensor)
      throw std::runtime_error ("no tensor " + name);
    return float_values (*tensor);
  }

  static bool is_never_quantized (const std::string &name)
  {
    for (const char *part : {"norm", "ssm_conv1d", "ssm_a", "ssm_d", "ffn_gate_inp", ".bias", ".scale"})
      if (name.find (part) != std::string::npos)
        return true;
    return false;
  }

  void put (const std::string &name, Values values)
  {
    if (conversion_.without.contains (name))
      return;
    const bool is_vector = values.shape.size () < 2 || is_never_quantized (name);
    DType type = is_vector ? DType::kF32 : conversion_.type (name, values.shape);
    std::vector<std::byte> bytes = encoded (type, values.data);
    if (conversion_.dequantized && is_block_type (type)) {
      dequantize_row (type, bytes.data (), static_cast<int64_t> (values.data.size ()), values.data.data ());
      type = DType::kF32;
      bytes = encoded (type, values.data);
    }
    planned_.push_back ({name, type, values.shape, std::move (bytes)});
  }

  void plan (const std::string &from, const std::string &name)
  {
    if (!from.empty ())
      put (name, read (from));
  }
  void plan_paired (const std::string &from, const std::string &name, int head)
  {
    if (!from.empty ())
      put (name, is_paired () ? paired (read (from), static_cast<size_t> (head)) : read (from));
  }
  void plan_norm (const std::string &from, const std::string &name)
  {
    if (from.empty ())
      return;
    Values values = read (from);
    for (float &value : values.data)
      value += static_cast<float> (spec_.norm_offset);
    put (name, std::move (values));
  }

  void plan_tensors ()
  {
    plan (spec_.embedding_tensor, "token_embd.weight");
    plan_norm (spec_.final_norm_tensor, "output_norm.weight");
    if (!spec_.tied_head)
      plan (spec_.head_tensor, "output.weight");
    if (spec_.layer_inputs.width > 0) {
      plan (spec_.layer_inputs.embedding, "per_layer_token_embd.weight");
      plan (spec_.layer_inputs.projection, "per_layer_model_proj.weight");
      plan (spec_.layer_inputs.norm, "per_layer_proj_norm.weight");
    }
    for (size_t i = 0; i < spec_.layers.size (); ++i) {
      prefix_ = "blk." + std::to_string (i) + ".";
      layer_ = &spec_.layers[i];
      plan_layer ();
    }
    plan_factors ();
  }

  void plan_layer ()
  {
    const std::string name = architecture ();
    const bool after_attention = name == "glm4moe" || name == "gpt-oss" || name.starts_with ("qwen3next") ||
                                 name.starts_with ("qwen35");
    const bool alone = std::holds_alternative<std::monostate> (layer_->mixer);
    if (!std::holds_alternative<std::monostate> (layer_->mixer))
      plan_norm (layer_->mixer_norms.pre, prefix_ + "attn_norm.weight");
    plan_norm (layer_->mixer_norms.post, prefix_ + "post_attention_norm.weight");
    if (!std::holds_alternative<std::monostate> (layer_->channel))
      plan_norm (layer_->channel_norms.pre, prefix_ + (alone             ? "attn_norm.weight"
                                                       : after_attention ? "post_attention_norm.weight"
                                                                         : "ffn_norm.weight"));
    plan_norm (layer_->channel_norms.post, prefix_ + "post_ffw_norm.weight");
    plan (layer_->input.gate, prefix_ + "inp_gate.weight");
    plan (layer_->input.projection, prefix_ + "proj.weight");
    plan (layer_->input.norm, prefix_ + "post_norm.weight");
    plan (layer_->scalar, prefix_ + "layer_output_scale.weight");
    std::visit ([this] (const auto &mixer) { plan_mixer (mixer); }, layer_->mixer);
    std::visit ([this] (const auto &mixer) { plan_mixer (mixer); }, layer_->channel);
  }

  void plan_mixer (std::monostate) {}

  void plan_mixer (const AttentionSpec &attention)
  {
    const AttentionTensors &names = attention.tensors;
    const int head = attention.head_dim;
    const bool fused = names.q == names.k;
    plan_paired (names.q, prefix_ + (fused ? "attn_qkv.weight" : "attn_q.weight"), head);
    if (!fused) {
      plan_paired (names.k, prefix_ + "attn_k.weight", head);
      plan (names.v, prefix_ + "attn_v.weight");
    }
    plan (names.o, prefix_ + "attn_output.weight");
    plan_paired (names.q_bias, prefix_ + "attn_q.bias", head);
    plan_paired (names.k_bias, prefix_ + "attn_k.bias", head);
    plan (names.v_bias, prefix_ + "attn_v.bias");
    plan (names.o_bias, prefix_ + "attn_output.bias");
    plan_norm (names.q_norm, prefix_ + "attn_q_norm.weight");
    plan_norm (names.k_norm, prefix_ + "attn_k_norm.weight");
    plan (names.sinks, prefix_ + "attn_sinks.weight");
  }

  void plan_mixer (const LatentAttentionSpec &attention)
  {
    const LatentAttentionTensors &names = attention.tensors;
    plan (names.q, prefix_ + "attn_q.weight");
    plan (names.q_a, prefix_ + "attn_q_a.weight");
    plan (names.q_a_norm, prefix_ + "attn_q_a_norm.weight");
    plan (names.q_b, prefix_ + "attn_q_b.weight");
    plan (names.kv_a, prefix_ + "attn_kv_a_mqa.weight");
    plan (names.kv_a_norm, prefix_ + "attn_kv_a_norm.weight");
    plan (names.o, prefix_ + "attn_output.weight");
    if (conversion_.older)
      return plan (names.kv_b, prefix_ + "attn_kv_b.weight");
    const Values both = read (names.kv_b);
    const auto plain = static_cast<size_t> (attention.plain),
               values = static_cast<size_t> (attention.value_dim);
    Values k{{attention.heads, attention.kv_rank, attention.plain}, {}},
        v{{attention.heads, attention.value_dim, attention.kv_rank}, {}};
    for (size_t head = 0; head < static_cast<size_t> (attention.heads); ++head) {
      const Values k_head = transposed (row_range (both, head * (plain + values), plain)),
                   v_head = row_range (both, head * (plain + values) + plain, values);
      k.data.insert (k.data.end (), k_head.data.begin (), k_head.data.end ());
      v.data.insert (v.data.end (), v_head.data.begin (), v_head.data.end ());
    }
    put (prefix_ + "attn_k_b.weight", std::move (k));
    put (prefix_ + "attn_v_b.weight", std::move (v));
  }

  void plan_mixer (const GatedDeltaSpec &delta)
  {
    const GatedDeltaTensors &names = delta.tensors;
    const auto groups = static_cast<size_t> (delta.key_heads), head = static_cast<size_t> (delta.value_dim),
               keys = static_cast<size_t> (delta.key_heads * delta.key_dim);
    const bool turns = architecture () != "qwen3next" && delta.key_heads != delta.value_heads;
    const auto turned = [&] (Values values, size_t first, size_t size) {
      return turns ? turning (values, first, size, groups) : values;
    };
    if (delta.by_key_head)
      plan_sorted (delta);
    else {
      put (prefix_ + "attn_qkv.weight", turned (read (names.q), 2 * keys, head));
      put (prefix_ + "attn_gate.weight", turned (read (names.gate), 0, head));
    }
    if (names.beta == names.step) {
      plan (names.beta, prefix_ + "ssm_ba.weight");
    } else {
      put (prefix_ + "ssm_beta.weight", turned (read (names.beta), 0, 1));
      put (prefix_ + "ssm_alpha.weight", turned (read (names.step), 0, 1));
    }
    put (prefix_ + "ssm_conv1d.weight", turned (without_ones (read (names.convolution)), 2 * keys, head));
    put (prefix_ + "ssm_a", turned (decay_rates (read (names.a_log)), 0, 1));
    put (prefix_ + "ssm_dt.bias", turned (read (names.step_bias), 0, 1));
    plan (names.norm, prefix_ + "ssm_norm.weight");
    put (prefix_ + "ssm_out.weight", transposed (turned (transposed (read (names.output)), 0, head)));
  }

  /// Rows of q, k, v and gate of each key head, put together by whose they are.
  void plan_sorted (const GatedDeltaSpec &delta)
  {
    const Values all = read (delta.tensors.q);
    if (conversion_.older)
      return put (prefix_ + "ssm_in.weight", all);
    const auto groups = static_cast<size_t> (delta.key_heads), key = static_cast<size_t> (delta.key_dim),
               value = static_cast<size_t> (delta.value_heads / delta.key_heads * delta.value_dim);
    std::vector<size_t> qkv, gate;
    const auto add = [&] (std::vector<size_t> &order, size_t first, size_t count) {
      for (size_t group = 0; group < groups; ++group)
        for (size_t i = 0; i < count; ++i)
          order.push_back (group * 2 * (key + value) + first + i);
    };
    add (qkv, 0, key);
    add (qkv, key, key);
    add (qkv, 2 * key, value);
    add (gate, 2 * key + value, value);
    put (prefix_ + "attn_qkv.weight", with_rows (all, qkv));
    put (prefix_ + "attn_gate.weight", with_rows (all, gate));
  }

  void plan_mixer (const Mamba2Spec &mamba)
  {
    const Mamba2Tensors &names = mamba.tensors;
    plan (names.input, prefix_ + "ssm_in.weight");
    put (prefix_ + "ssm_conv1d.weight", without_ones (read (names.convolution)));
    plan (names.convolution_bias, prefix_ + "ssm_conv1d.bias");
    put (prefix_ + "ssm_a", reshaped (decay_rates (read (names.a_log)), {mamba.heads, 1}));
    plan (names.step_bias, prefix_ + "ssm_dt.bias");
    put (prefix_ + "ssm_d", reshaped (read (names.skip), {mamba.heads, 1}));
    put (prefix_ + "ssm_norm.weight",
         reshaped (read (names.norm), {mamba.groups, mamba.heads * mamba.head_dim / mamba.groups}));
    plan (names.output, prefix_ + "ssm_out.weight");
  }

  void plan_mixer (const MlpSpec &mlp) { plan_mlp (mlp.tensors, ""); }
  void plan_mlp (const MlpTensors &names, const std::string &suffix)
  {
    if (names.gate != names.up)
      plan (names.gate, prefix_ + "ffn_gate" + suffix + ".weight");
    plan (names.up, prefix_ + "ffn_up" + suffix + ".weight");
    plan (names.down, prefix_ + "ffn_down" + suffix + ".weight");
    plan (names.gate_bias, prefix_ + "ffn_gate" + suffix + ".bias");
    plan (names.up_bias, prefix_ + "ffn_up" + suffix + ".bias");
    plan (names.down_bias, prefix_ + "ffn_down" + suffix + ".bias");
  }

  void plan_mixer (const MoeSpec &moe)
  {
    const RoutingSpec &routing = moe.routing;
    plan (routing.router, prefix_ + "ffn_gate_inp.weight");
    plan (routing.router_bias, prefix_ + "ffn_gate_inp.bias");
    plan (routing.correction, prefix_ + "exp_probs_b.bias");
    plan (routing.norm, prefix_ + "ffn_gate_inp.scale");
    plan (routing.expert_scale, prefix_ + "ffn_down_exps.scale");
    plan (moe.experts_pre, prefix_ + "pre_ffw_norm_2.weight");
    plan (moe.experts_post, prefix_ + "post_ffw_norm_2.weight");
    plan (moe.shared_norm, prefix_ + "post_ffw_norm_1.weight");
    if (moe.shared.intermediate > 0)
      plan_mlp (moe.shared.tensors, moe.shared_norm.empty () ? "_shexp" : "");
    if (!moe.shared_gate.empty ())
      put (prefix_ + "ffn_gate_inp_shexp.weight", without_ones (read (moe.shared_gate)));
    const ExpertTensors &names = moe.tensors;
    if (names.layout == ExpertTensors::Layout::kTransposed)
      return plan_transposed (moe);
    if (names.layout == ExpertTensors::Layout::kStacked) {
      if (names.gate == names.up)
        plan (names.up, prefix_ + "ffn_gate_up_exps.weight");
      else {
        plan (names.gate, prefix_ + "ffn_gate_exps.weight");
        plan (names.up, prefix_ + "ffn_up_exps.weight");
      }
      return plan (names.down, prefix_ + "ffn_down_exps.weight");
    }
    stack (moe, names.gate, "ffn_gate_exps.weight");
    stack (moe, names.up, "ffn_up_exps.weight");
    stack (moe, names.down, "ffn_down_exps.weight");
  }

  /// One tensor of all experts' ones, whose numbers take the place of '*' in `pattern`.
  void stack (const MoeSpec &moe, const std::string &pattern, const char *name)
  {
    if (pattern.empty ())
      return;
    Values all;
    for (int i = 0; i < moe.experts; ++i) {
      std::string from = pattern;
      const Values expert = read (from.replace (from.find ('*'), 1, std::to_string (i)));
      all.shape = expert.shape;
      all.data.insert (all.data.end (), expert.data.begin (), expert.data.end ());
    }
    all.shape.insert (all.shape.begin (), moe.experts);
    put (prefix_ + name, std::move (all));
  }

  /// Inputs before outputs, where gate and up take turns.
  void plan_transposed (const MoeSpec &moe)
  {
    const ExpertTensors &names = moe.tensors;
    const Values both = read (names.up), down = read (names.down);
    const auto experts = static_cast<size_t> (moe.experts);
    Values gate, up, turned_down;
    for (size_t i = 0; i < experts; ++i) {
      const auto expert = [&] (const Values &of) {
        return transposed (reshaped (row_range (of, i, 1), {of.shape[1], of.shape[2]}));
      };
      const Values rows = expert (both), last = expert (down);
      for (size_t row = 0; row < rows.rows (); ++row) {
        Values &to = row % 2 == 0 ? gate : up;
        const Values one = row_range (rows, row, 1);
        to.data.insert (to.data.end (), one.data.begin (), one.data.end ());
      }
      turned_down.data.insert (turned_down.data.end (), last.data.begin (), last.data.end ());
    }
    gate.shape = up.shape = {moe.experts, moe.intermediate, spec_.hidden};
    turned_down.shape = {moe.experts, spec_.hidden, moe.intermediate};
    put (prefix_ + "ffn_gate_exps.weight", std::move (gate));
    put (prefix_ + "ffn_up_exps.weight", std::move (up));
    put (prefix_ + "ffn_down_exps.weight", std::move (turned_down));
    const Values biases = read (names.up_bias);
    Values gate_bias{{moe.experts, moe.intermediate}, {}}, up_bias = gate_bias;
    for (size_t i = 0; i < biases.data.size (); ++i)
      (i % 2 == 0 ? gate_bias : up_bias).data.push_back (biases.data[i]);
    put (prefix_ + "ffn_gate_exps.bias", std::move (gate_bias));
    put (prefix_ + "ffn_up_exps.bias", std::move (up_bias));
    plan (names.down_bias, prefix_ + "ffn_down_exps.bias");
  }

  void plan_factors ()
  {
    const auto put_factors = [&] (const std::string &name, const std::vector<float> &factors) {
      put (name, {{static_cast<int64_t> (factors.size ())}, factors});
    };
    if (!first<AttentionSpec> ())
      return;
    const RopeSpec &rope = common_attention ().rope;
    if (rope.scaling == RopeSpec::Scaling::kLongRope) {
      put_factors ("rope_factors_short.weight", rope.frequency_factors);
      put_factors ("rope_factors_long.weight", rope.long_frequency_factors);
    }
    if (rope.scaling == RopeSpec::Scaling::kLlama3)
      put_factors ("rope_freqs.weight", rope_factors_of (rope));
    if (rope.scaling == RopeSpec::Scaling::kProportional) {
      std::vector<float> factors (static_cast<size_t> (rope.dimensions / 2), 1e30f);
      std::fill_n (factors.begin (), rope.rotated / 2, 1.0f);
      put_factors ("rope_freqs.weight", factors);
    }
  }

  WeightFiles weights_;
  std::vector<Planned> planned_;
  std::string prefix_;
  const LayerSpec *layer_ = nullptr;
};

/// Writes the checkpoint in `folder` to `file`.
inline void
write_gguf_model (const std::filesystem::path &folder, const std::filesystem::path &file,
                  const GgufConversion &conversion = {})
{
  GgufConverter (folder, file, conversion).run ();
}

} // namespace millrace::testing
