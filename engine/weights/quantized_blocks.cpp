// Rows of quantized blocks: each type's code for a block, block after block.
#include "engine/weights/quantized_blocks.hpp"

#include "engine/weights/block_families.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace millrace
{

namespace
{

constexpr size_t kMostElements = 256;

blocks::BlockCode
block_code (DType dtype)
{
  for (const auto family : {blocks::scaled_block, blocks::affine_block, blocks::line_block,
                            blocks::scale_block, blocks::table_block}) {
    const blocks::BlockCode code = family (dtype);
    if (code.dequantize)
      return code;
  }
  return {};
}

} // namespace

void
dequantize_row (DType dtype, const std::byte *row, int64_t count, float *out)
{
  const DTypeBlock block = dtype_block (dtype);
  const blocks::BlockCode code = block_code (dtype);
  for (int64_t i = 0; i < count; i += static_cast<int64_t> (block.elements)) {
    code.dequantize (row, out + i);
    row += block.bytes;
  }
}

void
quantize_row (DType dtype, const float *values, int64_t count, std::byte *out)
{
  const DTypeBlock block = dtype_block (dtype);
  const blocks::BlockCode code = block_code (dtype);
  std::array<float, kMostElements> finite;
  for (int64_t i = 0; i < count; i += static_cast<int64_t> (block.elements)) {
    std::transform (values + i, values + i + block.elements, finite.begin (),
                    [] (float value) { return std::isfinite (value) ? value : 0; });
    code.quantize (finite.data (), out);
    out += block.bytes;
  }
}

} // namespace millrace
