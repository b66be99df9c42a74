// Rotary position embedding, as values. Part of architecture_spec.hpp.
#pragma once

#include <cstdint>
#include <vector>

namespace millrace
{

/// Rotary position embedding; rotates the first `dimensions` of each head (of an odd number one more), halves paired (i, i + d/2).
/// Source: RoFormer, arXiv 2104.09864; scalings as in transformers' modeling_rope_utils.
struct RopeSpec {
  enum class Scaling : uint8_t { kNone, kLinear, kLlama3, kYarn, kLongRope, kProportional };

  int dimensions = 0; ///< 0: positions are not embedded
  double theta = 10000.0;
  Scaling scaling = Scaling::kNone;
  double factor = 1.0;
  double low_freq_factor = 1.0;  ///< llama3
  double high_freq_factor = 4.0; ///< llama3
  double beta_fast = 32.0;       ///< yarn
  double beta_slow = 1.0;        ///< yarn
  bool truncate = true;          ///< yarn: correction range rounded to whole dimensions
  double attention_factor = 1.0; ///< multiplies cos and sin (yarn, longrope)
  int rotated = 0;               ///< elements that turn; proportional: those whose frequency is not 0
  int original_max_positions = 0;
  /// Divide the inverse frequencies one by one, after any scaling; empty: none. So do GGUF files of Llama 3 say what
  /// kLlama3 computes, and kLongRope what holds up to original_max_positions.
  std::vector<float> frequency_factors = {};
  /// longrope: instead of frequency_factors, in sequences that may become longer than original_max_positions
  std::vector<float> long_frequency_factors = {};

  int pairs () const { return (dimensions + 1) / 2; }
};

/// Inverse frequencies, float32 as the reference computes them; size pairs ().
std::vector<float> rope_inverse_frequencies (const RopeSpec &rope);

/// Those of kLongRope's long sequences; empty for the others.
std::vector<float> rope_long_inverse_frequencies (const RopeSpec &rope);

} // namespace millrace
