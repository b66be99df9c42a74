// Names of a GGUF file's tensors.
#include "engine/model/gguf_tensors.hpp"

#include <initializer_list>

namespace millrace
{

namespace
{

class LayerNames
{
public:
  LayerNames (const GgufFamily &family, const WeightFiles &weights, int layer)
      : family_ (family)
      , weights_ (weights)
      , prefix_ ("blk." + std::to_string (layer) + ".")
  {
  }

  void name (LayerSpec &layer)
  {
    layer_ = &layer;
    rename (layer.mixer_norms.pre, "attn_norm.weight");
    rename (layer.mixer_norms.post, "post_attention_norm.weight");
    if (!layer.channel_norms.pre.empty ())
      layer.channel_norms.pre = channel_norm ();
    rename (layer.channel_norms.post, "post_ffw_norm.weight");
    rename (layer.input.gate, "inp_gate.weight");
    rename (layer.input.projection, "proj.weight");
    rename (layer.input.norm, "post_norm.weight");
    rename (layer.scalar, "layer_output_scale.weight");
    std::visit ([this] (auto &mixer) { name_mixer (mixer); }, layer.mixer);
    std::visit ([this] (auto &mixer) { name_mixer (mixer); }, layer.channel);
  }

private:
  std::string full (const char *name) const { return prefix_ + name; }
  bool holds (const char *name) const { return weights_.contains (full (name)); }

  /// Only what the spec has.
  void rename (std::string &tensor, const char *name) const
  {
    if (!tensor.empty ())
      tensor = full (name);
  }

  /// What the file has, whatever the spec said.
  void find (std::string &tensor, const char *name) const { tensor = holds (name) ? full (name) : ""; }

  /// The first of the names that the file has, or the first for what is missing.
  std::string first_of (std::initializer_list<const char *> names) const
  {
    for (const char *name : names)
      if (holds (name))
        return full (name);
    return full (*names.begin ());
  }

  /// Norms before MLPs are called after the attention before them in some architectures, and layers of one sub-layer have one
  /// norm.
  std::string channel_norm () const
  {
    if (std::holds_alternative<std::monostate> (layer_->mixer))
      return full ("attn_norm.weight");
    return layer_->mixer_norms.post.empty () ? first_of ({"ffn_norm.weight", "post_attention_norm.weight"})
                                             : full ("ffn_norm.weight");
  }

  void name_mixer (std::monostate) const {}

  void name_mixer (AttentionSpec &attention) const
  {
    AttentionTensors &tensors = attention.tensors;
    const bool fused = !attention.output_gate && holds ("attn_qkv.weight");
    const bool fuses = fused || tensors.q == tensors.k; // phi3, whose tensor may be missing
    rename (tensors.q, fuses ? "attn_qkv.weight" : "attn_q.weight");
    rename (tensors.k, fuses ? "attn_qkv.weight" : "attn_k.weight");
    rename (tensors.v, fuses ? "attn_qkv.weight" : "attn_v.weight");
    rename (tensors.o, "attn_output.weight");
    find (tensors.q_bias, fuses ? "attn_qkv.bias" : "attn_q.bias");
    find (tensors.k_bias, fuses ? "attn_qkv.bias" : "attn_k.bias");
    find (tensors.v_bias, fuses ? "attn_qkv.bias" : "attn_v.bias");
    find (tensors.o_bias, "attn_output.bias");
    rename (tensors.q_norm, "attn_q_norm.weight");
    rename (tensors.k_norm, "attn_k_norm.weight");
    rename (tensors.sinks, "attn_sinks.weight");
  }

  void name_mixer (LatentAttentionSpec &attention) const
  {
    LatentAttentionTensors &tensors = attention.tensors;
    rename (tensors.q, "attn_q.weight");
    rename (tensors.q_a, "attn_q_a.weight");
    rename (tensors.q_a_norm, "attn_q_a_norm.weight");
    rename (tensors.q_b, "attn_q_b.weight");
    rename (tensors.kv_a, "attn_kv_a_mqa.weight");
    rename (tensors.kv_a_norm, "attn_kv_a_norm.weight");
    rename (tensors.o, "attn_output.weight");
    if (holds ("attn_kv_b.weight")) {
      tensors.kv_b = full ("attn_kv_b.weight");
      return;
    }
    tensors.kv_b = "";
    tensors.k_b = full ("attn_k_b.weight");
    tensors.v_b = full ("attn_v_b.weight");
  }

  void name_mixer (GatedDeltaSpec &delta) const
  {
    GatedDeltaTensors &tensors = delta.tensors;
    delta.is_rate = true;
    delta.turns = family_.turning_heads;
    const bool one = holds ("ssm_in.weight"); // older files of qwen3next
    delta.by_key_head = one;
    tensors.q = tensors.k = tensors.v = full (one ? "ssm_in.weight" : "attn_qkv.weight");
    tensors.gate = full (one ? "ssm_in.weight" : "attn_gate.weight");
    const bool together = tensors.beta == tensors.step;
    tensors.beta = full (together ? "ssm_ba.weight" : "ssm_beta.weight");
    tensors.step = full (together ? "ssm_ba.weight" : "ssm_alpha.weight");
    tensors.convolution = full ("ssm_conv1d.weight");
    tensors.a_log = full ("ssm_a");
    tensors.step_bias = full ("ssm_dt.bias");
    tensors.norm = full ("ssm_norm.weight");
    tensors.output = full ("ssm_out.weight");
  }

