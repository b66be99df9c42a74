// labels: unit
// timeout: 300
//
// Damaged files of a model: five hundred and more of each kind, safetensors, GGUF and config.json, each with one thing wrong. Each is
// refused with an error that names the file, and the field where there is one, or opens as the very same model, or with a warning.
#include "engine/error.hpp"
#include "engine/model/model.hpp"
#include "tests/gguf_models.hpp"
#include "tests/model_runner.hpp"
#include "tests/synthetic_model.hpp"
#include "tests/test_paths.hpp"

#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>

namespace fs = std::filesystem;
using namespace millrace;
using namespace millrace::testing;

namespace
{

constexpr SyntheticModel kShape{.vocab = 13,
                                .hidden = 8,
                                .layers = 2,
                                .heads = 2,
                                .kv_heads = 1,
                                .head_dim = 4,
                                .intermediate = 12,
                                .max_positions = 64,
                                .biases = false,
                                .dtype = DType::kF16};

std::string
text_of (const fs::path &file)
{
  std::ifstream stream (file, std::ios::binary);
  return {std::istreambuf_iterator<char> (stream), {}};
}

class DamageTest : public ::testing::Test
{
protected:
  void SetUp () override
  {
    write_model (folder_.path (), kShape, 9);
    write_gguf_model (folder_.path (), gguf ());
  }

  fs::path safetensors () const { return folder_.path () / "model.safetensors"; }
  fs::path config () const { return folder_.path () / "config.json"; }
  fs::path gguf () const { return gguf_folder_.path () / "model.gguf"; }

  static std::shared_ptr<const Model> open (const fs::path &path)
  {
    return Model::open (path, {.cpu = {.threads = 1}});
  }
  static std::vector<float> logits_of (const std::shared_ptr<const Model> &model)
  {
    const std::vector<TokenId> tokens{0, 5, 12, 7, 7, 1};
    const RunnableModel runnable{model->spec, model->compiled};
    SequenceRunner runner (runnable, 6, 6);
    runner.run (tokens, 6);
    return runner.outputs ().logits;
  }

  void remember (const fs::path &file, const fs::path &model)
  {
    file_ = file;
    model_ = model;
    whole_ = text_of (file);
    expected_ = logits_of (open (model));
  }

  /// `field`: the error must name one.
  void expect_refused_or_equal (const std::string &bytes, const std::string &what, bool field)
  {
    if (bytes == whole_)
      return;
    ++damaged_;
    write_file (file_, bytes);
    try {
      const auto model = open (model_);
      ++equal_;
      EXPECT_TRUE (!model->load_warning ().empty () || same_bits (logits_of (model), expected_))
          << what << ": opens as another model";
    } catch (const LoadError &error) {
      const std::string text = error.what ();
      EXPECT_TRUE (text.starts_with (model_.string ())) << what << ": " << text;
      EXPECT_TRUE (!field || !error.field.empty ()) << what << ": " << text;
      EXPECT_LT (text.size (), 1000u) << what;
      EXPECT_EQ (text.find ('\n'), std::string::npos) << what;
    } catch (const std::exception &error) {
      ADD_FAILURE () << what << ": " << error.what ();
    }
  }

  std::string with_bytes (size_t at, size_t count, const std::string &others) const
  {
    return std::string (whole_).replace (at, count, others);
  }

  /// Cut at so many places.
  void cut (int places)
  {
    for (int i = 0; i < places; ++i) {
      const size_t at = whole_.size () * static_cast<size_t> (i) / static_cast<size_t> (places);
      expect_refused_or_equal (whole_.substr (0, at), "cut at " + std::to_string (at), false);
    }
  }

  void finish (int least)
  {
    std::cout << damaged_ << " damaged files, " << equal_ << " of them opened\n";
    EXPECT_GE (damaged_, least);
    EXPECT_LT (equal_, damaged_ / 4);
  }

