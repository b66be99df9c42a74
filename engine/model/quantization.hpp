// What config.json says of quantized weights → how a checkpoint's tensors make up matrices.
//
// `quantization`, an object as mlx-lm writes it: group_size, bits, mode ("affine" or absent, or "mxfp4"), and under the paths of
// modules what differs: false (not quantized), true, or an object like it.
// `quantization_config` (or, of older files, `compression_config`), by its quant_method: fp8, mxfp4, gptq, awq, compressed-tensors;
// others are refused by name. Which matrices are quantized is seen by their tensors. Every value is checked; wrong ones are
// LoadErrors.
#pragma once

#include "engine/weights/affine_tensor.hpp"
#include "engine/weights/fp8_matrix.hpp"
#include "engine/weights/integer_matrix.hpp"
#include "engine/weights/mxfp4_matrix.hpp"

#include <filesystem>
#include <optional>
#include <variant>

namespace millrace
{

class JsonFields;
class WeightFiles;

using WeightCoding =
    std::variant<AffineSettings, Fp8Coding, Mxfp4Coding, GptqCoding, AwqCoding, PackedCoding>;

/// None when config.json has no such object. Throws LoadError.
std::optional<WeightCoding> load_quantization (const std::filesystem::path &config_json);
/// The same of what was read already.
std::optional<WeightCoding> quantization_of (const JsonFields &config);

/// Puts matrices together as `coding` says. Throws LoadError.
void apply_quantization (WeightFiles &files, const WeightCoding &coding);

} // namespace millrace