  void name_mixer (Mamba2Spec &mamba) const
  {
    Mamba2Tensors &tensors = mamba.tensors;
    mamba.is_rate = true;
    tensors.input = full ("ssm_in.weight");
    find (tensors.input_bias, "ssm_in.bias");
    tensors.convolution = full ("ssm_conv1d.weight");
    find (tensors.convolution_bias, "ssm_conv1d.bias");
    tensors.a_log = full ("ssm_a");
    tensors.step_bias = full ("ssm_dt.bias");
    tensors.skip = full ("ssm_d");
    tensors.norm = full ("ssm_norm.weight");
    tensors.output = full ("ssm_out.weight");
    find (tensors.output_bias, "ssm_out.bias");
  }

  void name_mixer (MlpSpec &mlp) const
  {
    MlpTensors &tensors = mlp.tensors;
    tensors.gate = tensors.gate.empty ()        ? ""
                   : tensors.gate == tensors.up ? full ("ffn_up.weight")
                                                : full ("ffn_gate.weight");
    tensors.up = full ("ffn_up.weight");
    tensors.down = full ("ffn_down.weight");
    find (tensors.gate_bias, "ffn_gate.bias");
    find (tensors.up_bias, "ffn_up.bias");
    find (tensors.down_bias, "ffn_down.bias");
  }

  void name_mixer (MoeSpec &moe) const
  {
    RoutingSpec &routing = moe.routing;
    routing.router = full ("ffn_gate_inp.weight");
    find (routing.router_bias, "ffn_gate_inp.bias");
    rename (routing.correction, "exp_probs_b.bias");
    rename (routing.norm, "ffn_gate_inp.scale");
    rename (routing.expert_scale, "ffn_down_exps.scale");
    rename (moe.experts_pre, "pre_ffw_norm_2.weight");
    rename (moe.experts_post, "post_ffw_norm_2.weight");
    name_experts (moe.tensors);
    if (moe.shared.intermediate == 0)
      return;
    if (!moe.shared_norm.empty ()) { // gemma4's MLP beside the experts
      moe.shared_norm = full ("post_ffw_norm_1.weight");
      return name_mixer (moe.shared);
    }
    rename (moe.shared.tensors.gate, "ffn_gate_shexp.weight");
    rename (moe.shared.tensors.up, "ffn_up_shexp.weight");
    rename (moe.shared.tensors.down, "ffn_down_shexp.weight");
    rename (moe.shared_gate, "ffn_gate_inp_shexp.weight");
  }

  void name_experts (ExpertTensors &tensors) const
  {
    tensors.layout = ExpertTensors::Layout::kStacked;
    if (holds ("ffn_gate_up_exps.weight")) {
      tensors.gate = tensors.up = full ("ffn_gate_up_exps.weight");
    } else {
      rename (tensors.gate, "ffn_gate_exps.weight");
      tensors.up = full ("ffn_up_exps.weight");
    }
    tensors.down = full ("ffn_down_exps.weight");
    find (tensors.gate_bias, "ffn_gate_exps.bias");
    find (tensors.up_bias, "ffn_up_exps.bias");
    find (tensors.down_bias, "ffn_down_exps.bias");
  }

  const GgufFamily &family_;
  const WeightFiles &weights_;
  std::string prefix_;
  LayerSpec *layer_ = nullptr;
};

} // namespace

void
name_gguf_tensors (const GgufFamily &family, const WeightFiles &weights, ArchitectureSpec &spec)
{
  spec.embedding_tensor = "token_embd.weight";
  spec.final_norm_tensor = "output_norm.weight";
  spec.head_tensor = spec.tied_head ? spec.embedding_tensor : kGgufHead;
  if (spec.layer_inputs.width > 0) {
    spec.layer_inputs.embedding = "per_layer_token_embd.weight";
    spec.layer_inputs.projection = "per_layer_model_proj.weight";
    spec.layer_inputs.norm = "per_layer_proj_norm.weight";
  }
  spec.unread_tensors.clear ();
  for (size_t i = 0; i < spec.layers.size (); ++i) {
    LayerNames (family, weights, static_cast<int> (i)).name (spec.layers[i]);
    const auto *attention = std::get_if<AttentionSpec> (&spec.layers[i].mixer);
    for (const char *unread : {"attn_k.weight", "attn_v.weight", "attn_k_norm.weight"})
      if (attention && attention->kv_of_layer >= 0)
        spec.unread_tensors.push_back ("blk." + std::to_string (i) + "." + unread);
  }
}

} // namespace millrace
