// Matrices of 8-bit floats (F8_E4M3) with scales.
//
// NAME [..., outputs, inputs] and, of 32-bit or 16-bit floats, either NAME_scale_inv, one scale for each block of
// block_rows × block_columns, [..., ceil (outputs / block_rows), ceil (inputs / block_columns)], or NAME_scale: one for the
// matrix (no elements but one) or one for each output ([..., outputs, 1] or [outputs]).       w = scale · code
// rounded to float32 once. Such rows are kept as BF16, rounded to nearest, which is what the checkpoints' own tools do.
// A code has a sign, 4 bits of exponent (bias 7), 3 of fraction: 0x7f and 0xff are NaN, there is no infinity.
// Sources: OCP 8-bit Floating Point Specification 1.0, section 5; DeepSeek-V3, arXiv 2412.19437, section 3.3; key names:
// transformers' FineGrainedFP8Config, compressed-tensors' float-quantized format.
#pragma once

#include <cstdint>

namespace millrace
{

class WeightFiles;

struct Fp8Coding {
  /// Elements that share a scale of NAME_scale_inv.
  int64_t block_rows = 128, block_columns = 128;
};

/// Puts such matrices together. Throws LoadError when scales are missing or do not fit.
void apply_coding (WeightFiles &files, const Fp8Coding &coding);

/// What a code means.
float e4m3_to_f32 (uint8_t code);

} // namespace millrace
