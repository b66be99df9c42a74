#include "engine/model/decoder.hpp"

#include <algorithm>
#include <map>

namespace millrace
{

namespace
{

class Decoder
{
public:
  explicit Decoder (const ArchitectureSpec &spec)
      : spec_ (spec)
  {
    program_.vocab = spec.vocab;
    program_.hidden = spec.hidden;
    program_.max_positions = spec.max_positions;
  }

  Program build ()
  {
    plan_buffers ();
    const WeightId embedding = matrix (spec_.embedding_tensor, spec_.vocab, spec_.hidden);
    emit (EmbedOp{embedding, residual_});
    for (const LayerSpec &layer : spec_.layers) {
      attention (layer);
      mlp (layer);
    }
    emit (SelectOp{residual_, selected_});
    norm (selected_, spec_.final_norm_tensor, selected_);
    emit (HiddenOp{selected_});
    // A tied head has the embedding's name and so is the same weight.
    emit (HeadOp{selected_, matrix (spec_.head_tensor, spec_.vocab, spec_.hidden)});
    return std::move (program_);
  }

private:
  // All layers share one set of buffers, as wide as the widest of them.
  void plan_buffers ()
  {
    int q = 0, kv = 0, intermediate = 0;
    for (const LayerSpec &layer : spec_.layers) {
      q = std::max (q, layer.attention.heads * layer.attention.head_dim);
      kv = std::max (kv, layer.attention.kv_heads * layer.attention.head_dim);
      intermediate = std::max (intermediate, layer.mlp.intermediate);
    }
    residual_ = buffer (spec_.hidden);
    normed_ = buffer (spec_.hidden);
    q_ = buffer (q);
    k_ = buffer (kv);
    v_ = buffer (kv);
    attended_ = buffer (q);
    gate_ = buffer (intermediate);
    up_ = buffer (intermediate);
    selected_ = buffer (spec_.hidden, BufferRef::Rows::kOutput);
  }

  void attention (const LayerSpec &layer)
  {
    const AttentionSpec &attention = layer.attention;
    const LayerTensors &tensors = layer.tensors;
    const int q_width = attention.heads * attention.head_dim;
    const int kv_width = attention.kv_heads * attention.head_dim;
    const auto epsilon = static_cast<float> (spec_.norm_epsilon);
    const int paired = attention.paired_rows ? attention.head_dim : 0;

    norm (residual_, tensors.attention_norm, normed_);
    LinearOp qkv{normed_, {}};
    project (qkv, tensors.q, tensors.q_bias, q_width, spec_.hidden, q_, false, paired);
    project (qkv, tensors.k, tensors.k_bias, kv_width, spec_.hidden, k_, false, paired);
    project (qkv, tensors.v, tensors.v_bias, kv_width, spec_.hidden, v_);
    emit (qkv);

    const auto kv_layer = static_cast<KvLayerId> (program_.kv_layers.size ());
    program_.kv_layers.push_back ({attention.kv_heads, attention.head_dim, attention.window});
    emit (KvAppendOp{.layer = kv_layer,
                     .q = q_,
                     .k = k_,
                     .v = v_,
                     .heads = attention.heads,
                     .q_norm = attention.qk_norm ? vector (tensors.q_norm, attention.head_dim) : kNone,
                     .k_norm = attention.qk_norm ? vector (tensors.k_norm, attention.head_dim) : kNone,
                     .epsilon = epsilon,
                     .rope = rope (attention.rope)});
    emit (AttentionOp{kv_layer, q_, attended_, attention.heads, static_cast<float> (attention.scale)});

    LinearOp out{attended_, {}};
    project (out, tensors.o, tensors.o_bias, spec_.hidden, q_width, residual_, true);
    emit (out);
  }

  void mlp (const LayerSpec &layer)
  {
    const LayerTensors &tensors = layer.tensors;
    const int intermediate = layer.mlp.intermediate;
    norm (residual_, tensors.mlp_norm, normed_);
    LinearOp gate_up{normed_, {}};
    project (gate_up, tensors.gate, tensors.gate_bias, intermediate, spec_.hidden, gate_);
    project (gate_up, tensors.up, tensors.up_bias, intermediate, spec_.hidden, up_);
    emit (gate_up);
    emit (GatedOp{activation (layer.mlp.activation), gate_, up_, gate_, intermediate});
    LinearOp down{gate_, {}};
    project (down, tensors.down, tensors.down_bias, spec_.hidden, intermediate, residual_, true);
    emit (down);
  }

  void norm (BufferId in, const std::string &tensor, BufferId out)
  {
    emit (RmsNormOp{in, vector (tensor, spec_.hidden), out, static_cast<float> (spec_.norm_epsilon)});
  }

  void project (LinearOp &op, const std::string &tensor, const std::string &bias, int outputs, int inputs,
                BufferId out, bool accumulate = false, int paired = 0)
  {
    op.projections.push_back ({weight ({tensor, outputs, inputs, paired}),
                               bias.empty () ? kNone : weight ({bias, outputs, 0, paired}), out, accumulate});
  }

  static GatedOp::Activation activation (Activation activation)
  {
    switch (activation) {
    case Activation::kGeluTanh:
      return GatedOp::Activation::kGeluTanh;
    case Activation::kGelu:
      return GatedOp::Activation::kGelu;
    case Activation::kSilu:
      break;
    }
    return GatedOp::Activation::kSilu;
  }

  // Layers with the same rotation share a table, and so its sines of a pass.
  RopeId rope (const RopeSpec &rope)
  {
    const RopeTable table{rope_inverse_frequencies (rope), static_cast<float> (rope.attention_factor)};
    if (table.inverse_frequencies.empty ())
      return kNone;
    const auto found = std::ranges::find (program_.ropes, table);
    const auto id = static_cast<RopeId> (found - program_.ropes.begin ());
    if (found == program_.ropes.end ())
      program_.ropes.push_back (table);
    return id;
  }

  BufferId buffer (int width, BufferRef::Rows rows = BufferRef::Rows::kToken)
  {
    program_.buffers.push_back ({width, rows});
    return static_cast<BufferId> (program_.buffers.size ()) - 1;
  }

  WeightId matrix (const std::string &name, int outputs, int inputs)
  {
    return weight ({name, outputs, inputs});
  }
  WeightId vector (const std::string &name, int count) { return weight ({name, count, 0}); }

  WeightId weight (const WeightRef &ref)
  {
    const auto [entry, added] =
        weights_.try_emplace (ref.name, static_cast<WeightId> (program_.weights.size ()));
    if (added)
      program_.weights.push_back (ref);
    return entry->second;
  }

  void emit (Op op) { program_.ops.push_back (std::move (op)); }

  const ArchitectureSpec &spec_;
  Program program_;
  std::map<std::string, WeightId> weights_;
  BufferId residual_ = kNone, normed_ = kNone, q_ = kNone, k_ = kNone, v_ = kNone, attended_ = kNone;
  BufferId gate_ = kNone, up_ = kNone, selected_ = kNone;
};

} // namespace

Program
build_program (const ArchitectureSpec &spec)
{
  return Decoder (spec).build ();
}

} // namespace millrace
