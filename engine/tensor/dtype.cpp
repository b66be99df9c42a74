// Element types of tensors: sizes, names, and conversions of the 16-bit floats by their bits.
//
// The conversions to 16 bits round to nearest, ties to even, as every CPU's and GPU's own do, so that a
// portable path and a vector instruction give the same bits. Pure functions; any thread.
#include "engine/tensor/dtype.hpp"

#include <array>

namespace millrace
{

namespace
{

struct DTypeFacts {
  std::string_view name;
  DTypeBlock block;
};

constexpr std::array<DTypeFacts, kDTypes> kFacts{
    {{"F64", {1, 8}},      {"F32", {1, 4}},      {"F16", {1, 2}},      {"BF16", {1, 2}},
     {"I64", {1, 8}},      {"I32", {1, 4}},      {"I16", {1, 2}},      {"I8", {1, 1}},
     {"U8", {1, 1}},       {"BOOL", {1, 1}},     {"Q8_0", {32, 34}},   {"Q4_0", {32, 18}},
     {"Q4_K", {256, 144}}, {"Q6_K", {256, 210}}, {"Q5_0", {32, 22}},   {"Q4_1", {32, 20}},
     {"Q5_1", {32, 24}},   {"Q2_K", {256, 84}},  {"Q3_K", {256, 110}}, {"Q5_K", {256, 176}},
     {"IQ4_NL", {32, 18}}, {"MXFP4", {32, 17}},  {"U32", {1, 4}},      {"F8_E4M3", {1, 1}}}};
static_assert (kFacts.size () == static_cast<size_t> (DType::kF8E4M3) + 1);

} // namespace

DTypeBlock
dtype_block (DType dtype)
{
  return kFacts[static_cast<size_t> (dtype)].block;
}

size_t
dtype_bytes (DType dtype)
{
  return kFacts[static_cast<size_t> (dtype)].block.bytes;
}

std::string_view
dtype_name (DType dtype)
{
  return kFacts[static_cast<size_t> (dtype)].name;
}

uint16_t
f32_to_bf16 (float value)
{
  const auto bits = std::bit_cast<uint32_t> (value);
  if ((bits & 0x7fffffffu) > 0x7f800000u)
    return static_cast<uint16_t> ((bits >> 16) | 0x0040u); // quiet, and never rounded to infinity
  return static_cast<uint16_t> ((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

float
f16_to_f32 (uint16_t bits)
{
  const uint32_t sign = (bits & 0x8000u) << 16;
  const uint32_t exponent = (bits >> 10) & 0x1fu;
  const uint32_t fraction = bits & 0x3ffu;
  if (exponent == 0x1fu) // infinity, NaN (made quiet, as hardware does)
    return std::bit_cast<float> (sign | 0x7f800000u | (fraction << 13) | (fraction ? 0x00400000u : 0u));
  if (exponent != 0)
    return std::bit_cast<float> (sign | ((exponent + 112u) << 23) | (fraction << 13));
  const float magnitude = static_cast<float> (fraction) * 0x1p-24f; // zero and subnormals: exact
  return std::bit_cast<float> (sign | std::bit_cast<uint32_t> (magnitude));
}

uint16_t
f32_to_f16 (float value)
{
  const auto bits = std::bit_cast<uint32_t> (value);
  const auto sign = static_cast<uint16_t> ((bits >> 16) & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u)
    return static_cast<uint16_t> (sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu));
  if (magnitude >= 0x477ff000u) // 65520 and more round to infinity
    return static_cast<uint16_t> (sign | 0x7c00u);
  if (magnitude < 0x33000001u) // 2^-25 is a tie and goes to the even zero
    return sign;

  const uint32_t exponent = magnitude >> 23;
  const bool subnormal = exponent < 113;
  const uint32_t dropped = subnormal ? 126 - exponent : 13; // low bits that do not fit
  const uint32_t significand = (magnitude & 0x7fffffu) | 0x800000u;
  uint32_t result = significand >> dropped;
  const uint32_t rest = significand & ((1u << dropped) - 1);
  const uint32_t half = 1u << (dropped - 1);
  if (rest > half || (rest == half && (result & 1u)))
    ++result; // a carry moves into the exponent, which is right
  if (!subnormal)
    result += (exponent - 113) << 10; // the significand's leading one adds the missing 1
  return static_cast<uint16_t> (sign | result);
}

} // namespace millrace
