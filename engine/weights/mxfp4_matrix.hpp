// Matrices of 4-bit floats with a power of two for each 32 of a row (MXFP4), as gpt-oss and MLX store them.
//
//   gpt-oss  NAME_blocks, uint8 [..., outputs, inputs / 32, 16], and NAME_scales, uint8 [..., outputs, inputs / 32]
//   MLX      NAME.weight, uint32 [..., outputs, inputs / 8], and NAME.scales, as above
// Codes of a row follow each other, the first of two in a byte's low bits.    w = 2^(scale - 127) · value of the code,
// ±{0, 0.5, 1, 1.5, 2, 3, 4, 6}; a scale of 255 is NaN. Rows are kept as GGUF's blocks of the same type, in another order of
// codes. Sources: OCP Microscaling Formats (MX) Specification 1.0, sections 5.3.3 and 5.4.1; gpt-oss' model card.
#pragma once

#include "engine/weights/affine_tensor.hpp"

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

} // namespace millrace
