// Element types of tensors as they stand in files, and the conversions of the 16-bit ones.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace millrace
{

/// Their numbers are part of what packed files are known by: new ones at the end.
enum class DType : uint8_t {
  kF64,
  kF32,
  kF16,
  kBF16,
  kI64,
  kI32,
  kI16,
  kI8,
  kU8,
  kBool,
  // Blocks of several elements, of GGUF files; engine/weights/quantized_blocks.hpp says what is in them.
  kQ8_0,
  kQ4_0,
  kQ4K,
  kQ6K,
  kQ5_0,
  kQ4_1,
  kQ5_1,
  kQ2K,
  kQ3K,
  kQ5K,
  kIQ4NL,
  kMXFP4,
  // Of safetensors files again: packed codes (engine/weights/affine_tensor.hpp).
  kU32,
  kF8E4M3, ///< 8-bit floats (engine/weights/fp8_matrix.hpp)
};
constexpr int kDTypes = 24;

/// Elements that are stored together, and their bytes; {1, size} but for the block types. A tensor's rows (its
/// innermost dimension) are whole blocks.
struct DTypeBlock {
  size_t elements;
  size_t bytes;
};

DTypeBlock dtype_block (DType dtype);
inline bool
is_block_type (DType dtype)
{
  return dtype >= DType::kQ8_0 && dtype <= DType::kMXFP4;
}
size_t dtype_bytes (DType dtype); ///< of one element; not for block types
std::string_view
dtype_name (DType dtype); ///< "F32", "BF16", ... as safetensors spells them; "Q4_K" as GGUF does

inline float
bf16_to_f32 (uint16_t bits)
{
  return std::bit_cast<float> (static_cast<uint32_t> (bits) << 16);
}

/// Round to nearest, ties to even; NaN stays NaN.
uint16_t f32_to_bf16 (float value);
float f16_to_f32 (uint16_t bits);
uint16_t f32_to_f16 (float value);

} // namespace millrace
