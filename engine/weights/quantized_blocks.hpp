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
//   Q5_0   32 elements, 22 bytes: float16 d; uint8 qh[4], q[16].  w[i] = d · (nibble + 16 · bit - 16); nibbles as in
//          Q4_0, bit i % 8 of byte i / 8 of qh
//   Q4_1   32 elements, 20 bytes: float16 d, m; uint8 q[16].      w[i] = d · nibble + m; nibbles as in Q4_0
//   Q5_1   32 elements, 24 bytes: float16 d, m; uint8 qh[4], q[16].  w[i] = d · (nibble + 16 · bit) + m
//   Q5_K   256 elements, 176 bytes: float16 d, dmin; uint8 scales[12], qh[32], q[128]. As Q4_K, with 16 · bit more:
//          bit s of byte i % 32 of qh for sub-block s = i / 32
//   Q2_K   256 elements, 84 bytes: uint8 scales[16], q[64]; float16 d, dmin.
//          w[i] = d · (scale & 15) · code - dmin · (scale >> 4) for scale i / 16. For each half of 128: byte j of 32 holds
//          elements j, j + 32, j + 64, j + 96 in its bits 0-1, 2-3, 4-5, 6-7
//   Q3_K   256 elements, 110 bytes: uint8 hmask[32], q[64], scales[12]; float16 d.
//          w[i] = d · (scale - 32) · (code + 4 · bit - 4) for scale i / 16; codes as in Q2_K, bit i / 32 of byte i % 32 of
//          hmask. The low 4 bits of scale k are in byte k % 8 of scales (the low nibble for k < 8), the upper 2 bits in
//          byte 8 + k % 4 from bit 2 · (k / 4) on
//   IQ4_NL 32 elements, 18 bytes: float16 d; uint8 q[16].         w[i] = d · kIq4NlValues[nibble]; nibbles as in Q4_0
//   MXFP4  32 elements, 17 bytes: uint8 e; uint8 q[16].           w[i] = 2^(e - 127) · value of the nibble, an FP4 E2M1
//          number: ±{0, 0.5, 1, 1.5, 2, 3, 4, 6}; e = 255 is NaN; nibbles as in Q4_0
//   Q6_K   256 elements, 210 bytes: uint8 ql[128], qh[64]; int8 scales[16]; float16 d.
//          w[i] = d · scale[i / 16] · (q - 32). For each half of 128: ql byte j holds the low 4 bits of elements j (low
//          nibble) and j + 64 (high nibble), j = 0 … 63; qh byte j the top 2 bits of elements j, j + 32, j + 64, j + 96 in
//          its bits 0-1, 2-3, 4-5, 6-7, j = 0 … 31.
// Sources: GGUF specification, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; for MXFP4 the Open Compute Project's
// Microscaling Formats (MX) Specification 1.0, sections 5.3.3 and 5.4.1. Pure functions; any thread.
#pragma once

#include "engine/tensor/dtype.hpp"
#include "engine/weights/code_values.hpp"

#include <cstddef>
#include <cstdint>

namespace millrace
{

/// `count` elements of a block type from `row`.
void dequantize_row (DType dtype, const std::byte *row, int64_t count, float *out);

/// The other way: nearest values; for the types with minima or of several scales a search for those of least squared error. Not finite
/// elements count as 0. `out` has the bytes of `count` elements.
void quantize_row (DType dtype, const float *values, int64_t count, std::byte *out);

/// The 6-bit scales and minima of a Q4_K or Q5_K block's 8 sub-blocks, from its 12 bytes.
void unpack_q4k_scales (const std::byte *packed, uint8_t scales[8], uint8_t minima[8]);

/// The scales of a Q3_K block's 16 sub-blocks, -32 … 31, from its 12 bytes.
void unpack_q3k_scales (const std::byte *packed, int8_t scales[16]);

/// 2^(exponent - 128): half of what MXFP4's scale stands for.
float mxfp4_half_scale (uint8_t exponent);

} // namespace millrace
