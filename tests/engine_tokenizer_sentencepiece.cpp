// labels: unit property
// timeout: 300
//
// tokenizer.model: vectors of the reference implementation (data/tokenizer/make_sentencepiece_vectors.py made them), what is
// refused by name, and files damaged in all ways.

#include "engine/error.hpp"
#include "engine/tokenizer/chars_map.hpp"
#include "engine/tokenizer/detokenizer.hpp"
#include "engine/tokenizer/tokenizer_sentencepiece.hpp"
#include "tests/test_paths.hpp"

#include <simdjson.h>

#include <bit>
#include <cmath>
#include <fstream>
#include <iostream>
#include <random>

using namespace millrace;

namespace
{

using simdjson::dom::element;
using Ids = std::vector<TokenId>;

const std::filesystem::path kData = source_path ("tests/data/tokenizer/sentencepiece");

Ids
ids_of (element value)
{
  Ids ids;
  for (const auto id : value.get_array ())
    ids.push_back (static_cast<TokenId> (int64_t (id)));
  return ids;
}

std::string
text_of (element value)
{
  return std::string (value.get_string ().value ());
}

std::string
decode_incrementally (const Tokenizer &tokenizer, const Ids &ids)
{
  Detokenizer detokenizer (tokenizer, false);
  std::string text;
  for (const TokenId id : ids) {
    std::string piece;
    detokenizer.push (id, piece);
    EXPECT_TRUE (valid_utf8 (piece));
    text += piece;
  }
  detokenizer.finish (text);
  return text;
}

// A model file, field by field.

std::string
varint (uint64_t value)
{
  std::string out;
  for (; value > 0x7F; value >>= 7)
    out += static_cast<char> (value | 0x80);
  return out + static_cast<char> (value);
}

std::string
number (uint32_t field, uint64_t value)
{
  return varint (field << 3) + varint (value);
}

std::string
bytes (uint32_t field, const std::string &value)
{
  return varint (field << 3 | 2) + varint (value.size ()) + value;
}

std::string
real (uint32_t field, float value)
{
  std::string out = varint (field << 3 | 5);
  const auto bits = std::bit_cast<uint32_t> (value);
  for (int shift = 0; shift < 32; shift += 8)
    out += static_cast<char> (bits >> shift);
  return out;
}

std::string
piece (const std::string &content, float score = 0, uint64_t type = 1)
{
  return bytes (1, bytes (1, content) + real (2, score) + number (3, type));
}

std::string
small_pieces ()
{
  return piece ("<unk>", 0, 2) + piece ("<s>", 0, 3) + piece ("</s>", 0, 3) + piece ("▁", -1) +
         piece ("a", -2) + piece ("b", -3) + piece ("ab", -4) + piece ("▁ab", -5);
}

std::string
trainer (uint64_t type, const std::string &more = "")
{
  return bytes (2, number (3, type) + more);
}

class SentencePieceFiles : public testing::Test
{
protected:
  std::shared_ptr<const Tokenizer> load (const std::string &file, const SentencePieceOptions &options = {})
  {
    std::ofstream (path_, std::ios::binary) << file;
    return load_sentencepiece_tokenizer (path_, options);
  }
  void expect_error (const std::string &file, const std::string &field, const std::string &says)
  {
    try {
      load (file);
      ADD_FAILURE () << "loaded; expected an error about " << field;
    } catch (const LoadError &error) {
      EXPECT_EQ (error.field, field) << error.what ();
      EXPECT_NE (std::string (error.what ()).find (says), std::string::npos) << error.what ();
    }
  }

  TemporaryFolder folder_;
  std::filesystem::path path_ = folder_.path () / "tokenizer.model";
};

} // namespace

