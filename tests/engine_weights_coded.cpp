// labels: unit
//
// Matrices that other programs quantized, 8-bit floats, MXFP4, GPTQ and AWQ: what rows mean, bit by bit, against their formats'
// descriptions written a second time (coded_checkpoints.hpp); what they are kept as; what is refused.
#include "engine/error.hpp"
#include "engine/weights/coded_matrix.hpp"
#include "engine/weights/fp8_matrix.hpp"
#include "engine/weights/integer_matrix.hpp"
#include "engine/weights/mxfp4_matrix.hpp"
#include "engine/weights/quantized_blocks.hpp"
#include "engine/weights/weight_files.hpp"
#include "tests/coded_checkpoints.hpp"
#include "tests/seed.hpp"
#include "tests/test_paths.hpp"

#include <cstring>
#include <functional>
#include <memory>

namespace fs = std::filesystem;
using namespace millrace;
using namespace millrace::testing;

namespace
{

std::vector<float>
random_values (int64_t count, uint32_t seed)
{
  std::mt19937 random (seed);
  std::normal_distribution<float> normal (0, 0.4f);
  std::vector<float> values (static_cast<size_t> (count));
  for (float &value : values)
    value = normal (random);
  return values;
}

/// Of all rows, the bits of what they mean.
std::vector<uint32_t>
bits_of (const FloatRows &rows)
{
  std::vector<float> values (static_cast<size_t> (rows.rows () * rows.columns ()));
  for (int64_t row = 0; row < rows.rows (); ++row)
    rows.read (row, values.data () + row * rows.columns ());
  std::vector<uint32_t> bits (values.size ());
  std::memcpy (bits.data (), values.data (), values.size () * sizeof (float));
  return bits;
}

std::vector<uint32_t>
bits_of (const std::vector<float> &values)
{
  std::vector<uint32_t> bits (values.size ());
  std::memcpy (bits.data (), values.data (), values.size () * sizeof (float));
  return bits;
}

/// What encode () writes, decoded by what CodedMatrix::Form says of it.
std::vector<float>
kept_values (const CodedMatrix &matrix)
{
  const CodedMatrix::Form form = matrix.form ();
  const auto columns = static_cast<size_t> (matrix.columns ());
  std::vector<float> values;
  std::vector<std::byte> row (matrix.row_bytes ());
  for (int64_t i = 0; i < matrix.rows (); ++i) {
    matrix.encode (i, row.data ());
    std::vector<float> own (columns);
    if (!form.codes) {
      dequantize_row (form.type, row.data (), matrix.columns (), own.data ());
    } else {
      const auto bits = static_cast<size_t> (form.codes->bits),
                 group = static_cast<size_t> (form.codes->group);
      const std::byte *scales = row.data () + columns * bits / 8;
      const std::byte *biases = scales + columns / group * sizeof (float);
      EXPECT_EQ (form.type, DType::kF32);
      for (size_t j = 0; j < columns; ++j) {
        uint32_t code = 0;
        for (size_t bit = 0; bit < bits; ++bit)
          code |= (std::to_integer<uint32_t> (row[(j * bits + bit) / 8]) >> ((j * bits + bit) % 8) & 1u)
                  << bit;
        float scale, bias;
        std::memcpy (&scale, scales + j / group * sizeof scale, sizeof scale);
        std::memcpy (&bias, biases + j / group * sizeof bias, sizeof bias);
        own[j] = scale * static_cast<float> (code) + bias;
      }
    }
    values.insert (values.end (), own.begin (), own.end ());
  }
  return values;
}

class CodedWeightsTest : public ::testing::Test
{
protected:
  fs::path file () const { return folder_.path () / "model.safetensors"; }

  WeightFiles written (const std::vector<RawTensor> &tensors)
  {
    write_raw_safetensors (file (), tensors);
    return WeightFiles::open_file (file ());
  }

  template <typename Coding>
  WeightFiles opened (const std::vector<RawTensor> &tensors, const Coding &coding)
  {
    WeightFiles files = written (tensors);
    apply_coding (files, coding);
    return files;
  }

