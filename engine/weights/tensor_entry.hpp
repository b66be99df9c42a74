// One tensor as the header of a weight file lists it, whatever the file's format; text of such files in messages.
#pragma once

#include "engine/tensor/tensor_view.hpp"

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace millrace
{

struct TensorEntry {
  std::string name;
  std::string dtype_name;
  std::optional<DType> dtype; ///< none: a dtype that is not supported
  Shape shape;
  std::span<const std::byte> data;
};

/// Text of a file as it may stand in a message: control characters replaced, long text cut.
std::string printable (std::string_view text);

} // namespace millrace