TEST (SentencePieceVectors, every_model_encodes_and_decodes_as_the_reference)
{
  simdjson::dom::parser parser;
  const element data = parser.load ((kData / "vectors.json").string ()).value ();
  std::vector<std::string> texts;
  for (const auto text : data["texts"].get_array ())
    texts.push_back (text_of (text));
  size_t count = 0;
  for (const auto model : data["models"].get_array ()) {
    const std::string name = text_of (model["name"]);
    SCOPED_TRACE ("model " + name);
    const auto tokenizer = load_sentencepiece_tokenizer (kData / (name + ".model"));
    EXPECT_EQ (tokenizer->vocab_size (), int64_t (model["pieces"]));
    size_t index = 0;
    for (const auto expected : model["cases"].get_array ()) {
      const std::string &text = texts.at (index++);
      const Ids ids = ids_of (expected["ids"]);
      EXPECT_EQ (tokenizer->encode (text, {.parse_special = false}), ids) << "text: " << text;
      EXPECT_EQ (tokenizer->decode (ids), text_of (expected["decoded"])) << "text: " << text;
      EXPECT_EQ (decode_incrementally (*tokenizer, ids), text_of (expected["decoded"]));
      count++;
    }
    EXPECT_EQ (index, texts.size ());
    for (const auto sequence : model["sequences"].get_array ()) {
      const Ids ids = ids_of (sequence["ids"]);
      EXPECT_EQ (tokenizer->decode (ids), text_of (sequence["decoded"])) << testing::PrintToString (ids);
      EXPECT_EQ (decode_incrementally (*tokenizer, ids), text_of (sequence["decoded"]));
    }
  }
  EXPECT_GE (count, 900u);
}

TEST_F (SentencePieceFiles, control_pieces_are_special_tokens)
{
  const auto tokenizer = load (small_pieces () + trainer (2));
  EXPECT_EQ (tokenizer->encode ("ab"), (Ids{7}));
  EXPECT_EQ (tokenizer->encode ("ab", {.add_special_tokens = true}), (Ids{1, 7}));
  EXPECT_EQ (tokenizer->encode ("<s>ab</s>ab"), (Ids{1, 7, 2, 7}));
  EXPECT_EQ (tokenizer->encode ("<s>ab", {.parse_special = false}), (Ids{3, 0, 7 - 1}))
      << "<, s, > are unknown";
  EXPECT_TRUE (tokenizer->is_special (1));
  EXPECT_EQ (tokenizer->decode (Ids{1, 7, 2}, true), "ab");
  const SentencePieceOptions both{.add_bos = false, .add_eos = true, .added = {}};
  EXPECT_EQ (load (small_pieces () + trainer (2), both)->encode ("ab", {.add_special_tokens = true}),
             (Ids{7, 2}));
}

TEST_F (SentencePieceFiles, a_model_without_bos_ends_with_eos)
{
  const auto tokenizer = load (small_pieces () + trainer (1, number (41, UINT64_MAX)));
  EXPECT_EQ (tokenizer->encode ("ab", {.add_special_tokens = true}), (Ids{7, 2}));
}

TEST_F (SentencePieceFiles, tokens_are_added_behind_and_in_place_of_pieces)
{
  SentencePieceOptions options;
  options.added = {{.id = 10, .content = "<turn>", .rstrip = true, .special = true},
                   {.id = 5, .content = "<tool>", .special = false}};
  const auto tokenizer = load (small_pieces () + trainer (2), options);
  EXPECT_EQ (tokenizer->vocab_size (), 11);
  EXPECT_EQ (tokenizer->encode ("<turn>  ab<tool>"), (Ids{10, 7, 5}));
  EXPECT_FALSE (tokenizer->is_known (9));
  EXPECT_TRUE (tokenizer->is_special (10));
  EXPECT_FALSE (tokenizer->is_special (5));
  EXPECT_EQ (tokenizer->decode (Ids{7, 9, 10}), "ab<turn>");
}

TEST_F (SentencePieceFiles, unused_pieces_are_never_produced)
{
  for (const uint64_t type : {1, 2}) {
    const auto tokenizer = load (piece ("<unk>", 0, 2) + piece ("▁", -1) + piece ("a", -2) + piece ("b", -3) +
                                 piece ("ab", -4, 5) + trainer (type));
    EXPECT_EQ (tokenizer->encode ("ab"), (Ids{1, 2, 3})) << type;
    EXPECT_EQ (tokenizer->decode (Ids{1, 4}), "ab");
  }
}