  TemporaryFolder folder_, gguf_folder_;
  fs::path file_, model_;
  std::string whole_;
  std::vector<float> expected_;
  int damaged_ = 0, equal_ = 0;
};

/// What a header's tensor may say that is wrong: the text after `"KEY":` is replaced.
constexpr const char *kWrongTypes[] = {"\"F32\"", "\"U8\"", "\"F8_E4M3\"", "\"?\"", "7", "null"};
constexpr const char *kWrongShapes[] = {
    "[]",      "[3]", "[1,2,3]",    "[-1]", "[4611686018427387904,4611686018427387904]",
    "\"[8]\"", "{}",  "[1.5,1e99]", "null", "[[[[8]]]]"};
constexpr const char *kWrongOffsets[] = {"[0,0]", "[1,2]",   "[-1,7]", "[9,3]", "[0,18446744073709551615]",
                                         "[0]",   "[0,1,2]", "null"};

TEST_F (DamageTest, safetensors)
{
  remember (safetensors (), folder_.path ());
  cut (150);
  for (const size_t more : {1u, 2u, 3u, 8u, 100u, 4096u})
    expect_refused_or_equal (whole_ + std::string (more, '\0'), "longer", false);
  for (size_t byte = 0; byte < 8; ++byte)
    for (const unsigned char value : {0x00, 0x01, 0x7f, 0x80, 0xff})
      expect_refused_or_equal (with_bytes (byte, 1, std::string (1, static_cast<char> (value))),
                               "header length, byte " + std::to_string (byte), false);
  uint64_t length = 0;
  std::memcpy (&length, whole_.data (), sizeof length);
  const std::string header = whole_.substr (8, length), data = whole_.substr (8 + length);
  const auto with_header = [&] (const std::string &other) {
    const uint64_t size = other.size ();
    return std::string (reinterpret_cast<const char *> (&size), sizeof size) + other + data;
  };
  int count = 0;
  for (size_t at = 0; at < header.size (); ++at) {
    if (std::string ("{}[]:,\"").find (header[at]) == std::string::npos || ++count % 4 != 0)
      continue;
    const std::string where = "header, " + std::to_string (at);
    expect_refused_or_equal (with_header (std::string (header).erase (at, 1)), where + " erased", false);
    expect_refused_or_equal (with_header (std::string (header).replace (at, 1, "\xff")),
                             where + " overwritten", false);
  }
  for (const auto &[key, values] :
       {std::pair<std::string, std::vector<const char *>>{"dtype",
                                                          {std::begin (kWrongTypes), std::end (kWrongTypes)}},
        {"shape", {std::begin (kWrongShapes), std::end (kWrongShapes)}},
        {"data_offsets", {std::begin (kWrongOffsets), std::end (kWrongOffsets)}}}) {
    const std::string text = "\"" + key + "\":";
    count = 0;
    for (size_t at = header.find (text); at != std::string::npos; at = header.find (text, at + 1)) {
      const size_t begin = at + text.size ();
      const size_t end = header.find (header[begin] == '[' ? ']' : '"', begin + 1) + 1;
      for (const char *value : values)
        if (count++ % 2 == 0)
          expect_refused_or_equal (with_header (std::string (header).replace (begin, end - begin, value)),
                                   text + value, true);
    }
  }
  for (size_t at = header.find (".weight\""); at != std::string::npos; at = header.find (".weight\"", at + 1))
    expect_refused_or_equal (with_header (std::string (header).replace (at, 1, "_")), "another name", true);
  finish (500);
}

TEST_F (DamageTest, config)
{
  remember (config (), folder_.path ());
  cut (200);
  for (size_t at = 0; at < whole_.size (); at += 7)
    expect_refused_or_equal (std::string (whole_).insert (at, "\xff"), "a byte that is no text", false);
  simdjson::dom::parser parser;
  const simdjson::dom::object object = parser.parse (whole_).get_object ();
  const std::string kDeep = std::string (3000, '[') + std::string (3000, ']');
  for (const auto [key, value] : object) {
    const std::string name (key), plain = simdjson::minify (value);
    const std::string member = "\"" + name + "\":", before = whole_.substr (0, whole_.find (member));
    const std::string after = whole_.substr (whole_.find_first_of (",}", before.size () + member.size ()));
    const bool is_real = name == "rms_norm_eps" || name == "rope_theta";
    // Without it: what is optional has the value that the files of this model say.
    expect_refused_or_equal (before + "\"without\":0" + after, "without " + name, false);
    for (const std::string other : {"null", "\"x\"", "\"\"", "-1", "0", "1.5", "1e30", "true", "[]", "{}",
                                    "[null]", "{\"a\":1}", "99999999999999999999", "-9223372036854775808",
                                    "1e999", "nan", "00", "\"\\ud800\"", "4611686018427387904"}) {
      if (other == plain || (is_real && (other == "1.5" || other == "0")) ||
          (other == "true" && plain == "false") || (name == "eos_token_id" && other == "0"))
        continue; // another model, which is as good
      expect_refused_or_equal (before + member + other + after, name + ": " + other, false);
    }
    expect_refused_or_equal (before + member + kDeep + after, name + ", deep", false);
    expect_refused_or_equal (before + member + plain + "," + member + plain + after, name + ", twice", true);
  }
  finish (500);
}

/// Where the parts of a GGUF file are.
struct GgufPlaces {
  struct Key {
    size_t name, type;
    std::string text;
  };
  struct Tensor {
    size_t name, dimensions, type, offset;
  };
  std::vector<Key> keys;
  std::vector<Tensor> tensors;
  size_t end = 0;
};

template <typename T>
T
number_at (const std::string &bytes, size_t at)
{
  T value;
  std::memcpy (&value, bytes.data () + at, sizeof value);
  return value;
}

GgufPlaces
places_of (const std::string &bytes)
{
  GgufPlaces places;
  const auto tensors = number_at<uint64_t> (bytes, 8), keys = number_at<uint64_t> (bytes, 16);
  size_t at = 24;
  const auto skip_text = [&] { at += 8 + number_at<uint64_t> (bytes, at); };
  for (uint64_t i = 0; i < keys; ++i) {
    GgufPlaces::Key key{at, 0, bytes.substr (at + 8, number_at<uint64_t> (bytes, at))};
    skip_text ();
    key.type = at;
    at += 4;
    constexpr size_t kSizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    const auto type = number_at<uint32_t> (bytes, key.type);
    if (type == 8)
      skip_text ();
    else
      at += kSizes[type];
    places.keys.push_back (key);
  }
  for (uint64_t i = 0; i < tensors; ++i) {
    GgufPlaces::Tensor tensor{at, 0, 0, 0};
    skip_text ();
    tensor.dimensions = at;
    at += 4 + 8 * number_at<uint32_t> (bytes, at);
    tensor.type = at;
    tensor.offset = at + 4;
    at += 12;
    places.tensors.push_back (tensor);
  }
  places.end = at;
  return places;
}

TEST_F (DamageTest, gguf)
{
  remember (gguf (), gguf ());
  cut (150);
  const GgufPlaces places = places_of (whole_);
  const auto put32 = [&] (size_t at, uint32_t value, const std::string &what, bool field) {
    expect_refused_or_equal (with_bytes (at, 4, std::string (reinterpret_cast<const char *> (&value), 4)),
                             what, field);
  };
  const auto put64 = [&] (size_t at, uint64_t value, const std::string &what, bool field) {
    expect_refused_or_equal (with_bytes (at, 8, std::string (reinterpret_cast<const char *> (&value), 8)),
                             what, field);
  };
  constexpr uint64_t kHuge[] = {0, 1, 1u << 20, uint64_t{1} << 40, uint64_t{1} << 62, ~uint64_t{0}};
  for (const uint32_t version : {0u, 1u, 4u, 0x03000000u, ~0u})
    put32 (4, version, "version", false);
  put32 (0, 0x46554747u, "magic", false);
  for (const uint64_t count : kHuge) {
    put64 (8, count, "count of tensors", false);
    put64 (16, count, "count of keys", false);
  }
  for (const GgufPlaces::Key &key : places.keys) {
    expect_refused_or_equal (with_bytes (key.name + 8, 1, "#"), key.text + " is called otherwise", false);
    for (const uint64_t length : kHuge)
      put64 (key.name, length, "length of " + key.text, false);
    const bool is_float = number_at<uint32_t> (whole_, key.type) == 6;
    for (uint32_t type = 0; type < 15; ++type)
      if (!is_float || (type != 4 && type != 5)) // an integer of as many bytes is as good a number
        put32 (key.type, type, "type " + std::to_string (type) + " of " + key.text, false);
  }
  for (const GgufPlaces::Tensor &tensor : places.tensors) {
    expect_refused_or_equal (with_bytes (tensor.name + 8, 1, "#"), "a tensor is called otherwise", true);
    for (const uint32_t count : {0u, 3u, 5u, ~0u})
      put32 (tensor.dimensions, count, "dimensions", false);
    for (const uint64_t size : kHuge)
      put64 (tensor.dimensions + 4, size, "size of a dimension", false);
    for (const uint32_t type : {2u, 12u, 40u, 99u, ~0u})
      put32 (tensor.type, type, "type of a tensor", false);
    for (const uint64_t offset : {uint64_t{1}, uint64_t{1} << 40, ~uint64_t{0}, ~uint64_t{31}})
      put64 (tensor.offset, offset, "offset of a tensor", false);
  }
  finish (500);
}

} // namespace
