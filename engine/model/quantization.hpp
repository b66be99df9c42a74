// `quantization` of config.json → which matrices of a checkpoint are codes, and of how many bits.
//
// An object as mlx-lm writes it: group_size, bits, mode ("affine" or absent), and under the paths of modules what differs:
// false (not quantized), true, or an object of group_size and bits. Every value is checked; wrong ones are LoadErrors.
#pragma once

#include "engine/weights/affine_tensor.hpp"

#include <filesystem>
#include <optional>

namespace millrace
{

/// None when config.json has no such object. Throws LoadError.
std::optional<AffineSettings> load_quantization (const std::filesystem::path &config_json);

} // namespace millrace
