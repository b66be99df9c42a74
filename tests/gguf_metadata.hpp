// What converters write of a checkpoint's configuration into a GGUF file. Source: llama.cpp's convert_hf_to_gguf.py and gguf-py, MIT.
#pragma once

#include "engine/model/config.hpp"
#include "engine/weights/gguf_writer.hpp"

#include <simdjson.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <variant>
#include <vector>

namespace millrace::testing
{

struct GgufConversion {
  /// The type of a matrix; vectors and what converters never quantize are F32.
  std::function<DType (const std::string &name, const Shape &shape)> type = [] (const auto &, const auto &) {
    return DType::kF32;
  };
  std::function<void (GgufWriter &writer)> more = {}; ///< more metadata
  std::set<std::string> without;                      ///< keys and tensors that are left out
  bool dequantized = false;                           ///< as F32 the values that a file of type () would have
  bool older = false;                                 ///< as the first converters of an architecture did it
};

class GgufMetadata
{
protected:
  GgufMetadata (const std::filesystem::path &folder, const std::filesystem::path &file,
                const GgufConversion &conversion)
      : spec_ (load_architecture (folder / "config.json"))
      , conversion_ (conversion)
      , writer_ (file)
  {
    if (parser_.load ((folder / "config.json").string ()).get (config_))
      throw std::runtime_error ("no config.json");
    if (simdjson::dom::element text; !config_["text_config"].get (text))
      config_ = text;
  }

  std::string architecture () const
  {
    static const std::map<std::string, std::string> kNames = {
        {"deepseek_v2", "deepseek2"}, {"deepseek_v3", "deepseek2"}, {"glm4_moe_lite", "deepseek2"},
        {"gemma3_text", "gemma3"},    {"gemma4_text", "gemma4"},    {"glm4_moe", "glm4moe"},
        {"gpt_oss", "gpt-oss"},       {"mistral", "llama"},         {"olmo3", "olmo2"},
        {"qwen3_5_text", "qwen35"},   {"qwen3_5", "qwen35"},        {"qwen3_5_moe_text", "qwen35moe"},
        {"qwen3_5_moe", "qwen35moe"}, {"qwen3_moe", "qwen3moe"},    {"qwen3_next", "qwen3next"},
    };
    if (spec_.family == "nemotron_h")
      return moe () ? "nemotron_h_moe" : "nemotron_h";
    const auto found = kNames.find (spec_.family);
    return found == kNames.end () ? spec_.family : found->second;
  }
  bool is_paired () const
  {
    return architecture () == "llama" || architecture () == "granite" || architecture () == "smollm3";
  }

  void write_metadata ()
  {
    set ("general.architecture", architecture ());
    number ("block_count", spec_.layers.size ());
    number ("context_length", spec_.max_positions);
    number ("embedding_length", spec_.hidden);
    if (spec_.family == "nemotron_h")
      number ("attention.layer_norm_epsilon", spec_.norm_epsilon);
    else
      number ("attention.layer_norm_rms_epsilon", spec_.norm_epsilon);
    write_widths ();
    if (const MoeSpec *experts = moe ())
      write_experts (*experts);
    if (first<AttentionSpec> ())
      write_attention (common_attention ());
    if (const auto *latent = first<LatentAttentionSpec> ())
      write_latent_attention (*latent);
    if (const auto *delta = first<GatedDeltaSpec> ())
      write_delta (*delta);
    if (const auto *mamba = first<Mamba2Spec> ())
      write_mamba (*mamba);
    if (spec_.logit_softcap > 0)
      number ("final_logit_softcapping", spec_.logit_softcap);
    if (spec_.family == "granite") {
      number ("embedding_scale", spec_.embedding_scale);
      number ("residual_scale", spec_.residual_multiplier);
      number ("attention.scale", common_attention ().scale);
      number ("logit_scale", 1 / spec_.logit_scale);
    }
    if (conversion_.more)
      conversion_.more (writer_);
  }

  /// Of the first layer that has such a mixer, or null.
  template <typename Mixer>
  const Mixer *first () const
  {
    for (const LayerSpec &layer : spec_.layers) {
      if constexpr (std::is_same_v<Mixer, MlpSpec> || std::is_same_v<Mixer, MoeSpec>) {
        if (const auto *mixer = std::get_if<Mixer> (&layer.channel))
          return mixer;
      } else if (const auto *mixer = std::get_if<Mixer> (&layer.mixer)) {
        return mixer;
      }
    }
    return nullptr;
  }
  const MoeSpec *moe () const { return first<MoeSpec> (); }

