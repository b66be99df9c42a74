// Inverse frequencies of rotary position embeddings, in float32 as the reference computes them.
//
// Every step rounds to float32 where torch does: scalars become float32 before they meet a tensor, while
// arithmetic between scalars (the YaRN correction range) is double. The power is taken in double and rounded
// once, the nearest float32, whatever the math library's powf does.
// Source: transformers' modeling_rope_utils (_compute_default, linear, llama3, yarn, longrope and
// proportional _parameters);
// YaRN, arXiv 2309.00071, §3.2.
#include "engine/model/architecture_spec.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace millrace
{

namespace
{

/// theta^(2i/d): the wavelengths over 2π.
std::vector<float>
position_frequencies (const RopeSpec &rope)
{
  std::vector<float> frequencies;
  for (int i = 0; i < rope.dimensions; i += 2) {
    const float exponent = static_cast<float> (i) / static_cast<float> (rope.dimensions);
    frequencies.push_back (
        static_cast<float> (std::pow (static_cast<float> (rope.theta), static_cast<double> (exponent))));
  }
  return frequencies;
}

/// Low frequencies are divided by factor, high ones kept, those between blended.
float
llama3_frequency (const RopeSpec &rope, float frequency)
{
  const auto factor = static_cast<float> (rope.factor);
  const auto low_wavelength = static_cast<float> (rope.original_max_positions / rope.low_freq_factor);
  const auto high_wavelength = static_cast<float> (rope.original_max_positions / rope.high_freq_factor);
  const float wavelength = static_cast<float> (2 * std::numbers::pi) / frequency;
  if (wavelength > low_wavelength)
    return frequency / factor;
  if (wavelength < high_wavelength)
    return frequency;
  const float smooth = (static_cast<float> (rope.original_max_positions) / wavelength -
                        static_cast<float> (rope.low_freq_factor)) /
                       static_cast<float> (rope.high_freq_factor - rope.low_freq_factor);
  return (1.0f - smooth) * frequency / factor + smooth * frequency;
}

/// The dimension that turns `rotations` times within the original context.
double
yarn_dimension (const RopeSpec &rope, double rotations)
{
  return rope.dimensions * std::log (rope.original_max_positions / (rotations * 2 * std::numbers::pi)) /
         (2 * std::log (rope.theta));
}

/// Dimensions below the correction range keep their frequency, those above are interpolated.
std::vector<float>
yarn_frequencies (const RopeSpec &rope)
{
  double low = yarn_dimension (rope, rope.beta_fast);
  double high = yarn_dimension (rope, rope.beta_slow);
  if (rope.truncate) {
    low = std::floor (low);
    high = std::ceil (high);
  }
  low = std::max (low, 0.0);
  high = std::min (high, static_cast<double> (rope.dimensions - 1));
  if (low == high)
    high += 0.001;
  std::vector<float> frequencies = position_frequencies (rope);
  for (size_t i = 0; i < frequencies.size (); ++i) {
    const float position =
        (static_cast<float> (i) - static_cast<float> (low)) / static_cast<float> (high - low);
    const float keep = 1.0f - std::clamp (position, 0.0f, 1.0f);
    const float kept = 1.0f / frequencies[i];
    const float interpolated = 1.0f / (static_cast<float> (rope.factor) * frequencies[i]);
    frequencies[i] = interpolated * (1.0f - keep) + kept * keep;
  }
  return frequencies;
}

/// Each wavelength is stretched by a factor of its own.
std::vector<float>
longrope_frequencies (const RopeSpec &rope, const std::vector<float> &factors)
{
  std::vector<float> frequencies = position_frequencies (rope);
  for (size_t i = 0; i < frequencies.size (); ++i)
    frequencies[i] = 1.0f / ((i < factors.size () ? factors[i] : 1.0f) * frequencies[i]);
  return frequencies;
}

/// Those of a whole head, of which only the first turn.
std::vector<float>
proportional_frequencies (const RopeSpec &rope)
{
  std::vector<float> frequencies = position_frequencies (rope);
  for (size_t i = 0; i < frequencies.size (); ++i)
    frequencies[i] = static_cast<int> (i) < rope.rotated / 2
                         ? 1.0f / frequencies[i] / static_cast<float> (rope.factor)
                         : 0.0f;
  return frequencies;
}

std::vector<float>
scaled_frequencies (const RopeSpec &rope)
{
  if (rope.scaling == RopeSpec::Scaling::kYarn)
    return yarn_frequencies (rope);
  if (rope.scaling == RopeSpec::Scaling::kProportional)
    return proportional_frequencies (rope);
  std::vector<float> frequencies = position_frequencies (rope);
  for (float &frequency : frequencies) {
    frequency = 1.0f / frequency;
    if (rope.scaling == RopeSpec::Scaling::kLinear)
      frequency /= static_cast<float> (rope.factor);
    else if (rope.scaling == RopeSpec::Scaling::kLlama3)
      frequency = llama3_frequency (rope, frequency);
  }
  return frequencies;
}

} // namespace

std::vector<float>
rope_inverse_frequencies (const RopeSpec &rope)
{
  if (rope.scaling == RopeSpec::Scaling::kLongRope)
    return longrope_frequencies (rope, rope.frequency_factors);
  std::vector<float> frequencies = scaled_frequencies (rope);
  for (size_t i = 0; i < std::min (frequencies.size (), rope.frequency_factors.size ()); ++i)
    frequencies[i] /= rope.frequency_factors[i];
  return frequencies;
}

std::vector<float>
rope_long_inverse_frequencies (const RopeSpec &rope)
{
  if (rope.scaling != RopeSpec::Scaling::kLongRope)
    return {};
  return longrope_frequencies (rope, rope.long_frequency_factors);
}

int
kv_variant (const ArchitectureSpec &spec, int positions)
{
  for (const LayerSpec &layer : spec.layers) {
    const auto *attention = std::get_if<AttentionSpec> (&layer.mixer);
    if (attention && attention->rope.scaling == RopeSpec::Scaling::kLongRope)
      return positions <= attention->rope.original_max_positions ? 1 : 0;
  }
  return 0;
}

} // namespace millrace
