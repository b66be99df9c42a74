// Blocks of quantized elements as GGUF files store them, and what they mean as floats.
//
// The reference that kernels are tested against, and the quantizers that make such files. A row is `count`
// elements, a whole number of blocks (dtype_block ()); all fields are little-endian and packed, rows need no alignment.
//   Q8_0   32 elements, 34 bytes: float16 d; int8 q[32].          w[i] = d · q[i]
//   Q4_0   32 elements, 18 bytes: float16 d; uint8 q[16].         w[i] = d · (nibble - 8); byte j holds element j in
//          its low nibble and j + 16 in its high one
//   Q4_K   256 elements, 144 bytes: float16 d, dmin; uint8 scales[12]; uint8 q[128].
//          w[i] = d · scale[s] · nibble - dmin · min[s] for sub-block s = i / 32. Of scales, bytes 0 … 3 hold the low 6
//          bits of scale 0 … 3, bytes 4 … 7 of min 0 … 3, bytes 8 … 11 the low 4 bits of scale 4 … 7 (low nibble)
//          and min 4 … 7 (high nibble), whose upper 2 bits are the top bits of bytes 0 … 3 and 4 … 7. Of q, each 32 bytes
//          hold 32 elements in their low nibbles and the 32 after these in their high ones.
//   Q6_K   256 elements, 210 bytes: uint8 ql[128], qh[64]; int8 scales[16]; float16 d.
//          w[i] = d · scale[i / 16] · (q - 32). For each half of 128: ql byte j holds the low 4 bits of elements j (low
//          nibble) and j + 64 (high nibble), j = 0 … 63; qh byte j the top 2 bits of elements j, j + 32, j + 64, j + 96 in
//          its bits 0-1, 2-3, 4-5, 6-7, j = 0 … 31.
// Source: GGUF specification, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Pure functions; any thread.
#pragma once

#include "engine/tensor/dtype.hpp"

#include <cstddef>
#include <cstdint>

namespace millrace
{

/// `count` elements of a block type from `row`.
void dequantize_row (DType dtype, const std::byte *row, int64_t count, float *out);

/// The other way: nearest values; for Q4_K and Q6_K a search for the scales (and minima) of least squared error. Not finite
/// elements count as 0. `out` has the bytes of `count` elements.
void quantize_row (DType dtype, const float *values, int64_t count, std::byte *out);

/// The 6-bit scales and minima of a Q4_K block's 8 sub-blocks, from its 12 bytes.
void unpack_q4k_scales (const std::byte *packed, uint8_t scales[8], uint8_t minima[8]);

} // namespace millrace
