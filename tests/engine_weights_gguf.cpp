// labels: unit
//
// GGUF files: what the writer writes is what the reader reads, and whatever is wrong with one is a LoadError.
#include "engine/error.hpp"
#include "engine/weights/gguf_fields.hpp"
#include "engine/weights/gguf_writer.hpp"
#include "engine/weights/weight_files.hpp"
#include "tests/seed.hpp"
#include "tests/test_paths.hpp"

#include <bit>
#include <cstring>
#include <fstream>
#include <functional>

namespace fs = std::filesystem;
using namespace millrace;

namespace
{

std::string
contents_of (const fs::path &file)
{
  std::ifstream stream (file, std::ios::binary);
  return {std::istreambuf_iterator<char> (stream), {}};
}

void
write (const fs::path &file, const std::string &bytes)
{
  std::ofstream (file, std::ios::binary) << bytes;
}

std::span<const std::byte>
bytes_of (const std::string &text)
{
  return std::as_bytes (std::span (text.data (), text.size ()));
}

/// The message of the LoadError that `action` throws; a failure when it throws none.
std::string
error_of (const std::function<void ()> &action)
{
  try {
    action ();
  } catch (const LoadError &error) {
    return error.what ();
  }
  ADD_FAILURE () << "no LoadError";
  return "";
}

void
expect_part (const std::string &text, const std::string &part)
{
  EXPECT_NE (text.find (part), std::string::npos) << "\"" << part << "\" is not in: " << text;
}

/// A file by hand, for what the writer refuses to write.
struct RawFile {
  std::string bytes;

