// The header of one safetensors file: bytes in, checked list of tensors out. No tensor data is read.
//
// Private to engine/weights; apart from safetensors.cpp so that the parser of hostile bytes can be read, and
// tested, on its own. Source: https://github.com/huggingface/safetensors#format
#pragma once

#include "engine/weights/tensor_entry.hpp"

#include <cstddef>
#include <filesystem>
#include <span>
#include <vector>

namespace millrace
{

/// All tensors of the file, in the order of their bytes; their ranges cover the data section exactly.
/// `file` is for messages. Throws LoadError.
std::vector<TensorEntry> parse_safetensors (const std::filesystem::path &file,
                                            std::span<const std::byte> bytes);

} // namespace millrace
