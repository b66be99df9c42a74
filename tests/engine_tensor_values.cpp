// labels: unit
// Element types, 16-bit conversions, tensor views and mapped files.
#include "engine/error.hpp"
#include "engine/tensor/dtype.hpp"
#include "engine/tensor/mapped_file.hpp"
#include "engine/tensor/tensor_view.hpp"
#include "tests/test_paths.hpp"

#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <random>
#include <utility>

namespace
{

using namespace millrace;

/// A 16-bit float's value by its definition, in double.
double
half_value (uint16_t bits)
{
  const int exponent = (bits >> 10) & 31;
  const int fraction = bits & 1023;
  const double magnitude =
      exponent == 0 ? std::ldexp (fraction, -24) : std::ldexp (1024 + fraction, exponent - 25);
  return bits & 0x8000 ? -magnitude : magnitude;
}

bool
half_is_finite (uint16_t bits)
{
  return ((bits >> 10) & 31) != 31;
}

TEST (dtype, every_type_has_the_size_and_name_of_safetensors)
{
  const std::vector<std::tuple<DType, size_t, std::string_view>> expected = {
      {DType::kF64, 8, "F64"}, {DType::kF32, 4, "F32"},  {DType::kF16, 2, "F16"}, {DType::kBF16, 2, "BF16"},
      {DType::kI64, 8, "I64"}, {DType::kI32, 4, "I32"},  {DType::kI16, 2, "I16"}, {DType::kI8, 1, "I8"},
      {DType::kU8, 1, "U8"},   {DType::kBool, 1, "BOOL"}};
  for (const auto &[dtype, bytes, name] : expected) {
    EXPECT_EQ (dtype_bytes (dtype), bytes) << name;
    EXPECT_EQ (dtype_name (dtype), name);
  }
}

TEST (dtype, every_half_has_its_value_and_survives_the_round_trip)
{
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<uint16_t> (bits);
    const float value = f16_to_f32 (half);
    if (half_is_finite (half)) {
      ASSERT_EQ (value, half_value (half)) << "bits " << bits;
      ASSERT_EQ (std::signbit (value), (bits & 0x8000) != 0) << "bits " << bits;
      ASSERT_EQ (f32_to_f16 (value), half) << "bits " << bits;
    } else if (bits & 1023) {
      ASSERT_TRUE (std::isnan (value)) << "bits " << bits;
      ASSERT_EQ (f32_to_f16 (value), bits | 0x200) << "bits " << bits; // quiet
    } else {
      ASSERT_EQ (value, bits & 0x8000 ? -INFINITY : INFINITY);
      ASSERT_EQ (f32_to_f16 (value), half);
    }
  }
}

TEST (dtype, f32_to_f16_rounds_to_nearest_even)
{
  EXPECT_EQ (f32_to_f16 (65519.996f), 0x7bff);
  EXPECT_EQ (f32_to_f16 (65520.0f), 0x7c00);
  EXPECT_EQ (f32_to_f16 (-1e30f), 0xfc00);
  EXPECT_EQ (f32_to_f16 (0x1p-25f), 0x0000);
  EXPECT_EQ (f32_to_f16 (-0x1p-25f), 0x8000);
  EXPECT_EQ (f32_to_f16 (0x1.000002p-25f), 0x0001);
  EXPECT_EQ (f32_to_f16 (0x1.8p-24f), 0x0002);
  EXPECT_EQ (f32_to_f16 (std::numeric_limits<float>::denorm_min ()), 0x0000);
  // Between all neighbours: the middle goes to the even one, what lies beside it to the nearer.
  for (uint16_t lower = 0; lower < 0x7bff; ++lower) {
    const uint16_t upper = lower + 1;
    const auto middle = static_cast<float> ((half_value (lower) + half_value (upper)) / 2); // exact
    ASSERT_EQ (f32_to_f16 (middle), lower % 2 ? upper : lower) << lower;
    ASSERT_EQ (f32_to_f16 (std::nextafter (middle, 0.0f)), lower) << lower;
    ASSERT_EQ (f32_to_f16 (std::nextafter (middle, 1e9f)), upper) << lower;
    ASSERT_EQ (f32_to_f16 (-middle), 0x8000 | (lower % 2 ? upper : lower)) << lower;
  }
}

