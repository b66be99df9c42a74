// What KV is computed by, as one number: two models of equal digests write equal bytes for equal tokens.
//
// Every field of the program is taken apart by structured bindings, so that a field that is added there and
// forgotten here does not compile. Numbers are hashed with their counts: no two programs give one stream.
#include "engine/backend/cpu/compiled_program.hpp"

#include <xxhash.h>

#include <bit>
#include <memory>
#include <new>
#include <type_traits>

namespace millrace::cpu
{

namespace
{

constexpr int kVersion = 4; ///< of kernels and KV layout: raised when either changes the bytes of KV

class Digest
{
public:
  Digest ()
      : state_ (XXH3_createState ())
  {
    if (!state_)
      throw std::bad_alloc ();
    XXH3_128bits_reset (state_.get ());
  }

  template <typename... Values>
  void add_all (const Values &...values)
  {
    (add (values), ...);
  }

  void add_bytes (std::span<const std::byte> bytes)
  {
    add (bytes.size ());
    XXH3_128bits_update (state_.get (), bytes.data (), bytes.size ());
  }

  std::string hex () const
  {
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash (&canonical, XXH3_128bits_digest (state_.get ()));
    std::string text;
    for (const unsigned char byte : canonical.digest) {
      text += "0123456789abcdef"[byte >> 4];
      text += "0123456789abcdef"[byte & 15];
    }
    return text;
  }

private:
  struct FreeState {
    void operator() (XXH3_state_t *state) const { XXH3_freeState (state); }
  };

  template <typename T>
  requires (std::is_arithmetic_v<T> || std::is_enum_v<T>) void add (T value)
  {
    XXH3_128bits_update (state_.get (), &value, sizeof value);
  }

  void add (const std::string &text) { add_bytes (std::as_bytes (std::span (text))); }

  template <typename T>
  void add (const std::vector<T> &values)
  {
    add (values.size ());
    for (const T &value : values)
      add (value);
  }

  void add (const WeightRef &ref)
  {
    const auto &[name, outputs, inputs, paired, first_output, tensor_outputs, offset, part, run, stride,
                 taps] = ref;
    add_all (name, outputs, inputs, paired, first_output, tensor_outputs, offset, run, stride, taps);
    const auto &[shape, first, output_step, input_step] = part;
    add_all (shape, first, output_step, input_step);
  }
  void add (const BufferRef &ref)
  {
    const auto &[width, rows] = ref;
    add_all (width, rows);
  }
  void add (const KvLayer &layer)
  {
    const auto &[heads, head_dim, window, value_dim] = layer;
    add_all (heads, head_dim, window, value_dim);
  }
  void add (const StateLayer &layer)
  {
    const auto &[channels, taps, heads, keys, values] = layer;
    add_all (channels, taps, heads, keys, values);
  }
  void add (const RopeTable &table)
  {
    const auto &[inverse_frequencies, factor, long_inverse_frequencies, original_positions] = table;
    add_all (inverse_frequencies, factor, long_inverse_frequencies, original_positions);
  }
  void add (const LinearOp::Projection &projection)
  {
    const auto &[weight, bias, out, accumulate] = projection;
    add_all (weight, bias, out, accumulate);
  }

