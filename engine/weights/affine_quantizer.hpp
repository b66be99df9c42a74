// Floats → codes of a few bits with a scale and a bias for each group of a row (affine_tensor.hpp says how they are stored).
//
// Scale and bias are those of least squared error that a search finds, as they are stored: codes are chosen for the rounded ones.
// Not finite elements count as 0. Pure; any thread.
#pragma once

#include "engine/tensor/dtype.hpp"
#include "engine/weights/affine_codes.hpp"

#include <cstddef>
#include <cstdint>

namespace millrace
{

/// A row of `count` elements, whole groups. `scale_type` is F32, F16 or BF16. `codes_out` gets count · bits / 8 bytes, the
/// others an element for each group.
void quantize_affine_row (const AffineCodes &codes, DType scale_type, const float *values, int64_t count,
                          std::byte *codes_out, std::byte *scales, std::byte *biases);

} // namespace millrace