  /// Of a layer that sees everything, where there is one.
  const AttentionSpec &common_attention () const
  {
    for (const LayerSpec &layer : spec_.layers)
      if (const auto *attention = std::get_if<AttentionSpec> (&layer.mixer);
          attention && attention->window == 0)
        return *attention;
    return *first<AttentionSpec> ();
  }

  ArchitectureSpec spec_;
  const GgufConversion &conversion_;
  GgufWriter writer_;

private:
  template <typename T>
  void set (const std::string &key, T value)
  {
    if (!conversion_.without.contains (key))
      writer_.set (key, value);
  }
  template <typename T>
  void own (const std::string &key, T value)
  {
    set (architecture () + "." + key, value);
  }
  template <typename T>
  void number (const std::string &key, T value)
  {
    if constexpr (std::is_floating_point_v<T>)
      own (key, static_cast<float> (value));
    else
      own (key, static_cast<uint32_t> (value));
  }

  /// Of MLPs; some architectures have an array.
  void write_widths ()
  {
    std::vector<int32_t> widths;
    bool differ = false;
    for (const LayerSpec &layer : spec_.layers) {
      const auto *mlp = std::get_if<MlpSpec> (&layer.channel);
      const auto *experts = std::get_if<MoeSpec> (&layer.channel);
      const bool gemma = experts && !experts->shared_norm.empty ();
      widths.push_back (mlp       ? mlp->intermediate
                        : gemma   ? experts->shared.intermediate
                        : experts ? experts->intermediate
                                  : 0);
      differ = differ || widths.back () != widths.front ();
    }
    if (spec_.family == "nemotron_h" || (spec_.family == "gemma4_text" && differ))
      own ("feed_forward_length", widths);
    else if (moe () && !first<MlpSpec> () && moe ()->shared_norm.empty ())
      number ("feed_forward_length", 4 * moe ()->intermediate); // of no layer
    else
      number ("feed_forward_length", widths.front ());
  }

  void write_experts (const MoeSpec &experts)
  {
    number ("expert_count", experts.experts);
    number ("expert_used_count", experts.chosen);
    number ("expert_feed_forward_length", experts.intermediate);
    if (!experts.shared_gate.empty ())
      number ("expert_shared_feed_forward_length", experts.shared.intermediate);
    const std::string name = architecture ();
    if (name != "deepseek2" && name != "glm4moe" && name != "nemotron_h_moe")
      return;
    const RoutingSpec &routing = experts.routing;
    number ("expert_group_count", routing.groups);
    number ("expert_group_used_count", routing.chosen_groups);
    number ("expert_weights_scale", routing.scale);
    if (routing.normalized)
      own ("expert_weights_norm", true);
    if (name != "nemotron_h_moe")
      number ("expert_gating_func", routing.scores == RoutingSpec::Scores::kSigmoid ? 2 : 1);
    if (name == "nemotron_h_moe") {
      number ("expert_shared_count", experts.shared.intermediate > 0 ? 1 : 0);
      number ("expert_shared_feed_forward_length", experts.shared.intermediate);
      return;
    }
    number ("expert_shared_count", experts.shared.intermediate / experts.intermediate);
    int dense = 0;
    while (std::holds_alternative<MlpSpec> (spec_.layers[static_cast<size_t> (dense)].channel))
      ++dense;
    number ("leading_dense_block_count", dense);
  }

  void write_attention (const AttentionSpec &attention)
  {
    number ("attention.head_count", attention.heads);
    number ("attention.key_length", attention.head_dim);
    number ("attention.value_length", attention.head_dim);
    std::vector<int32_t> kv_heads;
    std::vector<bool> sliding;
    int window = 0;
    const AttentionSpec *windowed = nullptr;
    for (const LayerSpec &layer : spec_.layers) {
      const auto *own_attention = std::get_if<AttentionSpec> (&layer.mixer);
      kv_heads.push_back (own_attention ? own_attention->kv_heads : 0);
      sliding.push_back (own_attention && own_attention->window > 0);
      if (sliding.back ()) {
        window = own_attention->window;
        windowed = own_attention;
      }
    }
    const std::string name = architecture ();
    const bool array =
        name.starts_with ("nemotron_h") ||
        (name == "gemma4" && !std::ranges::all_of (kv_heads, [&] (int n) { return n == kv_heads[0]; }));
    if (array)
      own ("attention.head_count_kv", kv_heads);
    else
      number ("attention.head_count_kv", attention.kv_heads);
    if (window > 0)
      number ("attention.sliding_window", window);
    if ((spec_.family == "olmo3" || name == "gemma4" || name == "gemma3") && !conversion_.older)
      own ("attention.sliding_window_pattern", sliding);
    if (attention.softcap > 0)
      number ("attn_logit_softcapping", attention.softcap);
    if (name == "gemma4")
      write_gemma4 (*(windowed ? windowed : &attention));
    if (attention.rope.dimensions > 0)
      write_rope (attention.rope, windowed);
  }