  void add (const Op &op)
  {
    add (op.index ());
    std::visit ([this] (const auto &operation) { add (operation); }, op);
  }
  void add (const EmbedOp &op)
  {
    const auto &[weight, out, scale] = op;
    add_all (weight, out, scale);
  }
  void add (const RmsNormOp &op)
  {
    const auto &[in, weight, out, epsilon, parts, groups] = op;
    add_all (in, weight, out, epsilon, parts, groups);
  }
  void add (const LinearOp &op)
  {
    const auto &[in, projections] = op;
    add_all (in, projections);
  }
  void add (const KvAppendOp &op)
  {
    const auto &[layer, q, k, v, heads, q_norm, k_norm, epsilon, rope, v_norm] = op;
    add_all (layer, q, k, v, heads, q_norm, k_norm, epsilon, rope, v_norm);
  }
  void add (const AttentionOp &op)
  {
    const auto &[layer, q, out, heads, scale, softcap, sinks] = op;
    add_all (layer, q, out, heads, scale, softcap, sinks);
  }
  void add (const GatedOp &op)
  {
    const auto &[activation, gate, up, out, width, up_first] = op;
    add_all (activation, gate, up, out, width, up_first);
  }
  void add (const SelectOp &op)
  {
    const auto &[in, out] = op;
    add_all (in, out);
  }
  void add (const HiddenOp &op)
  {
    const auto &[in] = op;
    add_all (in);
  }
  void add (const HeadOp &op)
  {
    const auto &[in, weight, scale, softcap] = op;
    add_all (in, weight, scale, softcap);
  }
  void add (const AddOp &op)
  {
    const auto &[in, out, width, factor] = op;
    add_all (in, out, width, factor);
  }
  void add (const ScaleOp &op)
  {
    const auto &[buffer, width, factor, weight] = op;
    add_all (buffer, width, factor, weight);
  }
  void add (const CopyOp &op)
  {
    const auto &[in, out, width, parts, in_first, in_step, out_first, out_step, paired] = op;
    add_all (in, out, width, parts, in_first, in_step, out_first, out_step, paired);
  }
  void add (const RouteOp &op)
  {
    const auto &[logits, out, experts, chosen, scores, normalized, scale, groups, chosen_groups, group_score,
                 correction, expert_scale] = op;
    add_all (logits, out, experts, chosen, scores, normalized, scale, groups, chosen_groups, group_score,
             correction, expert_scale);
  }
  void add (const ExpertsOp::Expert &expert)
  {
    const auto &[gate, up, down, gate_bias, up_bias, down_bias] = expert;
    add_all (gate, up, down, gate_bias, up_bias, down_bias);
  }
  void add (const ExpertsOp &op)
  {
    const auto &[in, weights, out, accumulate, intermediate, chosen, activation, limit, slope, up_offset,
                 experts] = op;
    add_all (in, weights, out, accumulate, intermediate, chosen, activation, limit, slope, up_offset,
             experts);
  }
  void add (const RowGateOp &op)
  {
    const auto &[gate, buffer, width] = op;
    add_all (gate, buffer, width);
  }
  void add (const PartsLinearOp &op)
  {
    const auto &[in, in_step, out, out_first, out_step, weights] = op;
    add_all (in, in_step, out, out_first, out_step, weights);
  }
  void add (const ConvolutionOp::Part &part)
  {
    const auto &[buffer, channels, weight, bias] = part;
    add_all (buffer, channels, weight, bias);
  }
  void add (const ConvolutionOp &op)
  {
    const auto &[layer, parts] = op;
    add_all (layer, parts);
  }
  void add (const RecurrenceOp &op)
  {
    const auto &[kind, layer, q, k, v, out, step, factor, key_heads, a_log, step_bias, skip, least_step,
                 most_step, turns, is_rate] = op;
    add_all (kind, layer, q, k, v, out, step, factor, key_heads, a_log, step_bias, skip, least_step,
             most_step, turns, is_rate);
  }

  std::unique_ptr<XXH3_state_t, FreeState> state_;
};

} // namespace

std::string
kv_identity (const CompiledProgram &compiled)
{
  Digest digest;
  digest.add_all (kVersion, std::string (compiled.kernels.name));
  const auto &[vocab, hidden, max_positions, weights, buffers, kv_layers, state_layers, ropes, ops] =
      compiled.program;
  digest.add_all (vocab, hidden, max_positions, weights, buffers, kv_layers, state_layers, ropes, ops);
  for (size_t i = 0; i < weights.size (); ++i)
    digest.add_all (compiled.weights[static_cast<WeightId> (i)].format);
  digest.add_bytes (compiled.weights.data ());
  return digest.hex ();
}

} // namespace millrace::cpu