  /// The matrix `name` means `values`, and what it is kept as does; its parts are no tensors any more.
  template <typename Coding>
  void expect_means (const CodedTensors &coded, const Coding &coding, const std::string &name,
                     const Shape &shape)
  {
    const WeightFiles files = opened (coded.tensors, coding);
    ASSERT_NE (files.coded (name), nullptr) << name;
    EXPECT_EQ (files.find (name)->shape, shape);
    EXPECT_EQ (files.tensors ().size (), 1u);
    EXPECT_EQ (files.file_of (name), file ());
    EXPECT_EQ (bits_of (*float_rows (files, name)), bits_of (coded.values));
    const CodedMatrix::Form form = files.coded (name)->form ();
    if (!form.codes && !is_block_type (form.type))
      return;
    const std::vector<float> kept = kept_values (*files.coded (name));
    if (coded.tensors.back ().dtype == "F32") { // scales of 24 bits
      for (size_t i = 0; i < kept.size (); ++i)
        ASSERT_NEAR (kept[i], coded.values[i], 1e-6);
    } else {
      EXPECT_EQ (kept, coded.values);
    }
  }

  template <typename Coding>
  void expect_refused (const std::vector<RawTensor> &tensors, const Coding &coding, const std::string &field,
                       const std::string &part)
  {
    try {
      opened (tensors, coding);
    } catch (const LoadError &error) {
      EXPECT_EQ (error.field, field) << error.what ();
      EXPECT_EQ (error.file, file ());
      EXPECT_NE (std::string (error.what ()).find (part), std::string::npos) << error.what ();
      return;
    }
    ADD_FAILURE () << "opened; expected an error about " << field << ": " << part;
  }

