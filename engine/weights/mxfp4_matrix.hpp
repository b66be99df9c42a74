// Matrices of 4-bit floats with a power of two for each 32 of a row (MXFP4), as gpt-oss and MLX store them.
//
//   gpt-oss  NAME_blocks, uint8 [..., outputs, inputs / 32, 16], and NAME_scales, uint8 [..., outputs, inputs / 32]
//   MLX      NAME.weight, uint32 [..., outputs, inputs / 8], and NAME.scales, as above
// Codes of a row follow each other, the first of two in a byte's low bits.    w = 2^(scale - 127) · value of the code,
// ±{0, 0.5, 1, 1.5, 2, 3, 4, 6}; a scale of 255 is NaN. Rows are kept as GGUF's blocks of the same type, in another order of
// codes. Sources: OCP Microscaling Formats (MX) Specification 1.0, sections 5.3.3 and 5.4.1; gpt-oss' model card.
#pragma once

#include "engine/weights/affine_tensor.hpp"
#include "engine/weights/coded_matrix.hpp"

#include <memory>
#include <span>
#include <string>

namespace millrace
{

class WeightFiles;

/// Those of gpt-oss.
struct Mxfp4Coding {
};

/// Puts such matrices together: NAME. Throws LoadError when scales are missing or do not fit.
void apply_coding (WeightFiles &files, const Mxfp4Coding &coding);

/// Likewise NAME.weight, of MLX. Throws LoadError.
void put_mxfp4_together (WeightFiles &files, const std::string &name);

/// Of a matrix of this type, or a stack of such with `outputs` rows each, the columns of one after the other.
std::shared_ptr<const FloatRows> mxfp4_columns (std::shared_ptr<const CodedMatrix> matrix, int64_t outputs);

/// The codes and the scales of GGUF's blocks, as they are stored here. Room for 16 bytes and for 1 of each block.
void take_mxfp4_apart (std::span<const std::byte> blocks, std::byte *codes, std::byte *scales);

} // namespace millrace