  void write_gemma4 (const AttentionSpec &windowed)
  {
    number ("attention.key_length_swa", windowed.head_dim);
    number ("attention.value_length_swa", windowed.head_dim);
    int shared = 0;
    for (const LayerSpec &layer : spec_.layers)
      shared += std::get<AttentionSpec> (layer.mixer).kv_of_layer >= 0;
    number ("attention.shared_kv_layers", shared);
    number ("embedding_length_per_layer_input", spec_.layer_inputs.width);
    number ("rope.dimension_count_swa", windowed.rope.dimensions);
  }

  void write_rope (const RopeSpec &rope, const AttentionSpec *windowed)
  {
    number ("rope.freq_base", rope.theta);
    number ("rope.dimension_count", rope.dimensions);
    if (windowed && windowed->rope.theta != rope.theta)
      number ("rope.freq_base_swa", windowed->rope.theta);
    if (rope.scaling == RopeSpec::Scaling::kLinear) {
      own ("rope.scaling.type", std::string ("linear"));
      number ("rope.scaling.factor", rope.factor);
    }
    if (rope.scaling == RopeSpec::Scaling::kYarn) {
      own ("rope.scaling.type", std::string ("yarn"));
      number ("rope.scaling.factor", rope.factor);
      number ("rope.scaling.original_context_length", rope.original_max_positions);
      number ("rope.scaling.yarn_beta_fast", rope.beta_fast);
      number ("rope.scaling.yarn_beta_slow", rope.beta_slow);
      if (const double factor = parameter ("attention_factor"); factor > 0)
        number ("rope.scaling.yarn_attn_factor", factor);
    }
    if (rope.scaling == RopeSpec::Scaling::kLongRope) {
      number ("rope.scaling.attn_factor", rope.attention_factor);
      number ("rope.scaling.original_context_length", rope.original_max_positions);
    }
  }

  /// Of config.json's rope_parameters, or those of full attention; 0: there is none.
  double parameter (const char *name) const
  {
    simdjson::dom::element parameters, full;
    double value = 0;
    for (const char *key : {"rope_parameters", "rope_scaling"}) {
      if (config_[key].get (parameters))
        continue;
      if (!parameters["full_attention"].get (full))
        parameters = full;
      if (!parameters[name].get (value))
        return value;
    }
    return 0;
  }

  void write_latent_attention (const LatentAttentionSpec &attention)
  {
    number ("attention.head_count", attention.heads);
    number ("attention.head_count_kv", conversion_.older ? attention.heads : 1);
    if (attention.q_rank > 0)
      number ("attention.q_lora_rank", attention.q_rank);
    number ("attention.kv_lora_rank", attention.kv_rank);
    const int keys = attention.plain + attention.rotated;
    number ("attention.key_length", conversion_.older ? keys : attention.kv_rank + attention.rotated);
    number ("attention.value_length", conversion_.older ? attention.value_dim : attention.kv_rank);
    if (!conversion_.older) {
      number ("attention.key_length_mla", keys);
      number ("attention.value_length_mla", attention.value_dim);
    }
    write_rope (attention.rope, nullptr);
    if (const double all = parameter ("mscale_all_dim"); all > 0)
      number ("rope.scaling.yarn_log_multiplier", 0.1 * all);
  }

  void write_delta (const GatedDeltaSpec &delta)
  {
    number ("ssm.conv_kernel", delta.taps);
    number ("ssm.state_size", delta.key_dim);
    number ("ssm.group_count", delta.key_heads);
    number ("ssm.time_step_rank", delta.value_heads);
    number ("ssm.inner_size", delta.value_heads * delta.value_dim);
    std::vector<bool> recurrent;
    for (const LayerSpec &layer : spec_.layers)
      recurrent.push_back (std::holds_alternative<GatedDeltaSpec> (layer.mixer));
    if (conversion_.older)
      number ("full_attention_interval", std::ranges::find (recurrent, false) - recurrent.begin () + 1);
    else
      own ("attention.recurrent_layers", recurrent);
  }

  void write_mamba (const Mamba2Spec &mamba)
  {
    number ("ssm.conv_kernel", mamba.taps);
    number ("ssm.state_size", mamba.state);
    number ("ssm.group_count", mamba.groups);
    number ("ssm.time_step_rank", mamba.heads);
    number ("ssm.inner_size", mamba.heads * mamba.head_dim);
  }

  simdjson::dom::parser parser_;
  simdjson::dom::element config_;
};

} // namespace millrace::testing