  TemporaryFolder folder_;
};

TEST (Fp8, codes_are_those_of_the_specification)
{
  for (int code = 0; code < 256; ++code) {
    const float found = e4m3_to_f32 (static_cast<uint8_t> (code));
    if (std::isnan (e4m3_value (code)))
      EXPECT_TRUE (std::isnan (found)) << code;
    else
      EXPECT_EQ (found, e4m3_value (code)) << code;
  }
  EXPECT_EQ (e4m3_to_f32 (0x7e), 448);
  EXPECT_EQ (e4m3_to_f32 (0x01), 0x1p-9f);
  EXPECT_TRUE (std::signbit (e4m3_to_f32 (0x80)));
}

TEST_F (CodedWeightsTest, eight_bit_floats_with_a_scale_for_each_block)
{
  struct Case {
    int64_t outputs, inputs, rows, columns;
    const char *scales;
  };
  for (const Case &c : {Case{256, 384, 128, 128, "F32"}, Case{130, 200, 128, 128, "BF16"},
                        Case{5, 3, 128, 128, "F32"}, Case{70, 90, 32, 64, "F16"}}) {
    const auto coded =
        fp8_tensors ("a.weight", "a.weight_scale_inv", {c.outputs, c.inputs},
                     random_values (c.outputs * c.inputs, 3), c.rows, c.columns,
                     {(c.outputs + c.rows - 1) / c.rows, (c.inputs + c.columns - 1) / c.columns}, c.scales);
    expect_means (coded, Fp8Coding{c.rows, c.columns}, "a.weight", {c.outputs, c.inputs});
  }
  const auto stack = fp8_tensors ("experts.down_proj", "experts.down_proj_scale_inv", {3, 40, 70},
                                  random_values (3 * 40 * 70, 4), 32, 32, {3, 2, 3});
  expect_means (stack, Fp8Coding{32, 32}, "experts.down_proj", {3, 40, 70});
}

TEST_F (CodedWeightsTest, eight_bit_floats_with_a_scale_for_each_output_or_for_all)
{
  const auto values = random_values (20 * 30, 5);
  for (const std::vector<int64_t> &shape : {std::vector<int64_t>{20, 1}, {20}})
    expect_means (fp8_tensors ("a.weight", "a.weight_scale", {20, 30}, values, 1, 0, shape, "BF16"),
                  Fp8Coding{}, "a.weight", {20, 30});
  for (const std::vector<int64_t> &shape : {std::vector<int64_t>{}, {1}, {1, 1}})
    expect_means (fp8_tensors ("a.weight", "a.weight_scale", {20, 30}, values, 0, 0, shape), Fp8Coding{},
                  "a.weight", {20, 30});
}

TEST_F (CodedWeightsTest, every_code_of_eight_bits_times_a_scale_is_rounded_once)
{
  std::vector<uint8_t> codes (256);
  std::vector<float> meant (256);
  const float scale = 0.1234567f;
  for (int i = 0; i < 256; ++i) {
    codes[static_cast<size_t> (i)] = static_cast<uint8_t> (i);
    meant[static_cast<size_t> (i)] = static_cast<float> (e4m3_value (i) * scale);
  }
  const WeightFiles files = opened ({{"a.weight", "F8_E4M3", {2, 128}, bytes_of (codes)},
                                     {"a.weight_scale", "F32", {}, bytes_of (std::vector{scale})}},
                                    Fp8Coding{});
  std::vector<float> found (256);
  files.coded ("a.weight")->read (0, found.data ());
  files.coded ("a.weight")->read (1, found.data () + 128);
  for (size_t i = 0; i < 256; ++i)
    EXPECT_TRUE (found[i] == meant[i] || (std::isnan (found[i]) && std::isnan (meant[i]))) << i;
}

TEST_F (CodedWeightsTest, four_bit_floats_of_gpt_oss_and_of_mlx)
{
  const auto values = random_values (3 * 10 * 96, 6);
  const auto blocks = mxfp4_tensors ({"experts.down_proj_blocks", "U8", {3, 10, 3, 16}, ""},
                                     {"experts.down_proj_scales", "U8", {3, 10, 3}, ""}, values);
  expect_means (blocks, Mxfp4Coding{}, "experts.down_proj", {3, 10, 96});

  const auto words =
      mxfp4_tensors ({"a.weight", "U32", {30, 12}, ""}, {"a.scales", "U8", {30, 3}, ""}, values);
  WeightFiles files = written (words.tensors);
  AffineSettings settings;
  settings.common = {{4, 32}, true};
  files.apply (settings);
  ASSERT_NE (files.coded ("a.weight"), nullptr);
  EXPECT_EQ (files.find ("a.weight")->shape, (Shape{30, 96}));
  EXPECT_EQ (bits_of (*float_rows (files, "a.weight")), bits_of (words.values));
  EXPECT_EQ (kept_values (*files.coded ("a.weight")), words.values);
}

/// Groups of inputs here and there, each as large as the others.
std::vector<int32_t>
shuffled_groups (int64_t inputs, int64_t group)
{
  std::vector<int32_t> groups;
  for (int64_t i = 0; i < inputs; ++i)
    groups.push_back (static_cast<int32_t> (i / group));
  std::shuffle (groups.begin (), groups.end (), std::mt19937 (9));
  return groups;
}

TEST_F (CodedWeightsTest, gptq_of_every_width_and_both_versions)
{
  constexpr int64_t kOutputs = 64, kInputs = 512;
  const auto values = random_values (kOutputs * kInputs, 7);
  for (const int bits : {2, 3, 4, 8})
    for (const int group : {-1, 16, 32, 64, 128, 256})
      for (const bool version_2 : {false, true}) {
        SCOPED_TRACE (std::to_string (bits) + " bits, groups of " + std::to_string (group));
        const IntegerFormat format{.bits = bits, .group = group, .version_2 = version_2};
        expect_means (integer_tensors ("a", kOutputs, kInputs, values, format),
                      GptqCoding{bits, std::max (group, 0), !version_2}, "a.weight", {kOutputs, kInputs});
      }
}

TEST_F (CodedWeightsTest, gptq_in_act_order_is_kept_as_floats)
{
  const auto values = random_values (32 * 256, 8);
  IntegerFormat format{.group = 64, .groups = shuffled_groups (256, 64)};
  const auto coded = integer_tensors ("a", 32, 256, values, format);
  expect_means (coded, GptqCoding{4, 64, true}, "a.weight", {32, 256});
  EXPECT_FALSE (opened (coded.tensors, GptqCoding{4, 64, true}).coded ("a.weight")->form ().codes);
  EXPECT_EQ (opened (coded.tensors, GptqCoding{4, 64, true}).coded ("a.weight")->form ().type, DType::kF16);
  std::ranges::sort (format.groups); // g_idx is there, and in order
  const auto ordered = integer_tensors ("a", 32, 256, values, format);
  expect_means (ordered, GptqCoding{4, 64, true}, "a.weight", {32, 256});
  EXPECT_TRUE (opened (ordered.tensors, GptqCoding{4, 64, true}).coded ("a.weight")->form ().codes);
}

TEST_F (CodedWeightsTest, awq_of_every_group)
{
  const auto values = random_values (48 * 384, 10);
  for (const int group : {-1, 32, 64, 128})
    for (const char *scales : {"F16", "BF16", "F32"})
      expect_means (
          integer_tensors ("m.q_proj", 48, 384, values, {.awq = true, .group = group, .scales = scales}),
          AwqCoding{std::max (group, 0)}, "m.q_proj.weight", {48, 384});
}

/// The tensors with one of them changed, or without it.
std::vector<RawTensor>
with (std::vector<RawTensor> tensors, const std::string &name,
      const std::function<void (RawTensor &)> &change)
{
  for (RawTensor &tensor : tensors)
    if (tensor.name == name)
      change (tensor);
  return tensors;
}

std::vector<RawTensor>
without (std::vector<RawTensor> tensors, const std::string &name)
{
  std::erase_if (tensors, [&] (const RawTensor &tensor) { return tensor.name == name; });
  return tensors;
}

TEST_F (CodedWeightsTest, pack_quantized_with_and_without_zeros)
{
  for (const int bits : {4, 8})
    for (const int group : {-1, 32, 64, 128})
      for (const bool zeros : {false, true}) {
        SCOPED_TRACE (std::to_string (bits) + " bits, groups of " + std::to_string (group));
        expect_means (packed_tensors ("m.q_proj", 45, 384, random_values (45 * 384, 11),
                                      {.bits = bits,
                                       .group = group,
                                       .zeros = zeros,
                                       .scales = group == 32 ? "F32" : "F16",
                                       .wide_shape = zeros}),
                      PackedCoding{bits}, "m.q_proj.weight", {45, 384});
      }
  // Rows that are no whole words, and groups that no codes are kept in.
  expect_means (packed_tensors ("a", 9, 21, random_values (9 * 21, 12), {.group = 7, .zeros = true}),
                PackedCoding{4}, "a.weight", {9, 21});
  const PackedFormat shuffled{.group = 64, .zeros = true, .groups = shuffled_groups (256, 64)};
  expect_means (packed_tensors ("a", 32, 256, random_values (32 * 256, 13), shuffled), PackedCoding{4},
                "a.weight", {32, 256});
}

TEST_F (CodedWeightsTest, pack_quantized_that_does_not_fit_is_refused_by_its_tensor)
{
  const auto tensors = packed_tensors ("a", 32, 256, random_values (32 * 256, 14), {.zeros = true}).tensors;
  const PackedCoding coding{4};
  const auto shape = [] (std::vector<int64_t> sizes) {
    return [sizes] (RawTensor &tensor) { tensor.bytes = bytes_of (sizes); };
  };
  for (const char *name : {"a.weight_scale", "a.weight_shape"})
    expect_refused (without (tensors, name), coding, name, "is missing");
  for (const std::vector<int64_t> &sizes :
       {std::vector<int64_t>{33, 256}, {32, 257}, {32, 248}, {32, -1}, {32, int64_t{1} << 62}, {0, 256}})
    expect_refused (with (tensors, "a.weight_shape", shape (sizes)), coding, "a.weight_packed", "cannot be");
  expect_refused (tensors, PackedCoding{8}, "a.weight_packed", "of 8 bits");
  expect_refused (with (tensors, "a.weight_scale",
                        [] (RawTensor &tensor) {
                          tensor.shape = {64, 1};
                        }),
                  coding, "a.weight_scale", "expected [32, 1]");
  expect_refused (with (tensors, "a.weight_zero_point",
                        [] (RawTensor &tensor) {
                          tensor.shape = {2, 4};
                        }),
                  coding, "a.weight_zero_point", "expected [4, 2]");
  expect_refused (with (tensors, "a.weight_packed", [] (RawTensor &tensor) { tensor.dtype = "F32"; }), coding,
                  "a.weight_packed", "expected I32");
  auto indices = tensors;
  indices.push_back ({"a.weight_g_idx", "I32", {256}, bytes_of (std::vector<int32_t> (256, 2))});
  expect_refused (indices, coding, "a.weight_g_idx", "names group 2 of 2");
}

TEST_F (CodedWeightsTest, what_does_not_fit_is_refused_by_its_tensor)
{
  const auto fp8 = fp8_tensors ("a.weight", "a.weight_scale_inv", {130, 200}, random_values (130 * 200, 1),
                                128, 128, {2, 2})
                       .tensors;
  expect_refused (without (fp8, "a.weight_scale_inv"), Fp8Coding{}, "a.weight_scale", "is missing");
  expect_refused (fp8, Fp8Coding{64, 64}, "a.weight_scale_inv", "expected [3, 4]");
  expect_refused (with (fp8, "a.weight_scale_inv", [] (RawTensor &tensor) { tensor.dtype = "I32"; }),
                  Fp8Coding{}, "a.weight_scale_inv", "type I32");
  expect_refused (with (fp8, "a.weight", [] (RawTensor &tensor) { tensor.shape = {130 * 200}; }), Fp8Coding{},
                  "a.weight", "must be a matrix");

  const auto values = random_values (32 * 256, 2);
  const auto blocks =
      mxfp4_tensors ({"e_blocks", "U8", {1, 32, 8, 16}, ""}, {"e_scales", "U8", {1, 32, 8}, ""}, values)
          .tensors;
  expect_refused (without (blocks, "e_scales"), Mxfp4Coding{}, "e_scales", "is missing");
  expect_refused (with (blocks, "e_blocks",
                        [] (RawTensor &tensor) {
                          tensor.shape = {1, 32, 16, 8};
                        }),
                  Mxfp4Coding{}, "e_blocks", "blocks of 16 bytes");
  expect_refused (with (blocks, "e_scales",
                        [] (RawTensor &tensor) {
                          tensor.shape = {1, 8, 32};
                        }),
                  Mxfp4Coding{}, "e_scales", "expected [1, 32, 8]");

  const auto gptq =
      integer_tensors ("a", 32, 256, values, {.group = 64, .groups = shuffled_groups (256, 64)}).tensors;
  const GptqCoding coding{4, 64, true};
  expect_refused (without (gptq, "a.qzeros"), coding, "a.qzeros", "is missing");
  expect_refused (without (gptq, "a.scales"), coding, "a.scales", "is missing");
  expect_refused (gptq, GptqCoding{4, 32, true}, "a.scales", "has 4 groups");
  expect_refused (gptq, GptqCoding{8, 64, true}, "a.scales", "groups");
  expect_refused (with (gptq, "a.g_idx", [] (RawTensor &tensor) { tensor.bytes[4] = 4; }), coding, "a.g_idx",
                  "names group 4 of 4");
  expect_refused (with (gptq, "a.g_idx", [] (RawTensor &tensor) { tensor.bytes[7] = '\xff'; }), coding,
                  "a.g_idx", "names group -");
  expect_refused (with (gptq, "a.g_idx",
                        [] (RawTensor &tensor) {
                          tensor.shape = {2, 128};
                        }),
                  coding, "a.g_idx", "expected [256]");
  expect_refused (with (gptq, "a.qzeros",
                        [] (RawTensor &tensor) {
                          tensor.shape = {2, 8};
                        }),
                  coding, "a.qzeros", "expected [4, 4]");
  auto twice = gptq;
  twice.push_back ({"a.weight", "F32", {1}, bytes_of (std::vector{1.0f})});
  expect_refused (twice, coding, "a.weight", "is there as it is and as a.qweight");

  const auto awq = integer_tensors ("a", 32, 256, values, {.awq = true, .group = 64}).tensors;
  expect_refused (awq, AwqCoding{128}, "a.scales", "has 4 groups");
  expect_refused (with (awq, "a.scales", [] (RawTensor &tensor) { tensor.shape = {4 * 32}; }), AwqCoding{64},
                  "a.scales", "two dimensions");
}

} // namespace
