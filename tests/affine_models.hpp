// Checkpoints as MLX writes them: matrices in codes with scales and biases, and the same ones as floats.
#pragma once

#include "tests/quantized_rows.hpp"
#include "tests/raw_safetensors.hpp"

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace millrace::testing
{

inline std::string
scale_dtype (cpu::ScaleType type)
{
  return type == cpu::ScaleType::kF16 ? "F16" : type == cpu::ScaleType::kBF16 ? "BF16" : "F32";
}

/// The three tensors of a matrix; `values` become what they mean.
inline std::vector<RawTensor>
affine_tensors (SyntheticTensor &tensor, const cpu::AffineFormat &affine)
{
  const int64_t rows = tensor.shape[0], columns = tensor.shape[1];
  const std::string module = tensor.name.substr (0, tensor.name.size () - std::string (".weight").size ());
  const int64_t groups = columns / affine.group;
  RawTensor codes{tensor.name, "U32", {rows, columns * affine.bits / 32}, ""};
  RawTensor scales{module + ".scales", scale_dtype (affine.scales), {rows, groups}, ""};
  RawTensor biases{module + ".biases", scale_dtype (affine.scales), {rows, groups}, ""};
  for (int64_t row = 0; row < rows; ++row) {
    const auto begin = tensor.values.begin () + row * columns;
    const StoredRow stored = affine_row (affine, {begin, begin + columns});
    const AffineParts parts (affine, static_cast<int> (columns));
    const auto *bytes = reinterpret_cast<const char *> (stored.data ());
    codes.bytes.append (bytes, parts.scales);
    scales.bytes.append (bytes + parts.scales, parts.biases - parts.scales);
    biases.bytes.append (bytes + parts.biases, parts.bytes - parts.biases);
    const auto meant = affine_values (affine, stored, static_cast<int> (columns));
    std::copy (meant.begin (), meant.end (), begin);
  }
  return {codes, scales, biases};
}

struct AffineCheckpoint {
  std::vector<RawTensor> tensors;     ///< as MLX has them
  std::vector<SyntheticTensor> plain; ///< what they mean, as float32
};

/// `format` says how a matrix is stored; none: as it is.
inline AffineCheckpoint
affine_checkpoint (std::vector<SyntheticTensor> tensors,
                   const std::function<std::optional<cpu::AffineFormat> (const std::string &name)> &format)
{
  AffineCheckpoint checkpoint;
  for (SyntheticTensor &tensor : tensors) {
    const auto affine = tensor.shape.size () == 2 ? format (tensor.name) : std::nullopt;
    if (affine)
      for (RawTensor &part : affine_tensors (tensor, *affine))
        checkpoint.tensors.push_back (std::move (part));
    else
      checkpoint.tensors.push_back (
          {tensor.name, std::string (dtype_name (tensor.dtype)), tensor.shape, encode_values (tensor)});
    checkpoint.plain.push_back (std::move (tensor));
  }
  return checkpoint;
}

/// config.json of the model with `quantization`, JSON.
inline std::string
affine_config (const SyntheticModel &model, const std::string &quantization)
{
  std::string config = synthetic_config (model);
  config.pop_back ();
  return config + ",\"quantization\":" + quantization + ",\"quantization_config\":" + quantization + "}";
}

} // namespace millrace::testing
