// Multi-head latent attention over the latents themselves: see LatentAttentionSpec.
//
// A key is [rotated, latent]: the backend rotates the first elements of a head. Pairs of neighbours are put apart, those of
// the key by the order of its weight's rows, those of q where it is copied.
#include "engine/model/decoder_mixers.hpp"

namespace millrace
{

namespace
{

class LatentAttention
{
public:
  LatentAttention (ProgramWriter &writer, const LatentAttentionSpec &attention)
      : writer_ (writer)
      , attention_ (attention)
      , tensors_ (attention.tensors)
      , key_width_ (attention.rotated + attention.kv_rank)
      , q_width_ (attention.plain + attention.rotated)
      , latent_ (writer.buffer ("latent", attention.kv_rank))
      , key_ (writer.buffer ("k", key_width_))
      , q_ (writer.buffer ("q", attention.heads * key_width_))
  {
  }

  KvLayerId write (const MixerPorts &ports)
  {
    project (ports.in);
    const KvLayerId kv =
        writer_.kv_layer ({.heads = 1, .head_dim = key_width_, .window = 0, .value_dim = attention_.kv_rank});
    writer_.emit (KvAppendOp{.layer = kv,
                             .q = q_,
                             .k = key_,
                             .v = latent_,
                             .heads = attention_.heads,
                             .q_norm = kNone,
                             .k_norm = kNone,
                             .epsilon = writer_.epsilon (),
                             .rope = writer_.rope (attention_.rope)});
    const BufferId attended = writer_.buffer ("attended", attention_.heads * attention_.kv_rank);
    writer_.emit (AttentionOp{kv, q_, attended, attention_.heads, static_cast<float> (attention_.scale)});
    const int values_width = attention_.heads * attention_.value_dim;
    const BufferId values = writer_.buffer ("values", values_width);
    PartsLinearOp up{attended, attention_.kv_rank, values, 0, attention_.value_dim, {}};
    for (int head = 0; head < attention_.heads; ++head)
      up.weights.push_back (values_of (head));
    writer_.emit (std::move (up));
    Products out (writer_, values, values_width);
    out.add (tensors_.o, tensors_.o_bias, writer_.spec ().hidden, ports.out, ports.accumulate);
    out.emit ();
    return kv;
  }

private:
  void norm (BufferId buffer, const std::string &tensor, int width)
  {
    writer_.emit (RmsNormOp{buffer, writer_.norm (tensor, width), buffer,
                            static_cast<float> (attention_.norm_epsilon)});
  }

  void project (BufferId in)
  {
    const int heads = attention_.heads, rotated = attention_.rotated;
    const bool low_rank = attention_.q_rank > 0;
    const BufferId heads_q = writer_.buffer ("q of heads", heads * q_width_);
    const BufferId q_latent = low_rank ? writer_.buffer ("q latent", attention_.q_rank) : kNone;
    Products products (writer_, in, writer_.spec ().hidden);
    if (low_rank)
      products.add (tensors_.q_a, tensors_.q_a_bias, attention_.q_rank, q_latent);
    else
      products.add (tensors_.q, "", heads * q_width_, heads_q);
    products.add (tensors_.kv_a, tensors_.kv_a_bias, attention_.kv_rank, latent_);
    products.add (tensors_.kv_a, tensors_.kv_a_bias, rotated, key_, false,
                  attention_.neighbours ? rotated : 0);
    products.emit ();
    norm (latent_, tensors_.kv_a_norm, attention_.kv_rank);
    writer_.emit (CopyOp{.in = latent_, .out = key_, .width = attention_.kv_rank, .out_first = rotated});
    if (low_rank) {
      norm (q_latent, tensors_.q_a_norm, attention_.q_rank);
      Products q_b (writer_, q_latent, attention_.q_rank);
      q_b.add (tensors_.q_b, "", heads * q_width_, heads_q);
      q_b.emit ();
    }
    writer_.emit (CopyOp{.in = heads_q,
                         .out = q_,
                         .width = rotated,
                         .parts = heads,
                         .in_first = attention_.plain,
                         .in_step = q_width_,
                         .out_first = 0,
                         .out_step = key_width_,
                         .paired = attention_.neighbours});
    PartsLinearOp down{heads_q, q_width_, q_, rotated, key_width_, {}};
    for (int head = 0; head < heads; ++head)
      down.weights.push_back (transposed_keys_of (head));
    writer_.emit (std::move (down));
  }

  /// Rows of kv_b: each head's K, then its V.
  int rows_of_head () const { return attention_.plain + attention_.value_dim; }

  WeightId transposed_keys_of (int head)
  {
    const int64_t rank = attention_.kv_rank, rows = rows_of_head ();
    if (tensors_.kv_b.empty ())
      return part_of_head (tensors_.k_b, head, attention_.kv_rank, attention_.plain);
    return writer_.weight ({.name = tensors_.kv_b,
                            .outputs = attention_.kv_rank,
                            .inputs = attention_.plain,
                            .part = {.shape = {attention_.heads * rows, rank},
                                     .first = head * rows * rank,
                                     .output_step = 1,
                                     .input_step = rank}});
  }

  WeightId values_of (int head)
  {
    if (tensors_.kv_b.empty ())
      return part_of_head (tensors_.v_b, head, attention_.value_dim, attention_.kv_rank);
    return writer_.weight ({.name = tensors_.kv_b,
                            .outputs = attention_.value_dim,
                            .inputs = attention_.kv_rank,
                            .first_output = head * rows_of_head () + attention_.plain,
                            .tensor_outputs = attention_.heads * rows_of_head ()});
  }

  /// A matrix of one that has a matrix for each head.
  WeightId part_of_head (const std::string &tensor, int64_t head, int outputs, int inputs)
  {
    return writer_.weight ({.name = tensor,
                            .outputs = outputs,
                            .inputs = inputs,
                            .part = {.shape = {attention_.heads, outputs, inputs},
                                     .first = head * outputs * inputs,
                                     .output_step = inputs}});
  }

  ProgramWriter &writer_;
  const LatentAttentionSpec &attention_;
  const LatentAttentionTensors &tensors_;
  int key_width_, q_width_;
  BufferId latent_, key_, q_;
};

} // namespace

void
write_latent_attention (ProgramWriter &writer, const LatentAttentionSpec &attention, const MixerPorts &ports,
                        std::vector<KvLayerId> &kv_layers)
{
  kv_layers.push_back (LatentAttention (writer, attention).write (ports));
}

} // namespace millrace
