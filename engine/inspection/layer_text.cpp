#include "engine/inspection/layer_text.hpp"

#include <algorithm>
#include <cstdio>

namespace millrace
{

namespace
{

std::string
number (double value)
{
  char text[32];
  std::snprintf (text, sizeof text, "%g", value);
  return text;
}

std::string
mixer_text (std::monostate)
{
  return "none";
}

std::string
mixer_text (const AttentionSpec &attention)
{
  std::string text = attention.window > 0 ? "attention in a window of " + std::to_string (attention.window)
                                          : "full attention";
  if (attention.kv_of_layer >= 0)
    text += ", keys and values of an earlier layer";
  if (attention.output_gate)
    text += ", gated";
  if (!attention.tensors.sinks.empty ())
    text += ", with sinks";
  return text;
}

std::string
mixer_text (const LatentAttentionSpec &)
{
  return "latent attention";
}

std::string
mixer_text (const GatedDeltaSpec &)
{
  return "gated delta rule";
}

std::string
mixer_text (const Mamba2Spec &)
{
  return "Mamba-2";
}

std::string
mixer_text (const MlpSpec &mlp)
{
  return "MLP of " + std::to_string (mlp.intermediate);
}

std::string
mixer_text (const MoeSpec &moe)
{
  std::string text = std::to_string (moe.chosen) + " of " + std::to_string (moe.experts) + " experts of " +
                     std::to_string (moe.intermediate);
  if (moe.shared.intermediate > 0)
    text += ", and one of " + std::to_string (moe.shared.intermediate) + " for all";
  return text;
}

std::string
head_text (std::monostate)
{
  return {};
}

std::string
head_text (const AttentionSpec &attention)
{
  return std::to_string (attention.heads) + " of " + std::to_string (attention.head_dim) + ", " +
         std::to_string (attention.kv_heads) + " of keys and values";
}

std::string
head_text (const LatentAttentionSpec &attention)
{
  return std::to_string (attention.heads) + " of " + std::to_string (attention.plain) + " + " +
         std::to_string (attention.rotated) + ", values of " + std::to_string (attention.value_dim) +
         ", one latent of " + std::to_string (attention.kv_rank) + " for all";
}

std::string
head_text (const GatedDeltaSpec &delta)
{
  return std::to_string (delta.value_heads) + " of " + std::to_string (delta.value_dim) + ", " +
         std::to_string (delta.key_heads) + " of keys of " + std::to_string (delta.key_dim) + " (recurrent)";
}

std::string
head_text (const Mamba2Spec &mamba)
{
  return std::to_string (mamba.heads) + " of " + std::to_string (mamba.head_dim) + ", " +
         std::to_string (mamba.groups) + " groups of " + std::to_string (mamba.state) + " (recurrent)";
}

const char *
scaling_name (RopeSpec::Scaling scaling)
{
  switch (scaling) {
  case RopeSpec::Scaling::kNone:
    break;
  case RopeSpec::Scaling::kLinear:
    return "linear";
  case RopeSpec::Scaling::kLlama3:
    return "llama3";
  case RopeSpec::Scaling::kYarn:
    return "yarn";
  case RopeSpec::Scaling::kLongRope:
    return "longrope";
  case RopeSpec::Scaling::kProportional:
    return "proportional";
  }
  return "";
}

std::string
rope_text (const RopeSpec &rope, int head_dim)
{
  if (rope.dimensions == 0)
    return "none";
  std::string text = "base " + number (rope.theta);
  if (2 * rope.pairs () < head_dim)
    text += ", " + std::to_string (2 * rope.pairs ()) + " of " + std::to_string (head_dim) + " elements";
  if (rope.scaling != RopeSpec::Scaling::kNone) {
    text += std::string (", ") + scaling_name (rope.scaling);
    if (rope.factor != 1)
      text += " by " + number (rope.factor);
    if (rope.original_max_positions > 0)
      text += " from " + std::to_string (rope.original_max_positions) + " positions";
  }
  return text;
}

void
add_new (std::vector<std::string> &texts, std::string text)
{
  if (!text.empty () && std::ranges::find (texts, text) == texts.end ())
    texts.push_back (std::move (text));
}

} // namespace

std::vector<LayerGroup>
layer_groups (const ArchitectureSpec &spec)
{
  const auto text = [] (const auto &mixer) { return mixer_text (mixer); };
  std::vector<LayerGroup> groups;
  for (const LayerSpec &layer : spec.layers) {
    const std::string mixer = std::visit (text, layer.mixer), channel = std::visit (text, layer.channel);
    const auto known = std::ranges::find_if (
        groups, [&] (const LayerGroup &group) { return group.mixer == mixer && group.channel == channel; });
    if (known == groups.end ())
      groups.push_back ({mixer, channel, 1});
    else
      ++known->layers;
  }
  return groups;
}

std::vector<std::string>
head_texts (const ArchitectureSpec &spec)
{
  std::vector<std::string> texts;
  for (const LayerSpec &layer : spec.layers)
    add_new (texts, std::visit ([] (const auto &mixer) { return head_text (mixer); }, layer.mixer));
  return texts;
}

std::vector<std::string>
rope_texts (const ArchitectureSpec &spec)
{
  std::vector<std::string> texts;
  for (const LayerSpec &layer : spec.layers) {
    if (const auto *attention = std::get_if<AttentionSpec> (&layer.mixer))
      add_new (texts, rope_text (attention->rope, attention->head_dim) +
                          (attention->window > 0 ? " (windows)" : ""));
    if (const auto *latent = std::get_if<LatentAttentionSpec> (&layer.mixer))
      add_new (texts, rope_text (latent->rope, latent->rotated));
  }
  return texts;
}

} // namespace millrace
