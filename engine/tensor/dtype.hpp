// Element types of tensors as they stand in files, and the conversions of the 16-bit ones.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace millrace
{

enum class DType : uint8_t { kF64, kF32, kF16, kBF16, kI64, kI32, kI16, kI8, kU8, kBool };

size_t dtype_bytes (DType dtype);
std::string_view dtype_name (DType dtype); ///< "F32", "BF16", ... as safetensors spells them

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
