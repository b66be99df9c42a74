// A typed, shaped view of bytes that somebody else owns (usually a mapped file).
#pragma once

#include "engine/tensor/dtype.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace millrace
{

using Shape = std::vector<int64_t>; ///< row-major, outermost dimension first

std::string to_string (const Shape &shape); ///< "[8192, 512]"

struct TensorView {
  DType dtype = DType::kF32;
  Shape shape;
  std::span<const std::byte> data; ///< not necessarily aligned to the element size

  int64_t element_count () const; ///< product of the shape; 1 for a scalar
};

} // namespace millrace