  template <typename T>
  RawFile &number (T value)
  {
    bytes.append (reinterpret_cast<const char *> (&value), sizeof value);
    return *this;
  }
  RawFile &text (const std::string &value)
  {
    number (static_cast<uint64_t> (value.size ()));
    bytes += value;
    return *this;
  }
  RawFile &start (uint64_t tensors, uint64_t metadata, uint32_t version = 3)
  {
    bytes += "GGUF";
    return number (version).number (tensors).number (metadata);
  }
  RawFile &u32 (const std::string &key, uint32_t value)
  {
    return text (key).number (uint32_t{4}).number (value);
  }
  /// Dimensions innermost first.
  RawFile &tensor (const std::string &name, const std::vector<uint64_t> &dimensions, uint32_t type,
                   uint64_t offset)
  {
    text (name).number (static_cast<uint32_t> (dimensions.size ()));
    for (const uint64_t size : dimensions)
      number (size);
    return number (type).number (offset);
  }
  RawFile &data (size_t count)
  {
    bytes.resize ((bytes.size () + 31) / 32 * 32);
    bytes.append (count, 'd');
    return *this;
  }
};

GgufHeader
parse (const RawFile &file)
{
  return parse_gguf ("raw.gguf", bytes_of (file.bytes));
}

void
expect_refused (const RawFile &file, const std::string &field, const std::string &part)
{
  try {
    parse (file);
  } catch (const LoadError &error) {
    EXPECT_EQ (error.field, field) << error.what ();
    expect_part (error.what (), part);
    return;
  }
  ADD_FAILURE () << "no LoadError about " << field << ": " << part;
}

/// All kinds of metadata, and a tensor of every type.
void
write_sample (const fs::path &file)
{
  GgufWriter writer (file);
  writer.set ("u8", uint8_t{200});
  writer.set ("i8", int8_t{-100});
  writer.set ("u16", uint16_t{60000});
  writer.set ("i16", int16_t{-30000});
  writer.set ("u32", uint32_t{4000000000});
  writer.set ("i32", int32_t{-2000000000});
  writer.set ("u64", uint64_t{1} << 63);
  writer.set ("i64", -(int64_t{1} << 62));
  writer.set ("f32", 1.5f);
  writer.set ("f64", -2.25);
  writer.set ("yes", true);
  writer.set ("no", false);
  writer.set ("text", "Führer\0x");
  writer.set ("texts", std::vector<std::string>{"a", "", "ccc"});
  writer.set ("floats", std::vector<float>{1, -2});
  writer.set ("integers", std::vector<int32_t>{7, -8, 9});
  writer.set ("none", std::vector<std::string>{});
  writer.add_tensor ("f32", DType::kF32, {2, 3});
  writer.add_tensor ("empty", DType::kF16, {0, 7});
  writer.add_tensor ("q4_k", DType::kQ4K, {3, 512});
  writer.add_tensor ("q8_0", DType::kQ8_0, {1, 2, 32});
  writer.add_tensor ("vector", DType::kBF16, {5});
  writer.begin_data ();
  std::string data;
  for (const size_t count : {24, 3 * 2 * 144, 2 * 34, 10})
    data += std::string (count, static_cast<char> ('a' + data.size () % 26));
  // In pieces that have nothing to do with the tensors.
  for (size_t at = 0; at < data.size (); at += 37)
    writer.write (bytes_of (data).subspan (at, std::min<size_t> (37, data.size () - at)));
  writer.finish ();
}

TEST (Gguf, what_is_written_is_read)
{
  const TemporaryFolder folder;
  const fs::path file = folder.path () / "sample.gguf";
  write_sample (file);
  const MappedFile mapped (file);
  const GgufHeader header = parse_gguf (file, mapped.bytes ());
  EXPECT_EQ (header.version, 3u);
  const GgufFields fields (file, header.metadata);
  EXPECT_EQ (fields.integer ("u8", 0, 255), 200);
  EXPECT_EQ (fields.integer ("i8", -128, 127), -100);
  EXPECT_EQ (fields.integer ("u16", 0, 65535), 60000);
  EXPECT_EQ (fields.integer ("i16", INT16_MIN, 0), -30000);
  EXPECT_EQ (fields.integer ("u32", 0, UINT32_MAX), 4000000000);
  EXPECT_EQ (fields.integer ("i32", INT32_MIN, 0), -2000000000);
  EXPECT_EQ (fields.integer ("i64", INT64_MIN, 0), -(int64_t{1} << 62));
  EXPECT_EQ (fields.number ("f32", 0, 2), 1.5);
  EXPECT_EQ (fields.number ("f64", -3, 2), -2.25);
  EXPECT_EQ (fields.number ("u8", 0, 255), 200);
  EXPECT_TRUE (fields.boolean_or ("yes", false));
  EXPECT_FALSE (fields.boolean_or ("no", true));
  EXPECT_EQ (fields.text ("text"), "Führer");
  EXPECT_EQ (fields.texts ("texts"), (std::vector<std::string_view>{"a", "", "ccc"}));
  EXPECT_TRUE (fields.texts ("none").empty ());
  EXPECT_EQ (fields.integers ("integers"), (std::vector<int32_t>{7, -8, 9}));
  EXPECT_TRUE (fields.integers ("absent").empty ());
  EXPECT_EQ (fields.integer_or ("absent", 0, 1, 5), 5);

  const WeightFiles weights = WeightFiles::open_file (file);
  ASSERT_EQ (weights.tensors ().size (), 5u);
  EXPECT_EQ (weights.require ("f32", {2, 3}).data.size (), 24u);
  EXPECT_EQ (weights.require ("empty", {0, 7}).data.size (), 0u);
  EXPECT_EQ (weights.require ("q4_k", {3, 512}).dtype, DType::kQ4K);
  EXPECT_EQ (weights.require ("q4_k", {3, 512}).data.size (), 3u * 2 * 144);
  EXPECT_EQ (weights.require ("q8_0", {1, 2, 32}).data[67], weights.require ("q8_0", {1, 2, 32}).data[0]);
  EXPECT_EQ (weights.require ("vector", {5}).data.size (), 10u);
  for (const auto &[name, tensor] : weights.tensors ())
    EXPECT_EQ (reinterpret_cast<uintptr_t> (tensor.data.data ()) % 32, 0u) << name;
  EXPECT_EQ (weights.file_of ("vector"), file);
}

TEST (Gguf, values_of_another_type_or_range_are_refused_by_key)
{
  const TemporaryFolder folder;
  const fs::path file = folder.path () / "sample.gguf";
  write_sample (file);
  const MappedFile mapped (file);
  const GgufHeader header = parse_gguf (file, mapped.bytes ());
  const GgufFields fields (file, header.metadata);
  const auto refused = [&] (const char *key, const std::string &part, const std::function<void ()> &action) {
    const std::string message = error_of (action);
    expect_part (message, file.string () + ": " + key + ": ");
    expect_part (message, part);
  };
  refused ("u64", "is 9223372036854775808, expected an integer from 0 to 9",
           [&] { fields.integer ("u64", 0, 9); });
  refused ("u8", "is 200, expected an integer from 0 to 100", [&] { fields.integer ("u8", 0, 100); });
  refused ("f32", "is 1.5, expected an integer", [&] { fields.integer ("f32", 0, 9); });
  refused ("absent", "is missing", [&] { fields.integer ("absent", 0, 9); });
  refused ("text", "is \"Führer\", expected a number", [&] { fields.number ("text", 0, 9); });
  refused ("texts", "is an array, expected a string", [&] { fields.text ("texts"); });
  refused ("u8", "is 200, expected true or false", [&] { fields.boolean_or ("u8", true); });
  refused ("floats", "expected an array of strings", [&] { fields.texts ("floats"); });
  refused ("floats", "entry 0", [&] { fields.integers ("floats"); });
  refused ("texts", "expected an array of integers", [&] { fields.integers ("texts"); });
  refused ("yes", "is true, expected an integer", [&] { fields.integer ("yes", 0, 1); });
}

TEST (Gguf, damage_is_refused_by_field)
{
  const auto raw = [] (uint64_t tensors = 0, uint64_t metadata = 0) {
    return RawFile ().start (tensors, metadata);
  };
  expect_refused (RawFile{"GGML"}, "magic", "does not begin with");
  expect_refused (RawFile{"GG"}, "magic", "cut short");
  expect_refused (RawFile{"version https://git-lfs.github.com/spec/v1"}, "", "git lfs pull");
  expect_refused (RawFile ().start (0, 0, 1), "version", "1 is not supported");
  expect_refused (RawFile ().start (0, 0, 4), "version", "4 is not supported");
  expect_refused (RawFile ().start (0, 0, 3u << 24), "version", "big-endian");
  expect_refused (raw (1000), "tensor count", "1000 entries do not fit");
  expect_refused (raw (UINT64_MAX), "tensor count", "do not fit");
  expect_refused (raw (0, UINT64_MAX), "metadata count", "do not fit");
  expect_refused (raw (0, 1).text ("k").number (uint32_t{13}), "k", "unknown type 13");
  expect_refused (raw (0, 1).text ("").number (uint32_t{0}).number (uint8_t{0}), "metadata key 0",
                  "has 0 bytes");
  expect_refused (raw (0, 2).u32 ("k", 1).u32 ("k", 2), "k", "is given twice");
  expect_refused (raw (0, 1).text ("k").number (uint32_t{7}).number (uint8_t{2}), "k", "expected 0 or 1");
  expect_refused (raw (0, 1).text ("k").number (uint32_t{8}).number (UINT64_MAX), "k", "cut short");
  const auto array = [&] (uint32_t element, uint64_t count) {
    return raw (0, 1).text ("k").number (uint32_t{9}).number (element).number (count);
  };
  expect_refused (array (9, 1), "k", "array of arrays");
  expect_refused (array (8, UINT64_MAX), "k", "do not fit");
  expect_refused (array (10, uint64_t{1} << 61), "k", "do not fit");
  expect_refused (array (77, 1), "k", "unknown type 77");
  const auto aligned = [&] (uint32_t alignment) { return raw (0, 1).u32 ("general.alignment", alignment); };
  for (const uint32_t alignment : {0u, 24u, 1u << 31, UINT32_MAX})
    expect_refused (aligned (alignment), "general.alignment", "expected a power of two");
  expect_refused (raw (0, 1).text ("general.alignment").number (uint32_t{5}).number (int32_t{32}),
                  "general.alignment", "expected uint32");
  EXPECT_NO_THROW (parse (aligned (64)));

  const auto tensor = [&] (const std::vector<uint64_t> &dimensions, uint32_t type, uint64_t offset,
                           size_t bytes) {
    return raw (1).tensor ("t", dimensions, type, offset).data (bytes);
  };
  expect_refused (tensor ({1, 1, 1, 1, 1}, 0, 0, 4), "t", "5 dimensions");
  expect_refused (tensor ({UINT64_MAX}, 0, 0, 4), "t", "a dimension of");
  expect_refused (tensor ({uint64_t{1} << 62, 4}, 0, 0, 4), "t", "more elements than can be counted");
  expect_refused (tensor ({0, uint64_t{1} << 40, uint64_t{1} << 40}, 0, 0, 4), "t", "can be counted");
  expect_refused (tensor ({uint64_t{1} << 40, uint64_t{1} << 40}, 99, 0, 4), "t", "can be counted");
  expect_refused (tensor ({48}, 8, 0, 68), "t", "no whole blocks of 32, which Q8_0 has");
  expect_refused (tensor ({128}, 12, 0, 144), "t", "no whole blocks of 256");
  expect_refused (tensor ({8}, 0, 16, 64), "t", "is not a multiple of the alignment, 32");
  expect_refused (tensor ({8}, 0, 0, 31), "t", "reach beyond the 31 bytes");
  expect_refused (tensor ({8}, 0, 64, 32), "t", "reach beyond");
  expect_refused (tensor ({8}, 0, UINT64_MAX - 31, 32), "t", "reach beyond");
  expect_refused (tensor ({8}, 99, 64, 32), "t", "reach beyond");
  EXPECT_NO_THROW (parse (tensor ({8}, 0, 0, 32)));
  EXPECT_NO_THROW (parse (tensor ({}, 0, 0, 4)));

  const auto two = [&] (const char *second, uint64_t offset) {
    return raw (2).tensor ("a", {8, 2}, 0, 0).tensor (second, {8}, 0, offset).data (96);
  };
  expect_refused (two ("b", 32), "b", "overlap those of a");
  expect_refused (two ("a", 64), "a", "listed twice");
  expect_refused (raw (1).tensor ("", {8}, 0, 0).data (32), "name of tensor 0", "has 0 bytes");
  EXPECT_NO_THROW (parse (two ("b", 64)));
}

TEST (Gguf, version_2_is_read_as_well)
{
  const GgufHeader header =
      parse (RawFile ().start (1, 1, 2).u32 ("k", 7).tensor ("t", {32, 2}, 8, 0).data (68));
  EXPECT_EQ (header.version, 2u);
  EXPECT_EQ (header.tensors.at (0).shape, (Shape{2, 32}));
}

TEST (Gguf, types_that_are_not_supported_are_errors_only_when_required)
{
  const TemporaryFolder folder;
  const fs::path file = folder.path () / "odd.gguf";
  write (file, RawFile ()
                   .start (3, 0)
                   .tensor ("iq2_xs", {256}, 17, 0)
                   .tensor ("future", {7}, 99, 96)
                   .tensor ("good", {4}, 0, 96)
                   .data (112)
                   .bytes);
  const WeightFiles weights = WeightFiles::open_file (file);
  EXPECT_EQ (weights.find ("iq2_xs"), nullptr);
  EXPECT_TRUE (weights.contains ("iq2_xs"));
  EXPECT_NO_THROW (weights.require ("good", {4}));
  expect_part (error_of ([&] { weights.require ("iq2_xs", {256}); }),
               "dtype IQ2_XS is not supported; use a file of");
  expect_part (error_of ([&] { weights.require ("future", {7}); }), "dtype number 99 is not supported");
  expect_part (error_of ([&] { weights.require ("absent", {7}); }), "is missing");
  expect_part (error_of ([&] { weights.require ("good", {2, 2}); }), "has shape [4], expected [2, 2]");
}

TEST (Gguf, a_file_cut_anywhere_is_refused)
{
  const TemporaryFolder folder;
  const fs::path file = folder.path () / "sample.gguf";
  write_sample (file);
  const std::string whole = contents_of (file);
  const GgufHeader header = parse_gguf (file, bytes_of (whole));
  const size_t end = static_cast<size_t> (header.tensors.back ().data.data () - bytes_of (whole).data ()) +
                     header.tensors.back ().data.size ();
  for (size_t size = 0; size < end; ++size) {
    const std::string part = whole.substr (0, size); // its own memory, so that sanitizers see its end
    EXPECT_THROW (parse_gguf (file, bytes_of (part)), LoadError)
        << size << " of " << whole.size () << " bytes";
  }
}

TEST (Gguf, a_flipped_bit_is_an_error_or_changes_a_value)
{
  const TemporaryFolder folder;
  const fs::path file = folder.path () / "sample.gguf";
  write_sample (file);
  const std::string whole = contents_of (file);
  const GgufHeader header = parse_gguf (file, bytes_of (whole));
  const auto header_bytes = static_cast<size_t> (header.tensors[0].data.data () - bytes_of (whole).data ());
  size_t refused = 0;
  for (size_t bit = 0; bit < header_bytes * 8; ++bit) {
    std::string damaged = whole;
    damaged[bit / 8] = static_cast<char> (damaged[bit / 8] ^ 1 << bit % 8);
    try {
      for (const TensorEntry &entry : parse_gguf (file, bytes_of (damaged)).tensors) {
        const auto data = bytes_of (damaged);
        ASSERT_LE (entry.data.size (), data.size ());
        if (!entry.data.empty ()) {
          ASSERT_GE (entry.data.data (), data.data ());
          ASSERT_LE (entry.data.data () + entry.data.size (), data.data () + data.size ());
        }
      }
    } catch (const LoadError &) {
      ++refused;
    }
  }
  EXPECT_GT (refused, header_bytes); // most of the header is counts, types and lengths
}

TEST (Gguf, random_damage_never_does_more_than_a_load_error)
{
  const TemporaryFolder folder;
  const fs::path file = folder.path () / "sample.gguf";
  write_sample (file);
  const std::string whole = contents_of (file);
  std::mt19937_64 random (test_seed ());
  for (int round = 0; round < test_rounds (3000); ++round) {
    std::string damaged = whole.substr (0, random () % 4 ? whole.size () : random () % whole.size ());
    for (uint64_t changes = 1 + random () % 8; changes > 0 && !damaged.empty (); --changes) {
      const size_t at = random () % std::min<size_t> (damaged.size (), 1200);
      const uint64_t value = random () % 3 ? random () % 300 : ~uint64_t{0} >> random () % 64;
      std::memcpy (damaged.data () + at, &value, std::min<size_t> (1 + random () % 8, damaged.size () - at));
    }
    try {
      parse_gguf (file, bytes_of (damaged));
    } catch (const LoadError &) {
    }
  }
}

TEST (Gguf, the_writer_refuses_what_was_not_announced)
{
  const TemporaryFolder folder;
  const fs::path file = folder.path () / "bad.gguf";
  const std::string data (64, 'x');
  const auto fails = [&] (const std::function<void (GgufWriter &)> &use) {
    GgufWriter writer (file);
    writer.add_tensor ("t", DType::kF32, {8});
    EXPECT_THROW (use (writer), std::runtime_error);
  };
  fails ([&] (GgufWriter &w) { w.add_tensor ("t", DType::kF32, {8}); });
  fails ([&] (GgufWriter &w) { w.add_tensor ("", DType::kF32, {8}); });
  fails ([&] (GgufWriter &w) { w.add_tensor ("u", DType::kBool, {8}); });
  fails ([&] (GgufWriter &w) { w.add_tensor ("u", DType::kQ6K, {2, 128}); });
  fails ([&] (GgufWriter &w) { w.add_tensor ("u", DType::kF32, {1, 1, 1, 1, 1}); });
  fails ([&] (GgufWriter &w) { w.set ("k", 1.0f), w.set ("k", 2.0f); });
  fails ([&] (GgufWriter &w) { w.write (bytes_of (data)); });
  fails ([&] (GgufWriter &w) { w.begin_data (), w.write (bytes_of (data)); });
  fails ([&] (GgufWriter &w) { w.begin_data (), w.write (bytes_of (data).first (31)), w.finish (); });
  fails ([&] (GgufWriter &w) { w.begin_data (), w.set ("k", true); });
  fails ([&] (GgufWriter &w) { w.finish (); });
  EXPECT_THROW (GgufWriter (folder.path () / "no" / "folder.gguf"), std::runtime_error);
}

/// One part of a model of `parts`, with one tensor.
void
write_part (const fs::path &file, int part, int parts, const std::string &tensor, int tensors)
{
  GgufWriter writer (file);
  writer.set ("split.no", static_cast<uint16_t> (part));
  writer.set ("split.count", static_cast<uint16_t> (parts));
  writer.set ("split.tensors.count", int32_t{tensors});
  writer.add_tensor (tensor, DType::kI8, {3});
  writer.begin_data ();
  writer.write (bytes_of (std::string (3, static_cast<char> ('0' + part))));
  writer.finish ();
}

TEST (Gguf, a_model_in_parts_is_opened_by_its_first)
{
  const TemporaryFolder folder;
  const auto part = [&] (int number) {
    return folder.path () / ("m-0000" + std::to_string (number) + "-of-00003.gguf");
  };
  const auto open = [&] { return WeightFiles::open_file (part (1)); };
  for (int i = 0; i < 3; ++i)
    write_part (part (i + 1), i, 3, "t" + std::to_string (i), 3);
  const WeightFiles weights = open ();
  for (int i = 0; i < 3; ++i) {
    const std::string name = "t" + std::to_string (i);
    EXPECT_EQ (std::to_integer<char> (weights.require (name, {3}).data[2]), '0' + i);
    EXPECT_EQ (weights.file_of (name), part (i + 1));
  }
  expect_part (error_of ([&] { WeightFiles::open_file (part (2)); }), "not the first part");
  write_part (part (3), 2, 3, "t1", 3);
  expect_part (error_of (open), "is also in " + part (2).string ());
  write_part (part (3), 1, 3, "t2", 3);
  expect_part (error_of (open), "is part 2 of 3, expected part 3 of 3");
  write_part (part (3), 2, 4, "t2", 3);
  expect_part (error_of (open), "is part 3 of 4, expected part 3 of 3");
  write_part (part (3), 2, 3, "t2", 3);
  write_part (part (1), 0, 3, "t0", 4);
  expect_part (error_of (open), "is 4 but the parts hold 3 tensors");
  fs::remove (part (3));
  expect_part (error_of (open), part (3).string () + ": is a part of");
  write_part (folder.path () / "renamed.gguf", 0, 3, "t0", 3);
  expect_part (error_of ([&] { WeightFiles::open_file (folder.path () / "renamed.gguf"); }),
               "does not end in -00001-of-00003.gguf");
}

} // namespace
