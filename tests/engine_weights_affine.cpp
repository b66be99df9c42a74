// labels: unit
//
// Affine matrices of safetensors files: what their words mean, and that hostile shapes and settings are errors.
#include "engine/error.hpp"
#include "engine/weights/weight_files.hpp"
#include "tests/seed.hpp"
#include "tests/test_paths.hpp"

#include <cstring>
#include <fstream>
#include <random>

using namespace millrace;
namespace fs = std::filesystem;

namespace
{

struct Part {
  std::string name, dtype;
  std::vector<int64_t> shape;
  std::string bytes;
};

std::string
text_of (const std::vector<int64_t> &shape)
{
  std::string text;
  for (const int64_t size : shape)
    text += (text.empty () ? "" : ",") + std::to_string (size);
  return "[" + text + "]";
}

fs::path
write (const fs::path &folder, const std::vector<Part> &parts)
{
  std::string header, data;
  for (const Part &part : parts) {
    header += (header.empty () ? "{\"" : ",\"") + part.name + "\":{\"dtype\":\"" + part.dtype +
              "\",\"shape\":" + text_of (part.shape) + ",\"data_offsets\":[" + std::to_string (data.size ()) +
              "," + std::to_string (data.size () + part.bytes.size ()) + "]}";
    data += part.bytes;
  }
  header += "}";
  const uint64_t length = header.size ();
  const fs::path file = folder / "model.safetensors";
  std::ofstream out (file, std::ios::binary);
  out << std::string (reinterpret_cast<const char *> (&length), sizeof length) << header << data;
  return file;
}

AffineSettings
settings (int bits, int group)
{
  return {{bits, group}, {}};
}

std::string
random_bytes (size_t count, std::mt19937_64 &random)
{
  std::string bytes (count, '\0');
  for (char &byte : bytes)
    byte = static_cast<char> (random ());
  return bytes;
}

TEST (Affine, codes_scales_and_biases_mean_what_mlx_writes)
{
  const TemporaryFolder folder;
  std::mt19937_64 random (test_seed ());
  constexpr int64_t kRows = 3, kInputs = 256;
  for (const int bits : {2, 3, 4, 5, 6, 8}) {
    for (const int group : {32, 64, 128}) {
      std::vector<float> scales, biases;
      for (int64_t i = 0; i < kRows * kInputs / group; ++i) {
        scales.push_back (static_cast<float> (random () % 1000) / 64);
        biases.push_back (-static_cast<float> (random () % 1000) / 32);
      }
      const auto bytes_of = [] (const std::vector<float> &values) {
        return std::string (reinterpret_cast<const char *> (values.data ()), values.size () * sizeof (float));
      };
      const std::string words = random_bytes (static_cast<size_t> (kRows * kInputs * bits / 8), random);
      WeightFiles files = WeightFiles::open_file (
          write (folder.path (), {{"m.weight", "U32", {kRows, kInputs * bits / 32}, words},
                                  {"m.scales", "F32", {kRows, kInputs / group}, bytes_of (scales)},
                                  {"m.biases", "F32", {kRows, kInputs / group}, bytes_of (biases)}}));
      files.apply (settings (bits, group));
      EXPECT_NO_THROW (files.require ("m.weight", {kRows, kInputs}));
      const AffineTensor *tensor = files.affine ("m.weight");
      ASSERT_NE (tensor, nullptr);
      std::vector<float> row (kInputs);
      for (int64_t r = 0; r < kRows; ++r) {
        dequantize_affine_row (*tensor, static_cast<size_t> (r), row.data ());
        for (int64_t i = 0; i < kInputs; ++i) {
          int code = 0;
          for (int bit = 0; bit < bits; ++bit) {
            const auto at = static_cast<size_t> ((r * kInputs + i) * bits + bit);
            code += (static_cast<unsigned char> (words[at / 8]) >> at % 8 & 1) << bit;
          }
          const auto g = static_cast<size_t> ((r * kInputs + i) / group);
          ASSERT_EQ (row[static_cast<size_t> (i)], scales[g] * static_cast<float> (code) + biases[g])
              << bits << " bits, groups of " << group << ", row " << r << ", element " << i;
        }
      }
    }
  }
}

TEST (Affine, modules_that_are_not_quantized_stay_words_and_floats_stay_floats)
{
  const TemporaryFolder folder;
  WeightFiles files =
      WeightFiles::open_file (write (folder.path (), {{"a.weight", "U32", {2, 8}, std::string (64, '\1')},
                                                      {"b.weight", "F16", {2, 8}, std::string (32, '\1')},
                                                      {"c", "U32", {2, 8}, std::string (64, '\1')}}));
  AffineSettings none = settings (4, 32);
  none.modules.emplace ("a", std::nullopt);
  files.apply (none);
  for (const char *name : {"a.weight", "b.weight", "c"}) {
    EXPECT_EQ (files.affine (name), nullptr) << name;
    EXPECT_NO_THROW (files.require (name, {2, 8})) << name;
  }
  EXPECT_THROW (files.apply (settings (4, 32)), LoadError);
}

TEST (Affine, stacked_matrices_have_rows_of_all)
{
  const TemporaryFolder folder;
  WeightFiles files = WeightFiles::open_file (
      write (folder.path (), {{"m.weight", "U32", {2, 3, 8}, std::string (192, '\x21')},
                              {"m.scales", "F16", {2, 3, 1}, std::string (12, '\0')},
                              {"m.biases", "F16", {2, 3, 1}, std::string (12, '\0')}}));
  files.apply (settings (4, 64));
  EXPECT_NO_THROW (files.require ("m.weight", {2, 3, 64}));
  const AffineTensor *tensor = files.affine ("m.weight");
  ASSERT_NE (tensor, nullptr);
  EXPECT_EQ (tensor->data.size () / tensor->row_bytes (), 6u);
  EXPECT_EQ (tensor->scales.size () / tensor->scale_row_bytes (), 6u);
}

// Whatever shapes say, it is an error or a matrix whose parts are as long as its rows need.
TEST (Affine, any_shapes_and_settings_are_an_error_or_a_matrix)
{
  const TemporaryFolder folder;
  std::mt19937_64 random (test_seed ());
  const auto size = [&] {
    return static_cast<int64_t> (random () % 5 == 0 ? random () % 3 : random () % 17);
  };
  constexpr int kBits[] = {2, 3, 4, 5, 6, 8}, kGroups[] = {32, 64, 128};
  const std::pair<const char *, size_t> kTypes[] = {{"F16", 2}, {"BF16", 2}, {"F32", 4}, {"U8", 1}};
  int made = 0;
  for (int round = 0; round < test_rounds (400); ++round) {
    const int bits = kBits[random () % 6], group = kGroups[random () % 3];
    std::vector<int64_t> words;
    for (size_t rank = random () % 4; words.size () < rank;)
      words.push_back (size ());
    if (!words.empty () && random () % 2)
      words.back () = bits * static_cast<int64_t> (random () % 3 * static_cast<size_t> (group) / 32);
    const auto part = [&] (const std::string &name) {
      std::vector<int64_t> shape = words;
      if (!shape.empty ())
        shape.back () = shape.back () * 32 / bits / group;
      if (!shape.empty () && random () % 8 == 0)
        shape[random () % shape.size ()] = size ();
      const auto &[dtype, bytes] = kTypes[random () % 8 == 0 ? 3 : random () % 2];
      size_t count = bytes;
      for (const int64_t of : shape)
        count *= static_cast<size_t> (of);
      return Part{name, dtype, shape, std::string (count, '\1')};
    };
    size_t count = 4;
    for (const int64_t of : words)
      count *= static_cast<size_t> (of);
    WeightFiles files = WeightFiles::open_file (write (
        folder.path (),
        {{"m.weight", "U32", words, std::string (count, '\x5a')}, part ("m.scales"), part ("m.biases")}));
    try {
      files.apply (settings (bits, group));
    } catch (const LoadError &error) {
      EXPECT_EQ (error.field.substr (0, 2), "m.") << error.what ();
      continue;
    }
    ++made;
    const AffineTensor *tensor = files.affine ("m.weight");
    ASSERT_NE (tensor, nullptr);
    const size_t rows = tensor->data.size () / tensor->row_bytes ();
    EXPECT_EQ (tensor->data.size (), rows * tensor->row_bytes ());
    EXPECT_EQ (tensor->scales.size (), rows * tensor->scale_row_bytes ());
    EXPECT_EQ (tensor->biases.size (), rows * tensor->scale_row_bytes ());
    std::vector<float> row (static_cast<size_t> (tensor->inputs));
    for (size_t r = 0; r < rows; ++r)
      dequantize_affine_row (*tensor, r, row.data ());
  }
  EXPECT_GT (made, 0);
}

} // namespace