TEST (dtype, bf16_round_trips_and_rounds_to_nearest_even)
{
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<uint16_t> (bits);
    const float value = bf16_to_f32 (half);
    if (std::isnan (value)) {
      ASSERT_EQ (f32_to_bf16 (value), bits | 0x40) << "bits " << bits; // quiet
      continue;
    }
    ASSERT_EQ (f32_to_bf16 (value), half) << "bits " << bits;
    if (!std::isfinite (value))
      continue;
    const auto middle = std::bit_cast<float> (bits << 16 | 0x8000u);
    ASSERT_EQ (f32_to_bf16 (middle), bits % 2 ? bits + 1 : bits) << "bits " << bits;
    ASSERT_EQ (f32_to_bf16 (std::bit_cast<float> (bits << 16 | 0x7fffu)), bits);
    ASSERT_EQ (f32_to_bf16 (std::bit_cast<float> (bits << 16 | 0x8001u)), bits + 1);
  }
  EXPECT_TRUE (std::isnan (bf16_to_f32 (f32_to_bf16 (std::bit_cast<float> (0x7f800001u)))));
  EXPECT_TRUE (std::isnan (bf16_to_f32 (f32_to_bf16 (std::bit_cast<float> (0xffffffffu)))));
}

TEST (tensor_view, counts_elements_and_prints_its_shape)
{
  EXPECT_EQ ((TensorView{DType::kF32, {}, {}}.element_count ()), 1);
  EXPECT_EQ ((TensorView{DType::kF32, {8192, 512}, {}}.element_count ()), 8192 * 512);
  EXPECT_EQ ((TensorView{DType::kF32, {3, 0, 5}, {}}.element_count ()), 0);
  EXPECT_EQ (to_string (Shape{}), "[]");
  EXPECT_EQ (to_string (Shape{7}), "[7]");
  EXPECT_EQ (to_string (Shape{8192, 512}), "[8192, 512]");
}

TEST (mapped_file, shows_the_bytes_of_the_file_and_moves)
{
  const TemporaryFolder folder;
  std::mt19937 random (11);
  std::string contents (100'003, '\0');
  for (char &c : contents)
    c = static_cast<char> (random ());
  std::ofstream (folder.path () / "a", std::ios::binary) << contents;
  std::ofstream (folder.path () / "b", std::ios::binary) << "second";

  MappedFile first (folder.path () / "a");
  EXPECT_EQ (first.path (), folder.path () / "a");
  ASSERT_EQ (first.bytes ().size (), contents.size ());
  EXPECT_EQ (std::memcmp (first.bytes ().data (), contents.data (), contents.size ()), 0);

  const auto *address = first.bytes ().data ();
  MappedFile moved (std::move (first));
  EXPECT_EQ (moved.bytes ().data (), address);
  MappedFile second (folder.path () / "b");
  second = std::move (moved);
  EXPECT_EQ (second.path (), folder.path () / "a");
  ASSERT_EQ (second.bytes ().size (), contents.size ());
  EXPECT_EQ (static_cast<char> (second.bytes ().back ()), contents.back ());
}

TEST (mapped_file, of_an_empty_file_is_empty)
{
  const TemporaryFolder folder;
  std::ofstream (folder.path () / "empty");
  EXPECT_TRUE (MappedFile (folder.path () / "empty").bytes ().empty ());
}

TEST (mapped_file, names_what_cannot_be_opened)
{
  const TemporaryFolder folder;
  const auto message = [] (const std::filesystem::path &path) -> std::string {
    try {
      MappedFile file (path);
    } catch (const LoadError &error) {
      EXPECT_EQ (error.file, path);
      return error.what ();
    }
    return "no error";
  };
  const auto missing = folder.path () / "missing";
  EXPECT_NE (message (missing).find (missing.string () + ": cannot be opened"), std::string::npos)
      << message (missing);
  EXPECT_NE (message (folder.path ()).find ("not a regular file"), std::string::npos)
      << message (folder.path ());
}

} // namespace
