// labels: unit
//
// Every block type against a second reading of its specification: random bits, extreme scales, halves that are no numbers.
// Written here by element and in double precision, in which each product is exact; the one rounding is that to float.
#include "engine/weights/gguf_types.hpp"
#include "engine/weights/quantized_blocks.hpp"
#include "tests/seed.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

using namespace millrace;

namespace
{

using Bytes = std::vector<uint8_t>;

/// Bits [first, first + count) of byte `at`.
int
bits (const Bytes &block, int at, int first, int count)
{
  return block[static_cast<size_t> (at)] / (1 << first) % (1 << count);
}

double
half (const Bytes &block, int at)
{
  const int word = block[static_cast<size_t> (at)] + 256 * block[static_cast<size_t> (at) + 1];
  const double sign = word & 0x8000 ? -1 : 1;
  const int exponent = word / 1024 % 32, fraction = word % 1024;
  if (exponent == 31)
    return fraction ? std::numeric_limits<double>::quiet_NaN ()
                    : sign * std::numeric_limits<double>::infinity ();
  return sign * (exponent ? std::ldexp (1024 + fraction, exponent - 25) : std::ldexp (fraction, -24));
}

int
low_or_high_nibble (const Bytes &block, int begin, int i)
{
  return i < 16 ? bits (block, begin + i, 0, 4) : bits (block, begin + i - 16, 4, 4);
}

struct ScaleAndMinimum {
  int scale, minimum;
};

/// Of the 12 bytes that Q4_K and Q5_K share.
ScaleAndMinimum
six_bits (const Bytes &block, int sub)
{
  constexpr int kAt = 4;
  if (sub < 4)
    return {bits (block, kAt + sub, 0, 6), bits (block, kAt + 4 + sub, 0, 6)};
  return {bits (block, kAt + 4 + sub, 0, 4) + 16 * bits (block, kAt + sub - 4, 6, 2),
          bits (block, kAt + 4 + sub, 4, 4) + 16 * bits (block, kAt + sub, 6, 2)};
}

double
element (DType dtype, const Bytes &block, int i)
{
  switch (dtype) {
  case DType::kQ8_0:
    return half (block, 0) * static_cast<int8_t> (block[static_cast<size_t> (2 + i)]);
  case DType::kQ4_0:
    return half (block, 0) * (low_or_high_nibble (block, 2, i) - 8);
  case DType::kQ4_1:
    return half (block, 0) * low_or_high_nibble (block, 4, i) + half (block, 2);
  case DType::kQ5_0:
    return half (block, 0) * (low_or_high_nibble (block, 6, i) + 16 * bits (block, 2 + i / 8, i % 8, 1) - 16);
  case DType::kQ5_1:
    return half (block, 0) * (low_or_high_nibble (block, 8, i) + 16 * bits (block, 4 + i / 8, i % 8, 1)) +
           half (block, 2);
  case DType::kQ2K: {
    const int half_at = i / 128, quarter = i % 128 / 32;
    const int q = bits (block, 16 + 32 * half_at + i % 32, 2 * quarter, 2);
    return half (block, 80) * bits (block, i / 16, 0, 4) * q - half (block, 82) * bits (block, i / 16, 4, 4);
  }
  case DType::kQ3K: {
    const int half_at = i / 128, quarter = i % 128 / 32, k = i / 16;
    const int q = bits (block, 32 + 32 * half_at + i % 32, 2 * quarter, 2);
    const int top = bits (block, i % 32, i / 32, 1);
    const int scale =
        bits (block, 96 + k % 8, k < 8 ? 0 : 4, 4) + 16 * bits (block, 104 + k % 4, k / 4 * 2, 2);
    return half (block, 108) * (scale - 32) * (q - (top ? 0 : 4));
  }
  case DType::kQ4K:
  case DType::kQ5K: {
    const bool five = dtype == DType::kQ5K;
    const int sub = i / 32;
    const int q = bits (block, (five ? 48 : 16) + sub / 2 * 32 + i % 32, sub % 2 * 4, 4);
    const int top = five ? bits (block, 16 + i % 32, sub, 1) : 0;
    const auto [scale, minimum] = six_bits (block, sub);
    return half (block, 0) * scale * (q + 16 * top) - half (block, 2) * minimum;
  }
  case DType::kQ6K: {
    const int half_at = i / 128, j = i % 128;
    const int low = bits (block, 64 * half_at + j % 64, j < 64 ? 0 : 4, 4);
    const int high = bits (block, 128 + 32 * half_at + j % 32, j / 32 * 2, 2);
    return half (block, 208) * static_cast<int8_t> (block[static_cast<size_t> (192 + i / 16)]) *
           (low + 16 * high - 32);
  }
  case DType::kIQ4NL: {
    constexpr int kTable[] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
    return half (block, 0) * kTable[low_or_high_nibble (block, 2, i)];
  }
  default: { // MXFP4: a sign, two bits of exponent (bias 1), one of fraction
    const int code = low_or_high_nibble (block, 1, i);
    const int exponent = code / 2 % 4, fraction = code % 2;
    const double magnitude = exponent == 0 ? 0.5 * fraction : std::ldexp (1 + 0.5 * fraction, exponent - 1);
    const double scale = block[0] == 255 ? std::numeric_limits<double>::quiet_NaN ()
                                         : std::ldexp (1.0, static_cast<int> (block[0]) - 127);
    return scale * (code & 8 && magnitude > 0 ? -magnitude : magnitude); // a zero's sign is not kept
  }
  }
}

/// Where the halves of a block are.
std::vector<int>
halves_of (DType dtype)
{
  switch (dtype) {
  case DType::kQ4_1:
  case DType::kQ5_1:
  case DType::kQ4K:
  case DType::kQ5K:
    return {0, 2};
  case DType::kQ2K:
    return {80, 82};
  case DType::kQ3K:
    return {108};
  case DType::kQ6K:
    return {208};
  case DType::kMXFP4:
    return {};
  default:
    return {0};
  }
}

void
expect_as_specified (DType dtype, const Bytes &block)
{
  const auto count = static_cast<int> (dtype_block (dtype).elements);
  std::vector<float> found (static_cast<size_t> (count));
  dequantize_row (dtype, reinterpret_cast<const std::byte *> (block.data ()), count, found.data ());
  for (int i = 0; i < count; ++i) {
    const auto expected = static_cast<float> (element (dtype, block, i));
    const float value = found[static_cast<size_t> (i)];
    if (std::isnan (expected))
      ASSERT_TRUE (std::isnan (value)) << dtype_name (dtype) << ", element " << i;
    else
      ASSERT_EQ (std::bit_cast<uint32_t> (value), std::bit_cast<uint32_t> (expected))
          << dtype_name (dtype) << ", element " << i << ": " << value << ", expected " << expected;
  }
}

TEST (BlockFormats, random_blocks_are_what_the_specifications_say)
{
  // Zeros, the least and the largest subnormal and normal number, infinities, numbers that are none.
  constexpr uint16_t kOdd[] = {0x0000, 0x8000, 0x0001, 0x83ff, 0x0400, 0x3c00, 0x7bff,
                               0xfbff, 0x7c00, 0xfc00, 0x7c01, 0x7e00, 0xffff};
  std::mt19937_64 random (test_seed ());
  int types = 0;
  for (int type = 0; type < kDTypes; ++type) {
    const auto dtype = static_cast<DType> (type);
    if (!is_block_type (dtype))
      continue;
    ++types;
    const GgufTensorType *facts = gguf_tensor_type (dtype);
    ASSERT_NE (facts, nullptr) << dtype_name (dtype);
    EXPECT_EQ (facts->block.elements, dtype_block (dtype).elements) << dtype_name (dtype);
    EXPECT_EQ (facts->block.bytes, dtype_block (dtype).bytes) << dtype_name (dtype);
    EXPECT_EQ (facts->name, dtype_name (dtype));
    Bytes block (dtype_block (dtype).bytes);
    for (int round = 0; round < test_rounds (2000); ++round) {
      for (uint8_t &byte : block)
        byte = static_cast<uint8_t> (random ());
      if (round % 2)
        for (const int at : halves_of (dtype)) {
          const uint16_t odd = kOdd[random () % std::size (kOdd)];
          std::memcpy (&block[static_cast<size_t> (at)], &odd, sizeof odd);
        }
      expect_as_specified (dtype, block);
      if (HasFatalFailure ())
        return;
    }
    for (const uint8_t fill : {0x00, 0x01, 0x7f, 0x80, 0xfe, 0xff})
      expect_as_specified (dtype, Bytes (block.size (), fill));
  }
  EXPECT_EQ (types, 12);
}

TEST (BlockFormats, every_exponent_of_mxfp4_is_a_power_of_two_and_the_last_is_none)
{
  Bytes block (17, 0x77); // 6 everywhere
  for (int exponent = 0; exponent < 256; ++exponent) {
    block[0] = static_cast<uint8_t> (exponent);
    expect_as_specified (DType::kMXFP4, block);
  }
}

} // namespace
