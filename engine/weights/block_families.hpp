// One entry for each family of quantized blocks (blocks_*.cpp): what a block means, and how floats become one.
//
// Layouts: quantized_blocks.hpp. Private to engine/weights; pure functions.
#pragma once

#include "engine/tensor/dtype.hpp"

#include <cstddef>

namespace millrace::blocks
{

/// Of one block. The quantizer's values are finite.
struct BlockCode {
  void (*dequantize) (const std::byte *block, float *out) = nullptr;
  void (*quantize) (const float *values, std::byte *block) = nullptr;
};

// Each gives nothing for types that are not of its family.
BlockCode scaled_block (DType dtype); ///< Q8_0, Q4_0, Q5_0: w = d · q
BlockCode affine_block (DType dtype); ///< Q4_1, Q5_1: w = d · q + m
BlockCode line_block (DType dtype);   ///< Q2_K, Q4_K, Q5_K: super-blocks, scales and minima
BlockCode scale_block (DType dtype);  ///< Q3_K, Q6_K: super-blocks, scales only
BlockCode table_block (DType dtype);  ///< IQ4_NL, MXFP4: a code's value stands in a table

} // namespace millrace::blocks
