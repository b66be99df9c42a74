// Grouped-query attention: projections, norms and rotation, keys and values kept, softmax, projection.
#include "engine/model/decoder_mixers.hpp"

namespace millrace
{

namespace
{

struct Heads {
  BufferId q, k, v;
  BufferId gate; ///< or kNone
};

// Where values are keys before their norm and rotation, they are copied before those are applied in place.
Heads
project_heads (ProgramWriter &writer, const AttentionSpec &attention, BufferId in)
{
  const AttentionTensors &tensors = attention.tensors;
  const int q_width = attention.heads * attention.head_dim,
            kv_width = attention.kv_heads * attention.head_dim;
  const int paired = attention.paired_rows ? attention.head_dim : 0;
  const bool has_kv = attention.kv_of_layer < 0;
  const Heads heads{writer.buffer ("q", q_width), has_kv ? writer.buffer ("k", kv_width) : kNone,
                    has_kv ? writer.buffer ("v", kv_width) : kNone,
                    attention.output_gate ? writer.buffer ("gate", q_width) : kNone};
  Products products (writer, in, writer.spec ().hidden);
  products.group (attention.output_gate ? attention.heads : 1);
  products.add (tensors.q, tensors.q_bias, q_width, heads.q, false, paired);
  if (attention.output_gate)
    products.add (tensors.q, tensors.q_bias, q_width, heads.gate);
  products.group (1);
  if (has_kv) {
    products.add (tensors.k, tensors.k_bias, kv_width, heads.k, false, paired);
    if (!tensors.v.empty ())
      products.add (tensors.v, tensors.v_bias, kv_width, heads.v);
  }
  products.emit ();
  if (has_kv && tensors.v.empty ())
    writer.emit (CopyOp{heads.k, heads.v, kv_width});
  return heads;
}

} // namespace

void
write_attention (ProgramWriter &writer, const AttentionSpec &attention, const MixerPorts &ports,
                 std::vector<KvLayerId> &kv_layers)
{
  const AttentionTensors &tensors = attention.tensors;
  const int q_width = attention.heads * attention.head_dim,
            kv_width = attention.kv_heads * attention.head_dim;
  const Heads heads = project_heads (writer, attention, ports.in);
  const bool has_kv = heads.k != kNone;
  const bool whole = attention.qk_norm == QkNorm::kWhole;
  if (whole && !tensors.q_norm.empty ())
    writer.rms_norm (heads.q, tensors.q_norm, q_width, heads.q);
  if (whole && has_kv && !tensors.k_norm.empty ())
    writer.rms_norm (heads.k, tensors.k_norm, kv_width, heads.k);

  const KvLayerId kv = has_kv ? writer.kv_layer ({attention.kv_heads, attention.head_dim, attention.window})
                              : kv_layers[static_cast<size_t> (attention.kv_of_layer)];
  kv_layers.push_back (kv);
  const auto head_norm = [&] (const std::string &tensor) {
    return whole || tensor.empty () ? kNone : writer.norm (tensor, attention.head_dim);
  };
  writer.emit (KvAppendOp{.layer = kv,
                          .q = heads.q,
                          .k = heads.k,
                          .v = heads.v,
                          .heads = attention.heads,
                          .q_norm = head_norm (tensors.q_norm),
                          .k_norm = has_kv ? head_norm (tensors.k_norm) : kNone,
                          .epsilon = writer.epsilon (),
                          .rope = writer.rope (attention.rope),
                          .v_norm = attention.value_norm});
  const BufferId attended = writer.buffer ("attended", q_width);
  writer.emit (AttentionOp{
      kv, heads.q, attended, attention.heads, static_cast<float> (attention.scale),
      static_cast<float> (attention.softcap),
      tensors.sinks.empty () ? kNone : writer.weight ({.name = tensors.sinks, .outputs = attention.heads})});

  if (heads.gate != kNone)
    writer.emit (GatedOp{GatedOp::Activation::kSigmoid, heads.gate, attended, attended, q_width});

  Products out (writer, attended, q_width);
  out.add (tensors.o, tensors.o_bias, writer.spec ().hidden, ports.out, ports.accumulate);
  out.emit ();
}

} // namespace millrace
