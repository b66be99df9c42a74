// Matrices of safetensors files whose elements are codes of a few bits with a scale and a bias for each group of a row, as MLX
// writes them.
//
// A matrix NAME.weight [outputs, inputs] is three tensors: NAME.weight, uint32 [outputs, inputs · bits / 32]; NAME.scales and
// NAME.biases, floats [outputs, inputs / group]. A row's codes follow each other without gaps, each from its lowest bit on,
// in the words from their lowest bits on.                      w = scale · code + bias
// Which matrices are such, and their bits and groups, stands in config.json (engine/model/quantization.hpp).
// Modules may instead be of 4-bit floats: mxfp4_matrix.hpp. Source: MLX, mlx.core.quantize and mlx.nn.quantize; mlx-lm for config.json. Values; any thread.
#pragma once

#include "engine/tensor/tensor_view.hpp"
#include "engine/weights/affine_codes.hpp"

#include <cstddef>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace millrace
{

struct AffineSettings {
  struct Codes : AffineCodes {
    bool mxfp4 = false; ///< of 4-bit floats, and not affine
  };
  Codes common;
  /// Of modules (a matrix's name without ".weight") that differ; none: the module is not quantized.
  std::map<std::string, std::optional<Codes>, std::less<>> modules;

  /// None: not quantized.
  std::optional<Codes> of (std::string_view module) const;
};

struct AffineTensor {
  AffineCodes codes;
  int64_t inputs = 0; ///< elements of a row
  DType scale_type = DType::kF32;
  std::span<const std::byte> data, scales, biases;           ///< rows one after the other, not aligned
  std::span<const std::byte> scales_mapping, biases_mapping; ///< the mappings they lie in

  size_t row_bytes () const { return static_cast<size_t> (inputs) * static_cast<size_t> (codes.bits) / 8; }
  /// Of scales, and of biases.
  size_t scale_row_bytes () const
  {
    return static_cast<size_t> (inputs / codes.group) * dtype_bytes (scale_type);
  }
};

/// Row `row` as floats.
void dequantize_affine_row (const AffineTensor &tensor, size_t row, float *out);

} // namespace millrace