TEST (SentencePieceVectors, each_byte_that_is_no_character_is_replaced)
{
  const auto tokenizer = load_sentencepiece_tokenizer (kData / "unigram-bytes.model");
  const auto byte = [&] (const char *name) { return tokenizer->token_id (name).value (); };
  const Ids ids = {byte ("<0xE4>"), byte ("<0xBD>"), byte ("<0x41>"), byte ("<0xE4>"), byte ("<0xBD>"),
                   byte ("<0xA0>"), byte ("<0xF0>"), byte ("<0x9F>"), byte ("<0x99>")};
  EXPECT_EQ (tokenizer->decode (ids), "\uFFFD\uFFFDA\u4F60\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ (decode_incrementally (*tokenizer, ids), tokenizer->decode (ids));
}

TEST_F (SentencePieceFiles, text_that_goes_on_keeps_the_space_at_its_beginning)
{
  const auto tokenizer = load (small_pieces () + trainer (2));
  Detokenizer first (*tokenizer), next (*tokenizer, true, true);
  for (int round = 0; round < 2; round++) {
    std::string beginning, more;
    for (const TokenId id : {7, 7}) {
      first.push (id, beginning);
      next.push (id, more);
    }
    first.finish (beginning);
    next.finish (more);
    EXPECT_EQ (beginning, "ab ab");
    EXPECT_EQ (more, " ab ab");
  }
}

TEST_F (SentencePieceFiles, characters_that_are_only_in_longer_pieces_are_unknown)
{
  for (const uint64_t type : {1, 2}) {
    const auto tokenizer = load (piece ("<unk>", 0, 2) + piece ("▁", -1) + piece ("b", -2) +
                                 piece ("abc", -3) + piece ("bc", -4) + piece ("c", -5) + trainer (type));
    EXPECT_EQ (tokenizer->encode ("ab"), (Ids{1, 0, 2})) << type;
    EXPECT_EQ (tokenizer->encode ("abc"), (Ids{1, 3})) << type;
    EXPECT_EQ (tokenizer->encode ("aab"), (Ids{1, 0, 2})) << type;
  }
}

/// A map with one rule for "x", whose leaf has `value`, and then `replacements`.
std::string
map_of_x (uint32_t value, const std::string &replacements)
{
  std::string map (4 + 4 * 256, '\0');
  const auto unit = [&map] (size_t at, uint32_t bits) {
    for (size_t byte = 0; byte < 4; ++byte)
      map[4 + at * 4 + byte] = static_cast<char> (bits >> 8 * byte);
  };
  map[1] = 4;
  unit (0, 1u << 10);
  const size_t child = 1 ^ 'x';
  unit (child, 'x' | 1u << 8 | static_cast<uint32_t> (child ^ 200) << 10);
  unit (200, 1u << 31 | value);
  return map + replacements;
}

TEST (CharsMap, rules_without_a_replacement_are_none)
{
  EXPECT_EQ (CharsMap (map_of_x (0, "ab")).longest ("xy").replacement, "ab");
  EXPECT_EQ (CharsMap (map_of_x (1, "ab")).longest ("x").replacement, "b");
  EXPECT_EQ (CharsMap (map_of_x (0, std::string ("ab\0c", 4))).longest ("x").replacement, "ab");
  EXPECT_EQ (CharsMap (map_of_x (2, "ab")).longest ("x").size, 1u) << "nothing, which ends at once";
  EXPECT_EQ (CharsMap (map_of_x (3, "ab")).longest ("x").size, 0u);
  EXPECT_EQ (CharsMap (map_of_x (0x7FFFFFFF, "ab")).longest ("x").size, 0u);
  EXPECT_EQ (CharsMap (map_of_x (1, "é")).longest ("x").size, 0u) << "within a character";
  EXPECT_EQ (CharsMap (map_of_x (0, "ab")).longest ("y").size, 0u);
  EXPECT_EQ (CharsMap (map_of_x (0, "ab")).longest ("").size, 0u);
}

TEST_F (SentencePieceFiles, what_cannot_be_done_is_refused_by_field)
{
  const std::string good = small_pieces ();
  load (good);
  expect_error ("", "pieces", "there are none");
  expect_error (good + trainer (3), "trainer_spec.model_type", "WORD is not supported");
  expect_error (good + trainer (4), "trainer_spec.model_type", "CHAR is not supported");
  expect_error (good + trainer (77), "trainer_spec.model_type", "type 77 is not supported");
  expect_error (good + bytes (5, bytes (2, "x")), "denormalizer_spec.precompiled_charsmap", "not supported");
  expect_error (good + bytes (3, bytes (2, "abc")), "normalizer_spec.precompiled_charsmap", "cut short");
  expect_error (good + bytes (3, bytes (2, std::string ("\x09\0\0\0abcdefghi", 13))),
                "normalizer_spec.precompiled_charsmap", "table of 9 bytes");
  expect_error (good + bytes (3, bytes (2, std::string ("\xFC\xFF\xFF\xFF", 4))),
                "normalizer_spec.precompiled_charsmap", "table of");
  expect_error (good + bytes (3, bytes (2, std::string ("\4\0\0\0abcd\xFF", 9))),
                "normalizer_spec.precompiled_charsmap", "not valid UTF-8");
  expect_error (good + bytes (3, bytes (2, map_of_x (0, std::string (1025, 'a')))),
                "normalizer_spec.precompiled_charsmap", "a replacement of 1025 bytes");
  expect_error (good + trainer (2, bytes (44, std::string (257, 'x'))), "trainer_spec.unk_surface",
                "too long");
  expect_error (good + trainer (2, bytes (44, "\xFF")), "trainer_spec.unk_surface", "not valid Unicode");
  expect_error (good + piece (std::string (33u << 20, 'x')), "pieces", "bytes of text");
  expect_error (good + piece ("x", 0, 9), "pieces[8].type", "is 9");
  expect_error (good + piece (""), "pieces[8].piece", "empty");
  expect_error (good + piece ("\xFF"), "pieces", "piece 8 is not valid Unicode");
  expect_error (good + piece ("a"), "pieces", "is piece 4 too");
  expect_error (good + piece ("x", NAN), "pieces", "not a number");
  expect_error (good + piece ("x", INFINITY), "pieces", "not a number");
  expect_error (good + number (1, 5), "field 1", "another type");
  expect_error (good + bytes (1, real (1, 0)), "pieces[8].piece", "another type");
  expect_error (good + bytes (1, bytes (2, "x")), "pieces[8].score", "another type");
  expect_error (good + "\x0B", "", "is broken at byte");
  expect_error (good.substr (0, good.size () - 1), "", "is broken at byte");
  expect_error (good + varint (1 << 3 | 2) + varint (UINT64_MAX), "", "is broken at byte");
  expect_error (good + std::string (11, '\xFF'), "", "is broken at byte");
  EXPECT_THROW (load_sentencepiece_tokenizer (folder_.path () / "absent.model"), LoadError);
}

TEST_F (SentencePieceFiles, five_hundred_damaged_files_give_one_error_each_or_load)
{
  const char *given = std::getenv ("MILLRACE_SEED");
  const uint32_t seed = given ? std::strtoul (given, nullptr, 10) : std::random_device () ();
  std::cout << "damage: MILLRACE_SEED=" << seed << std::endl;
  std::mt19937 random (seed);
  std::vector<std::string> files;
  for (const char *name : {"bpe-rules", "unigram-rules", "bpe-gemma", "unigram-bytes"}) {
    std::ifstream in (kData / (std::string (name) + ".model"), std::ios::binary);
    files.emplace_back (std::istreambuf_iterator<char> (in), std::istreambuf_iterator<char> ());
    ASSERT_FALSE (files.back ().empty ());
  }
  int loaded = 0, refused = 0;
  for (int i = 0; i < 500; i++) {
    std::string file = files[i % files.size ()];
    for (int changes = 1 + i % 3; changes > 0; changes--) {
      const size_t at = random () % file.size ();
      switch (random () % 5) {
      case 0:
        file.resize (at + 1);
        break;
      case 1:
        file[at] ^= static_cast<char> (1 << random () % 8);
        break;
      case 2:
        file.erase (at, 1 + random () % 8);
        break;
      case 3: // the tables are at the end
        file[file.size () - 1 - random () % std::min<size_t> (file.size (), 3000)] =
            static_cast<char> (random ());
        break;
      default:
        file.insert (at, file.substr (random () % file.size (), 1 + random () % 24));
      }
      if (file.empty ())
        file = "x";
    }
    try {
      const auto tokenizer = load (file);
      loaded++;
      const Ids ids = tokenizer->encode ("ﬁne ½ <mask> the mill▁ \n\n 水車 e\u0301\U0001F642<s>",
                                         {.add_special_tokens = true});
      for (const TokenId id : ids)
        EXPECT_TRUE (id >= 0 && id < tokenizer->vocab_size ());
      EXPECT_TRUE (valid_utf8 (tokenizer->decode (ids)));
    } catch (const LoadError &error) {
      refused++;
      EXPECT_NE (std::string (error.what ()).find (path_.string ()), std::string::npos);
    }
  }
  std::cout << loaded << " loaded, " << refused << " refused\n";
  EXPECT_GT (loaded, 20);
  EXPECT_GT (refused, 100);
}
