// Checkpoint folders written as GGUF files, as converters do it.
#pragma once

#include "engine/model/config.hpp"
#include "engine/weights/gguf_writer.hpp"
#include "engine/weights/quantized_blocks.hpp"
#include "engine/weights/weight_files.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <functional>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace millrace::testing
{

struct GgufConversion {
  /// The type of a matrix; vectors are F32.
  std::function<DType (const std::string &name, const Shape &shape)> type = [] (const auto &, const auto &) {
    return DType::kF32;
  };
  std::function<void (GgufWriter &writer)> more = {}; ///< more metadata
  std::set<std::string> without;                      ///< keys and tensors that are left out
  bool dequantized = false;                           ///< as F32 the values that a file of type () would have
};

/// float values of a tensor, rows of each `paired` in the order of GGUF's llama.
inline std::vector<float>
float_values (const TensorView &tensor, int paired)
{
  const auto count = static_cast<size_t> (tensor.element_count ());
  std::vector<float> values (count), ordered (count);
  for (size_t i = 0; i < count; ++i) {
    uint16_t half = 0;
    if (tensor.dtype == DType::kF32)
      std::memcpy (&values[i], tensor.data.data () + i * 4, 4);
    else
      std::memcpy (&half, tensor.data.data () + i * 2, 2);
    if (tensor.dtype != DType::kF32)
      values[i] = tensor.dtype == DType::kF16 ? f16_to_f32 (half) : bf16_to_f32 (half);
  }
  if (paired == 0)
    return values;
  const auto rows = static_cast<size_t> (tensor.shape[0]), width = count / rows;
  const auto head = static_cast<size_t> (paired);
  for (size_t row = 0; row < rows; ++row) { // 0, half, 1, half + 1, …
    const size_t in_head = row % head;
    const size_t from = row - in_head + in_head / 2 + in_head % 2 * (head / 2);
    std::copy_n (values.begin () + static_cast<ptrdiff_t> (from * width), width,
                 ordered.begin () + static_cast<ptrdiff_t> (row * width));
  }
  return ordered;
}

inline std::vector<std::byte>
encoded (DType type, const std::vector<float> &values)
{
  const DTypeBlock block = dtype_block (type);
  std::vector<std::byte> bytes (values.size () / block.elements * block.bytes);
  if (is_block_type (type)) {
    quantize_row (type, values.data (), static_cast<int64_t> (values.size ()), bytes.data ());
    return bytes;
  }
  for (size_t i = 0; i < values.size (); ++i) {
    const uint16_t half = type == DType::kF16 ? f32_to_f16 (values[i]) : f32_to_bf16 (values[i]);
    if (type == DType::kF32)
      std::memcpy (bytes.data () + i * 4, &values[i], 4);
    else
      std::memcpy (bytes.data () + i * 2, &half, 2);
  }
  return bytes;
}

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

class GgufConverter
{
public:
  GgufConverter (const std::filesystem::path &folder, const std::filesystem::path &file,
                 const GgufConversion &conversion)
      : spec_ (load_architecture (folder / "config.json"))
      , weights_ (WeightFiles::open (folder))
      , conversion_ (conversion)
      , writer_ (file)
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

  template <typename T>
  void set (const std::string &key, T value)
  {
    if (!conversion_.without.contains (key))
      writer_.set (key, value);
  }
  template <typename T>
  void set_own (const std::string &key, T value)
  {
    set (architecture () + "." + key, value);
  }

  void write_metadata ()
  {
    const AttentionSpec &attention = common_attention ();
    set ("general.architecture", architecture ());
    set_own ("block_count", static_cast<uint32_t> (spec_.layers.size ()));
    set_own ("context_length", static_cast<uint32_t> (spec_.max_positions));
    set_own ("embedding_length", static_cast<uint32_t> (spec_.hidden));
    if (const auto *moe = std::get_if<MoeSpec> (&spec_.layers[0].channel)) {
      set_own ("feed_forward_length", static_cast<uint32_t> (4 * moe->intermediate)); // of no layer
      set_own ("expert_count", static_cast<uint32_t> (moe->experts));
      set_own ("expert_used_count", static_cast<uint32_t> (moe->chosen));
      set_own ("expert_feed_forward_length", static_cast<uint32_t> (moe->intermediate));
    } else {
      set_own ("feed_forward_length",
               static_cast<uint32_t> (std::get<MlpSpec> (spec_.layers[0].channel).intermediate));
    }
    set_own ("attention.head_count", static_cast<uint32_t> (attention.heads));
    set_own ("attention.head_count_kv", static_cast<uint32_t> (attention.kv_heads));
    set_own ("attention.key_length", static_cast<uint32_t> (attention.head_dim));
    set_own ("attention.value_length", static_cast<uint32_t> (attention.head_dim));
    set_own ("attention.layer_norm_rms_epsilon", static_cast<float> (spec_.norm_epsilon));
    set_own ("rope.freq_base", static_cast<float> (attention.rope.theta));
    set_own ("rope.dimension_count", static_cast<uint32_t> (attention.rope.dimensions));
    if (attention.rope.theta != attention_of (0).rope.theta)
      set_own ("rope.freq_base_swa", static_cast<float> (attention_of (0).rope.theta));
    if (attention.rope.scaling == RopeSpec::Scaling::kLinear) {
      set_own ("rope.scaling.type", std::string ("linear"));
      set_own ("rope.scaling.factor", static_cast<float> (attention.rope.factor));
    }
    if (attention.rope.scaling == RopeSpec::Scaling::kYarn) {
      set_own ("rope.scaling.type", std::string ("yarn"));
      set_own ("rope.scaling.factor", static_cast<float> (attention.rope.factor));
      set_own ("rope.scaling.original_context_length",
               static_cast<uint32_t> (attention.rope.original_max_positions));
    }
    write_own_metadata ();
    if (attention.rope.scaling == RopeSpec::Scaling::kLongRope) {
      set_own ("rope.scaling.attn_factor", static_cast<float> (attention.rope.attention_factor));
      set_own ("rope.scaling.original_context_length",
               static_cast<uint32_t> (attention.rope.original_max_positions));
    }
    if (conversion_.more)
      conversion_.more (writer_);
  }

  void plan (const std::string &from, const std::string &name, int paired = 0)
  {
    if (from.empty () || conversion_.without.contains (name))
      return;
    const TensorView *tensor = weights_.find (from);
    if (!tensor)
      throw std::runtime_error ("no tensor " + from);
    std::vector<float> values = float_values (*tensor, paired);
    for (float &value : values)
      value += name.find ("norm.weight") == std::string::npos ? 0.0f : static_cast<float> (spec_.norm_offset);
    DType type = tensor->shape.size () < 2 ? DType::kF32 : conversion_.type (name, tensor->shape);
    std::vector<std::byte> bytes = encoded (type, values);
    if (conversion_.dequantized && is_block_type (type)) {
      dequantize_row (type, bytes.data (), static_cast<int64_t> (values.size ()), values.data ());
      type = DType::kF32;
      bytes = encoded (type, values);
    }
    planned_.push_back ({name, type, tensor->shape, std::move (bytes)});
  }

  void plan_factors (const std::string &name, const std::vector<float> &factors)
  {
    planned_.push_back (
        {name, DType::kF32, {static_cast<int64_t> (factors.size ())}, encoded (DType::kF32, factors)});
  }

  /// One tensor of all experts' ones, whose numbers take the place of '*' in `pattern`.
  void plan_experts (const MoeSpec &moe, const std::string &pattern, const std::string &name)
  {
    for (int i = 0; i < moe.experts; ++i) {
      std::string from = pattern;
      plan (from.replace (from.find ('*'), 1, std::to_string (i)), name);
      if (i == 0) {
        planned_.back ().shape.insert (planned_.back ().shape.begin (), moe.experts);
        continue;
      }
      Planned expert = std::move (planned_.back ());
      planned_.pop_back ();
      std::vector<std::byte> &bytes = planned_.back ().bytes;
      bytes.insert (bytes.end (), expert.bytes.begin (), expert.bytes.end ());
    }
  }

  void plan_tensors ()
  {
    plan (spec_.embedding_tensor, "token_embd.weight");
    plan (spec_.final_norm_tensor, "output_norm.weight");
    if (!spec_.tied_head)
      plan (spec_.head_tensor, "output.weight");
    for (size_t i = 0; i < spec_.layers.size (); ++i) {
      const AttentionTensors &names = attention_of (i).tensors;
      const std::string prefix = "blk." + std::to_string (i) + ".";
      const int paired = is_paired () ? attention_of (i).head_dim : 0;
      const bool fused = names.q == names.k;
      plan (spec_.layers[i].mixer_norms.pre, prefix + "attn_norm.weight");
      plan (spec_.layers[i].mixer_norms.post, prefix + "post_attention_norm.weight");
      plan (spec_.layers[i].channel_norms.pre, prefix + "ffn_norm.weight");
      plan (spec_.layers[i].channel_norms.post, prefix + "post_ffw_norm.weight");
      plan (names.q, prefix + (fused ? "attn_qkv.weight" : "attn_q.weight"), paired);
      if (!fused) {
        plan (names.k, prefix + "attn_k.weight", paired);
        plan (names.v, prefix + "attn_v.weight");
      }
      plan (names.o, prefix + "attn_output.weight");
      plan (names.q_bias, prefix + "attn_q.bias", paired);
      plan (names.k_bias, prefix + "attn_k.bias", paired);
      plan (names.v_bias, prefix + "attn_v.bias");
      plan (names.o_bias, prefix + "attn_output.bias");
      plan (names.q_norm, prefix + "attn_q_norm.weight");
      plan (names.k_norm, prefix + "attn_k_norm.weight");
      if (const auto *moe = std::get_if<MoeSpec> (&spec_.layers[i].channel)) {
        plan (moe->routing.router, prefix + "ffn_gate_inp.weight");
        plan_experts (*moe, moe->tensors.gate, prefix + "ffn_gate_exps.weight");
        plan_experts (*moe, moe->tensors.up, prefix + "ffn_up_exps.weight");
        plan_experts (*moe, moe->tensors.down, prefix + "ffn_down_exps.weight");
        continue;
      }
      const MlpTensors &mlp = std::get<MlpSpec> (spec_.layers[i].channel).tensors;
      if (mlp.gate != mlp.up)
        plan (mlp.gate, prefix + "ffn_gate.weight");
      plan (mlp.up, prefix + "ffn_up.weight");
      plan (mlp.down, prefix + "ffn_down.weight");
      plan (mlp.gate_bias, prefix + "ffn_gate.bias");
      plan (mlp.up_bias, prefix + "ffn_up.bias");
      plan (mlp.down_bias, prefix + "ffn_down.bias");
    }
    const RopeSpec &rope = attention_of (0).rope;
    if (rope.scaling == RopeSpec::Scaling::kLongRope) {
      plan_factors ("rope_factors_short.weight", rope.frequency_factors);
      plan_factors ("rope_factors_long.weight", rope.long_frequency_factors);
    }
    if (rope.scaling == RopeSpec::Scaling::kLlama3) {
      plan_factors ("rope_freqs.weight", rope_factors_of (rope));
    }
  }

  std::string architecture () const
  {
    return spec_.family == "gemma3_text" ? "gemma3" : spec_.family == "qwen3_moe" ? "qwen3moe" : spec_.family;
  }
  bool is_paired () const
  {
    return spec_.family == "llama" || spec_.family == "granite" || spec_.family == "smollm3";
  }

  /// Of a layer that sees everything, where there is one.
  const AttentionSpec &common_attention () const
  {
    for (size_t i = 0; i < spec_.layers.size (); ++i)
      if (attention_of (i).window == 0)
        return attention_of (i);
    return attention_of (0);
  }

  /// What these families' converters write beside the rest.
  void write_own_metadata ()
  {
    int window = 0;
    for (size_t i = 0; i < spec_.layers.size (); ++i)
      if (attention_of (i).window > 0)
        window = attention_of (i).window;
    if (window > 0)
      set_own ("attention.sliding_window", static_cast<uint32_t> (window));
    write_caps ();
    if (spec_.family != "granite")
      return;
    set_own ("embedding_scale", static_cast<float> (spec_.embedding_scale));
    set_own ("residual_scale", static_cast<float> (spec_.residual_multiplier));
    set_own ("attention.scale", static_cast<float> (attention_of (0).scale));
    set_own ("logit_scale", static_cast<float> (1 / spec_.logit_scale));
  }
  void write_caps ()
  {
    if (attention_of (0).softcap > 0)
      set_own ("attn_logit_softcapping", static_cast<float> (attention_of (0).softcap));
    if (spec_.logit_softcap > 0)
      set_own ("final_logit_softcapping", static_cast<float> (spec_.logit_softcap));
  }

  const AttentionSpec &attention_of (size_t layer) const
  {
    return std::get<AttentionSpec> (spec_.layers[layer].mixer);
  }

  ArchitectureSpec spec_;
  WeightFiles weights_;
  const GgufConversion &conversion_;
  GgufWriter writer_;
  std::vector<Planned> planned_;
};

/// Writes the checkpoint in `folder` to `file`.
inline void
write_gguf_model (const std::filesystem::path &folder, const std::filesystem::path &file,
                  const GgufConversion &conversion = {})
{
  GgufConverter (folder, file, conversion).run ();
}

} // namespace millrace::testing
