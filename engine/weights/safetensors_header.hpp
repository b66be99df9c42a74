// The header of one safetensors file: bytes in, checked list of tensors out. No tensor data is read.
//
// Private to engine/weights; apart from safetensors.cpp so that the parser of hostile bytes can be read, and
// tested, on its own. Source: https://github.com/huggingface/safetensors#format
#pragma once

#include "engine/tensor/tensor_view.hpp"

#include <cstddef>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace millrace
{

struct SafetensorsEntry {
  std::string name;
  std::string dtype_name;
  std::optional<DType> dtype; ///< none: a dtype that is not supported
  Shape shape;
  std::span<const std::byte> data;
};

/// All tensors of the file, in the order of their bytes; their ranges cover the data section exactly.
/// `file` is for messages. Throws LoadError.
std::vector<SafetensorsEntry> parse_safetensors (const std::filesystem::path &file,
                                                 std::span<const std::byte> bytes);

/// Text of a file as it may stand in a message: control characters replaced, long text cut.
std::string printable (std::string_view text);

} // namespace millrace
