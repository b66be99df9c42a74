// labels: unit
// Safetensors files: what good ones give, and that bad ones are refused by file and tensor.
#include "engine/weights/safetensors.hpp"

#include "engine/error.hpp"
#include "engine/weights/safetensors_header.hpp"
#include "tests/test_paths.hpp"

#include <cstdio>
#include <cstring>
#include <fstream>
#include <random>
#include <set>
#include <utility>

namespace
{

using namespace millrace;
namespace fs = std::filesystem;

/// Bytes of a file: header length, header, data.
std::string
safetensors (const std::string &header, const std::string &data)
{
  std::string bytes;
  for (int i = 0; i < 8; ++i)
    bytes += static_cast<char> (static_cast<uint64_t> (header.size ()) >> (8 * i));
  return bytes + header + data;
}

std::string
with_length (uint64_t length, const std::string &rest)
{
  std::string bytes;
  for (int i = 0; i < 8; ++i)
    bytes += static_cast<char> (length >> (8 * i));
  return bytes + rest;
}

void
write (const fs::path &file, const std::string &bytes)
{
  std::ofstream (file, std::ios::binary) << bytes;
}

/// `"name":{"dtype":...}`
std::string
tensor (const std::string &name, const std::string &dtype, const std::string &shape, const std::string &range)
{
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":" + range +
         "}";
}

std::string
one_tensor (const std::string &name, const std::string &data = "abcd")
{
  return safetensors ("{" + tensor (name, "U8", "[4]", "[0,4]") + "}", data);
}

std::string
index_of (const std::string &weight_map)
{
  return "{\"metadata\":{\"total_size\":8},\"weight_map\":{" + weight_map + "}}";
}

/// The message of the LoadError that `action` throws; a failure when it throws none.
template <typename Action>
std::string
error_of (const Action &action)
{
  try {
    action ();
  } catch (const LoadError &error) {
    return error.what ();
  }
  ADD_FAILURE () << "no LoadError";
  return "";
}

testing::AssertionResult
contains_all (const std::string &text, const std::vector<std::string> &parts)
{
  for (const std::string &part : parts)
    if (text.find (part) == std::string::npos)
      return testing::AssertionFailure () << "\"" << part << "\" is not in: " << text;
  return testing::AssertionSuccess ();
}

const std::string kGoodHeader =
    "{\"__metadata__\":{\"format\":\"pt\"}," + tensor ("b", "BF16", "[2,3]", "[4,16]") + "," +
    tensor ("a", "F32", "[]", "[0,4]") + "," + tensor ("empty", "F16", "[0,7]", "[16,16]") + "," +
    tensor ("f8", "F8_E5M2", "[5]", "[16,21]") + "," + tensor ("c", "I64", "[1]", "[21,29]") + "}   ";
const std::string kGoodData = "AAAAbbbbbbbbbbbb88888cccccccc";

TEST (safetensors, a_good_file_gives_its_tensors)
{
  const TemporaryFolder folder;
  const fs::path file = folder.path () / "model.safetensors";
  write (file, safetensors (kGoodHeader, kGoodData));
  for (const WeightFiles &weights : {WeightFiles::open (folder.path ()), WeightFiles::open_file (file)}) {
    ASSERT_EQ (weights.tensors ().size (), 4u);
    const TensorView &b = weights.require ("b", {2, 3});
    EXPECT_EQ (b.dtype, DType::kBF16);
    EXPECT_EQ (std::string (reinterpret_cast<const char *> (b.data.data ()), b.data.size ()), "bbbbbbbbbbbb");
    EXPECT_EQ (weights.require ("a", {}).data.size (), 4u);
    EXPECT_EQ (weights.require ("empty", {0, 7}).data.size (), 0u);
    EXPECT_EQ (weights.require ("c", {1}).dtype, DType::kI64);
    EXPECT_EQ (weights.find ("d"), nullptr);
    EXPECT_EQ (weights.file_of ("b"), file);
    EXPECT_EQ (weights.file_of ("f8"), file);
  }
  EXPECT_EQ (WeightFiles::open (folder.path ()).file_of ("d"), folder.path ());
}

TEST (safetensors, a_file_without_tensors_is_a_file_without_tensors)
{
  const TemporaryFolder folder;
  write (folder.path () / "none", safetensors ("{}", ""));
  EXPECT_TRUE (WeightFiles::open_file (folder.path () / "none").tensors ().empty ());
}

TEST (safetensors, tensors_stay_where_they_are_when_the_object_moves)
{
  const TemporaryFolder folder;
  write (folder.path () / "model.safetensors", safetensors (kGoodHeader, kGoodData));
  WeightFiles first = WeightFiles::open (folder.path ());
  const auto *address = first.find ("b")->data.data ();
  const WeightFiles second = std::move (first);
  EXPECT_EQ (second.find ("b")->data.data (), address);
  EXPECT_EQ (static_cast<char> (*second.find ("b")->data.data ()), 'b');
}

TEST (safetensors, a_tensor_that_cannot_be_used_is_an_error_only_when_required)
{
  const TemporaryFolder folder;
  const std::string file = (folder.path () / "model.safetensors").string ();
  write (file, safetensors (kGoodHeader, kGoodData));
  const WeightFiles weights = WeightFiles::open (folder.path ());
  EXPECT_EQ (weights.find ("f8"), nullptr);
  EXPECT_TRUE (contains_all (error_of ([&] { weights.require ("f8", {5}); }),
                             {file, "f8", "dtype F8_E5M2 is not supported"}));
  EXPECT_TRUE (contains_all (error_of ([&] {
                               weights.require ("b", {3, 2});
                             }),
                             {file, "b: ", "[2, 3]", "[3, 2]"}));
  EXPECT_TRUE (contains_all (error_of ([&] { weights.require ("b", {6}); }), {file, "b: ", "[2, 3]", "[6]"}));
  EXPECT_TRUE (contains_all (error_of ([&] { weights.require ("model.norm.weight", {6}); }),
                             {folder.path ().string (), "model.norm.weight", "missing"}));
}

struct Damage {
  std::string name;
  std::string bytes;
  std::vector<std::string> message;
};

std::vector<Damage>
damages ()
{
  const auto file = [] (const std::string &tensors, const std::string &data = "abcdefgh") {
    return safetensors ("{" + tensors + "}", data);
  };
  const std::string good = tensor ("w", "F32", "[2]", "[0,8]");
  const auto w = [] (const std::string &dtype, const std::string &shape, const std::string &range) {
    return tensor ("w", dtype, shape, range);
  };
  const uint64_t bit63 = uint64_t{1} << 63;
  return {
      {"empty file", "", {"header length"}},
      {"seven bytes", "1234567", {"header length", "7 bytes"}},
      {"length only", with_length (2, ""), {"header length"}},
      {"length 2^63", with_length (bit63, "{}"), {"header length", "9223372036854775808"}},
      {"length 2^64 - 1", with_length (~uint64_t{0}, "{}"), {"header length"}},
      {"length 2^64 - 8", with_length (~uint64_t{0} - 7, "{}"), {"header length"}},
      {"length one too long", with_length (3, "{}"), {"header length", "3"}},
      {"length of zero", with_length (0, ""), {"header", "'{'"}},
      {"Git LFS pointer", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n", {"git lfs pull"}},
      {"no JSON", safetensors ("{nonsense}", ""), {"header", "JSON"}},
      {"cut JSON", safetensors ("{" + good, "abcdefgh"), {"header", "JSON"}},
      {"NUL in the header", safetensors (std::string ("{\0}", 3), ""), {"header", "JSON"}},
      {"invalid UTF-8", safetensors ("{\"\xff\":1}", ""), {"header", "JSON"}},
      {"deep nesting", safetensors ("{\"w\":" + std::string (100'000, '['), ""), {"header", "JSON"}},
      {"an array", safetensors ("[]", ""), {"header", "'{'"}},
      {"metadata is a list", file ("\"__metadata__\":[]," + good), {"__metadata__"}},
      {"metadata holds a number", file ("\"__metadata__\":{\"k\":1}," + good), {"__metadata__", "k"}},
      {"entry is a number", file ("\"w\":1"), {"w: ", "object"}},
      {"no dtype", file (R"("w":{"shape":[2],"data_offsets":[0,8]})"), {"w: ", "dtype is missing"}},
      {"no shape", file (R"("w":{"dtype":"F32","data_offsets":[0,8]})"), {"w: ", "shape is missing"}},
      {"no offsets", file (R"("w":{"dtype":"F32","shape":[2]})"), {"w: ", "data_offsets is missing"}},
      {"shape given twice",
       file (R"("w":{"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]})"),
       {"w: ", "shape is given twice"}},
      {"dtype is a number", file (R"("w":{"dtype":4,"shape":[2],"data_offsets":[0,8]})"), {"w: ", "dtype"}},
      {"shape is a number", file (w ("F32", "2", "[0,8]")), {"w: ", "shape"}},
      {"negative dimension", file (w ("F32", "[-2]", "[0,8]")), {"w: ", "shape[0]"}},
      {"fractional dimension", file (w ("F32", "[2,1.0]", "[0,8]")), {"w: ", "shape[1]"}},
      {"dimension above 2^63", file (w ("F32", "[9223372036854775808]", "[0,8]")), {"w: ", "shape[0]"}},
      {"product overflows", file (w ("F32", "[4294967296,4294967296]", "[0,8]")), {"w: ", "4294967296"}},
      {"bytes overflow", file (w ("F64", "[2305843009213693952]", "[0,8]")), {"w: ", "2305843009213693952"}},
      {"product overflows before a zero",
       file (w ("U8", "[4611686018427387904,4,0]", "[0,0]"), ""),
       {"w: ", "shape"}},
      {"product of an unknown dtype overflows",
       file (w ("F8_E5M2", "[4611686018427387904,4]", "[0,8]")),
       {"w: ", "shape"}},
      {"too many dimensions",
       file (w ("U8", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,8]", "[0,8]")),
       {"w: ", "16 dimensions"}},
      {"offsets are no array", file (w ("F32", "[2]", "8")), {"w: ", "data_offsets"}},
      {"one offset", file (w ("F32", "[2]", "[8]")), {"w: ", "data_offsets"}},
      {"three offsets", file (w ("F32", "[2]", "[0,8,16]")), {"w: ", "data_offsets"}},
      {"negative offset", file (w ("F32", "[2]", "[-8,0]")), {"w: ", "data_offsets"}},
      {"offsets are strings", file (w ("F32", "[2]", "[\"0\",\"8\"]")), {"w: ", "data_offsets"}},
      {"offsets backwards", file (w ("F32", "[2]", "[8,0]")), {"w: ", "[8, 0]", "before"}},
      {"offset beyond the file", file (w ("F32", "[2]", "[8,16]")), {"w: ", "[8, 16]", "beyond"}},
      {"offset of 2^64 - 1",
       file (w ("F32", "[2]", "[18446744073709551607,18446744073709551615]")),
       {"w: ", "beyond"}},
      {"range shorter than the shape", file (w ("F32", "[2]", "[0,4]")), {"w: ", "needs 8 bytes", "give 4"}},
      {"range longer than the shape", file (w ("F32", "[1]", "[0,8]")), {"w: ", "needs 4 bytes", "give 8"}},
      {"data cut short", file (good, "abcdefg"), {"w: ", "beyond", "7 bytes"}},
      {"data after the last tensor", file (good, "abcdefghi"), {"w", "byte 8", "9"}},
      {"data without tensors", file ("", "abcdefgh"), {"header", "byte 0", "8"}},
      {"hole at the begin", file (w ("F32", "[1]", "[4,8]")), {"w: ", "hole of 4 bytes"}},
      {"hole between",
       file (tensor ("a", "U8", "[3]", "[0,3]") + "," + tensor ("b", "U8", "[4]", "[4,8]")),
       {"b: ", "hole of 1 bytes", "tensor a"}},
      {"overlap by one byte",
       file (tensor ("a", "U8", "[5]", "[0,5]") + "," + tensor ("b", "U8", "[4]", "[4,8]")),
       {"b: ", "overlap", "tensor a"}},
      {"the same range twice",
       file (tensor ("a", "U8", "[8]", "[0,8]") + "," + tensor ("b", "U8", "[8]", "[0,8]")),
       {"b: ", "overlap"}},
      {"an unsupported dtype overlaps",
       file (tensor ("a", "F8_E5M2", "[5]", "[0,5]") + "," + tensor ("b", "U8", "[4]", "[4,8]")),
       {"b: ", "overlap"}},
      {"a name twice",
       file (tensor ("w", "U8", "[4]", "[0,4]") + "," + tensor ("w", "U8", "[4]", "[4,8]")),
       {"w: ", "twice"}},
      {"control characters in a name are not printed",
       file (tensor ("w\\u001b[31m", "U8", "[9]", "[0,8]")),
       {"w?[31m", "needs 9 bytes"}},
  };
}

TEST (safetensors, damage_is_refused_by_file_and_tensor)
{
  const TemporaryFolder folder;
  const fs::path file = folder.path () / "model.safetensors";
  for (const Damage &damage : damages ()) {
    SCOPED_TRACE (damage.name);
    write (file, damage.bytes);
    const std::string message = error_of ([&] { WeightFiles::open_file (file); });
    EXPECT_TRUE (contains_all (message, {file.string ()}));
    EXPECT_TRUE (contains_all (message, damage.message));
    EXPECT_EQ (error_of ([&] { WeightFiles::open (folder.path ()); }), message);
  }
}

TEST (safetensors, missing_files_are_named_with_a_remedy)
{
  const TemporaryFolder folder;
  const auto open = [] (const fs::path &path) { return error_of ([&] { WeightFiles::open (path); }); };
  const fs::path missing = folder.path () / "missing";
  EXPECT_TRUE (contains_all (open (missing), {missing.string (), "no such folder"}));
  EXPECT_TRUE (contains_all (open (folder.path ()), {folder.path ().string (), "model.safetensors nor",
                                                     "model.safetensors.index.json", "fetch"}));
  write (folder.path () / "file", "");
  EXPECT_TRUE (contains_all (open (folder.path () / "file"), {"not a folder"}));
  EXPECT_TRUE (contains_all (error_of ([&] { WeightFiles::open_file (missing); }), {missing.string ()}));
  fs::create_directory (folder.path () / "model.safetensors");
  EXPECT_TRUE (contains_all (open (folder.path ()), {"model.safetensors", "regular file"}));
}

TEST (safetensors, shards_listed_by_an_index_are_one_model)
{
  const TemporaryFolder folder;
  write (folder.path () / "one.safetensors", one_tensor ("a", "aaaa"));
  write (folder.path () / "two.safetensors", one_tensor ("b", "bbbb"));
  write (folder.path () / "model.safetensors.index.json",
         index_of (R"("a":"one.safetensors","b":"two.safetensors")"));
  const WeightFiles weights = WeightFiles::open (folder.path ());
  EXPECT_EQ (weights.tensors ().size (), 2u);
  EXPECT_EQ (static_cast<char> (weights.require ("b", {4}).data[3]), 'b');
  EXPECT_EQ (weights.file_of ("a"), folder.path () / "one.safetensors");
  EXPECT_EQ (weights.file_of ("b"), folder.path () / "two.safetensors");
}

TEST (safetensors, a_bad_index_or_shard_is_refused_by_name)
{
  struct Case {
    std::string name;
    std::string index;
    std::vector<std::string> message;
  };
  const std::string deep (3000, '[');
  const std::vector<Case> cases = {
      {"empty index", "", {"index.json", "JSON"}},
      {"no JSON", "{", {"index.json", "JSON"}},
      {"deep nesting", deep, {"index.json", "JSON"}},
      {"an array", "[]", {"index.json", "weight_map"}},
      {"no weight_map", "{}", {"index.json", "weight_map"}},
      {"weight_map is a list", R"({"weight_map":[]})", {"index.json", "weight_map"}},
      {"empty weight_map", index_of (""), {"index.json", "weight_map", "no tensors"}},
      {"shard is a number", index_of (R"("a":1)"), {"index.json", "a: ", "string"}},
      {"tensor twice",
       index_of (R"("a":"one.safetensors","a":"one.safetensors")"),
       {"index.json", "a: ", "twice"}},
      {"shard up", index_of (R"("a":"../one.safetensors")"), {"index.json", "a: ", "plain file name"}},
      {"shard absolute", index_of (R"("a":"/etc/passwd")"), {"index.json", "a: ", "plain file name"}},
      {"shard in a folder",
       index_of (R"("a":"x/one.safetensors")"),
       {"index.json", "a: ", "plain file name"}},
      {"shard with a backslash",
       index_of (R"("a":"x\\one.safetensors")"),
       {"index.json", "a: ", "plain file name"}},
      {"shard dots", index_of (R"("a":"..")"), {"index.json", "a: ", "plain file name"}},
      {"shard dot", index_of (R"("a":".")"), {"index.json", "a: ", "plain file name"}},
      {"shard empty", index_of (R"("a":"")"), {"index.json", "a: ", "plain file name"}},
      {"shard with NUL",
       index_of (R"("a":"one.safetensors\u0000x")"),
       {"index.json", "a: ", "plain file name"}},
      {"shard missing", index_of (R"("a":"three.safetensors")"), {"three.safetensors", "not there", "fetch"}},
      {"tensor missing in its shard",
       index_of (R"("a":"one.safetensors","c":"one.safetensors")"),
       {"one.safetensors", "c: ", "not in this shard"}},
      {"tensor in another shard",
       index_of (R"("a":"two.safetensors","b":"one.safetensors")"),
       {"two.safetensors", "a: ", "not in this shard"}},
      {"tensor in two shards",
       index_of (R"("a":"one.safetensors","b":"two.safetensors","x":"zero.safetensors")"),
       {"zero.safetensors", "a: ", "one.safetensors"}},
      {"damaged shard",
       index_of (R"("a":"one.safetensors","b":"short.safetensors")"),
       {"short.safetensors", "b: "}},
  };
  for (const Case &test : cases) {
    SCOPED_TRACE (test.name);
    const TemporaryFolder folder;
    write (folder.path () / "one.safetensors", one_tensor ("a"));
    write (folder.path () / "two.safetensors", one_tensor ("b"));
    write (folder.path () / "zero.safetensors", one_tensor ("a"));
    write (folder.path () / "short.safetensors", one_tensor ("b", "abc"));
    write (folder.path () / "model.safetensors.index.json", test.index);
    EXPECT_TRUE (contains_all (error_of ([&] { WeightFiles::open (folder.path ()); }), test.message));
  }
}

/// A few random flips, replacements, cuts and insertions; often with a header length that fits again, so
/// that the parser gets further.
std::string
damaged (std::string bytes, std::mt19937 &random)
{
  const auto below = [&] (size_t limit) { return static_cast<size_t> (random () % limit); };
  const bool fit_length = below (3) != 0;
  for (size_t edits = 1 + below (3); edits > 0; --edits)
    switch (below (4)) {
    case 0:
      bytes[below (bytes.size ())] ^= static_cast<char> (1u << below (8));
      break;
    case 1:
      bytes[below (bytes.size ())] = "0129-[]{},:\"eE.\\"[below (16)];
      break;
    case 2:
      bytes.resize (bytes.size () - below (bytes.size ()) / (1 + below (30)));
      break;
    case 3:
      bytes.insert (below (bytes.size ()), 1, static_cast<char> (random ()));
      break;
    }
  const size_t end = bytes.rfind ('}');
  if (fit_length && end != std::string::npos && end >= 8)
    for (int i = 0; i < 8; ++i)
      bytes[i] = static_cast<char> (static_cast<uint64_t> (end - 7) >> (8 * i));
  return bytes;
}

TEST (safetensors, random_damage_never_crashes_and_never_leaves_the_file)
{
  const unsigned seed = 20240607;
  std::printf ("seed %u\n", seed);
  std::mt19937 random (seed);
  const std::string good = safetensors (kGoodHeader, kGoodData);
  int accepted = 0;
  int refused = 0;
  for (int round = 0; round < 30'000; ++round) {
    const std::string damage = damaged (good, random);
    std::vector<std::byte> bytes (damage.size ()); // exact: AddressSanitizer sees a byte too many
    std::memcpy (bytes.data (), damage.data (), damage.size ());
    try {
      for (const TensorEntry &entry : parse_safetensors ("fuzzed", bytes)) {
        const TensorView view{entry.dtype.value_or (DType::kU8), entry.shape, entry.data};
        if (entry.dtype) {
          ASSERT_EQ (view.data.size (), view.element_count () * dtype_bytes (view.dtype))
              << "round " << round;
        }
        ASSERT_GE (view.data.data (), bytes.data ()) << "round " << round;
        ASSERT_LE (view.data.data () + view.data.size (), bytes.data () + bytes.size ()) << "round " << round;
      }
      ++accepted;
    } catch (const LoadError &error) {
      ASSERT_EQ (error.file, "fuzzed") << "round " << round;
      ++refused;
    }
  }
  std::printf ("%d accepted, %d refused\n", accepted, refused);
  EXPECT_GT (accepted, 300); // damage within data and names is not damage
  EXPECT_GT (refused, 10'000);
}

TEST (safetensors, random_damage_of_a_file_is_refused_by_its_name)
{
  const unsigned seed = 7;
  std::printf ("seed %u\n", seed);
  std::mt19937 random (seed);
  const TemporaryFolder folder;
  const fs::path file = folder.path () / "model.safetensors";
  int refused = 0;
  for (int round = 0; round < 100; ++round) {
    write (file, damaged (safetensors (kGoodHeader, kGoodData), random));
    try {
      WeightFiles::open (folder.path ());
    } catch (const LoadError &error) {
      ASSERT_EQ (error.file, file) << "round " << round;
      ++refused;
    }
  }
  EXPECT_GT (refused, 50);
}

TEST (safetensors, the_demo_model_opens_whole)
{
  const fs::path folder = source_path ("models/demo");
  const WeightFiles weights = WeightFiles::open (folder);
  EXPECT_EQ (weights.tensors ().size (), 112u);
  int64_t elements = 0;
  std::set<fs::path> files;
  uint64_t sum = 0;
  for (const auto &[name, view] : weights.tensors ()) {
    EXPECT_EQ (view.dtype, DType::kBF16) << name;
    EXPECT_EQ (view.data.size (), static_cast<size_t> (view.element_count ()) * 2) << name;
    elements += view.element_count ();
    files.insert (weights.file_of (name));
    for (size_t i = 0; i < view.data.size (); i += 4096)
      sum += static_cast<uint64_t> (view.data[i]);
  }
  EXPECT_EQ (elements, 35'663'616);
  EXPECT_EQ (files.size (), 5u);
  EXPECT_GT (sum, 0u);
  EXPECT_EQ (weights.require ("model.embed_tokens.weight", {8192, 512}).element_count (), 8192 * 512);
}

} // namespace
