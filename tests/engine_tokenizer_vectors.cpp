// labels: unit oracle
// timeout: 120
//
// The tokenizer against vectors of the reference `tokenizers` library: the demo model's tokenizer.json, a set
// of small tokenizers that use each feature (feature_vectors.json) and regular expressions
// (regex_vectors.json). data/tokenizer/make_vectors.py made the latter two.

#include "engine/tokenizer/detokenizer.hpp"
#include "engine/tokenizer/regex.hpp"
#include "engine/tokenizer/tokenizer.hpp"
#include "tests/test_paths.hpp"

#include <simdjson.h>

#include <fstream>
#include <iostream>
#include <stdexcept>

using namespace millrace;

namespace
{

using simdjson::dom::element;

element
parse_data (simdjson::dom::parser &parser, const std::string &name)
{
  return parser.load (source_path ("tests/data/tokenizer/" + name).string ()).value ();
}

std::string
text_of (element value)
{
  return std::string (value.get_string ().value ());
}

std::vector<TokenId>
ids_of (element value)
{
  std::vector<TokenId> ids;
  for (const auto id : value.get_array ())
    ids.push_back (static_cast<TokenId> (int64_t (id)));
  return ids;
}

/// What the incremental detokenizer makes of `ids`; every piece must be whole characters.
std::string
decode_incrementally (const Tokenizer &tokenizer, const std::vector<TokenId> &ids, bool skip_special)
{
  Detokenizer detokenizer (tokenizer, skip_special);
  std::string text;
  for (const TokenId id : ids) {
    std::string piece;
    detokenizer.push (id, piece);
    EXPECT_TRUE (valid_utf8 (piece)) << "token " << id << " gave a broken piece";
    text += piece;
  }
  detokenizer.finish (text);
  EXPECT_FALSE (detokenizer.pending ());
  return text;
}

void
expect_decodes (const Tokenizer &tokenizer, const std::vector<TokenId> &ids, const std::string &decoded,
                const std::string &skipped)
{
  EXPECT_EQ (tokenizer.decode (ids, false), decoded);
  EXPECT_EQ (tokenizer.decode (ids, true), skipped);
  EXPECT_EQ (decode_incrementally (tokenizer, ids, false), decoded);
  EXPECT_EQ (decode_incrementally (tokenizer, ids, true), skipped);
}

} // namespace

namespace
{

/// All vectors, and each of their beginnings read back at once and piece by piece; returns how many there are.
size_t
expect_vectors (const Tokenizer &tokenizer, element data)
{
  size_t count = 0;
  for (const auto vector : data["vectors"].get_array ()) {
    const std::string text = text_of (vector["text"]);
    SCOPED_TRACE ("text: " + text);
    const auto ids = ids_of (vector["ids"]);
    EXPECT_EQ (tokenizer.encode (text), ids);
    expect_decodes (tokenizer, ids, text_of (vector["decoded"]), text_of (vector["decoded_skip_special"]));
    for (size_t length = 0; length <= ids.size (); length++) {
      const std::vector<TokenId> prefix (ids.begin (), ids.begin () + length);
      EXPECT_EQ (decode_incrementally (tokenizer, prefix, false), tokenizer.decode (prefix, false));
      EXPECT_EQ (decode_incrementally (tokenizer, prefix, true), tokenizer.decode (prefix, true));
    }
    count++;
  }
  return count;
}

} // namespace

TEST (TokenizerVectors, demo_model_encodes_and_decodes_as_the_reference)
{
  const auto tokenizer = Tokenizer::load (source_path ("models/demo/tokenizer.json"));
  EXPECT_EQ (tokenizer->vocab_size (), 8192);
  simdjson::dom::parser parser;
  EXPECT_GE (expect_vectors (*tokenizer, parse_data (parser, "demo_vectors.json")), 200u);
}

TEST (TokenizerVectors, the_oracles_model_encodes_and_decodes_as_the_reference)
{
  REQUIRE_ORACLES ("tokenizer_vectors/demo.json");
  REQUIRE_ORACLES ("models/demo/tokenizer.json");
  const auto tokenizer = Tokenizer::load (oracle_path ("models/demo/tokenizer.json"));
  simdjson::dom::parser parser;
  const auto file = oracle_path ("tokenizer_vectors/demo.json");
  const size_t count = expect_vectors (*tokenizer, parser.load (std::string (file)).value ());
  std::cout << count << " vectors\n";
  EXPECT_GE (count, 1u);
}

TEST (TokenizerVectors, every_feature_gives_the_ids_of_the_reference)
{
  simdjson::dom::parser parser;
  const element data = parse_data (parser, "feature_vectors.json");
  std::vector<std::string> texts;
  for (const auto text : data["texts"].get_array ())
    texts.push_back (text_of (text));

  TemporaryFolder folder;
  size_t count = 0;
  for (const auto config : data["configs"].get_array ()) {
    const std::string name = text_of (config["name"]);
    SCOPED_TRACE ("configuration " + name);
    // The first of two equal keys counts: changes go before the model's own members.
    const std::string changes = simdjson::minify (config["changes"].value ());
    std::string model = simdjson::minify (data["models"][config["model"].get_string ().value ()].value ());
    if (changes != "{}")
      model = changes.substr (0, changes.size () - 1) + "," + model.substr (1);
    const std::string rest = simdjson::minify (config["rest"].value ());
    const auto path = folder.path () / (name + ".json");
    std::ofstream (path) << rest.substr (0, rest.size () - 1) << ",\"model\":" << model << "}";

    const auto tokenizer = Tokenizer::load (path);
    for (const auto vector : config["cases"].get_array ()) {
      const std::string &text = texts.at (int64_t (vector["text"]));
      SCOPED_TRACE ("text: " + text);
      const auto ids = ids_of (vector["ids"]);
      EXPECT_EQ (tokenizer->encode (text), ids);
      element other;
      const bool has_with_special = !vector["with_special"].get (other);
      EXPECT_EQ (tokenizer->encode (text, {.add_special_tokens = true}),
                 has_with_special ? ids_of (other) : ids);
      const bool has_not_parsed = !vector["not_parsed"].get (other);
      EXPECT_EQ (tokenizer->encode (text, {.parse_special = false}), has_not_parsed ? ids_of (other) : ids);
      const std::string decoded = vector["decoded"].get (other) ? text : text_of (other);
      expect_decodes (*tokenizer, ids, decoded, vector["skipped"].get (other) ? decoded : text_of (other));
      count++;
    }
  }
  EXPECT_GE (count, 500u);
}

/// Returns how many texts there were.
size_t
expect_models (const char *file)
{
  simdjson::dom::parser parser;
  const element data = parse_data (parser, file);
  std::vector<std::string> texts;
  for (const auto text : data["texts"].get_array ())
    texts.push_back (text_of (text));
  TemporaryFolder folder;
  size_t count = 0;
  for (const auto config : data["configs"].get_array ()) {
    const std::string name = text_of (config["name"]);
    SCOPED_TRACE ("configuration " + name);
    const auto path = folder.path () / (name + ".json");
    std::ofstream (path) << simdjson::minify (config["tokenizer"].value ());
    const auto tokenizer = Tokenizer::load (path);
    size_t index = 0;
    for (const auto expected : config["cases"].get_array ()) {
      const std::string &text = texts.at (index++);
      SCOPED_TRACE ("text: " + text);
      const auto ids = ids_of (expected["ids"]);
      EXPECT_EQ (tokenizer->encode (text), ids);
      element other;
      const bool has_with_special = !expected["with_special"].get (other);
      EXPECT_EQ (tokenizer->encode (text, {.add_special_tokens = true}),
                 has_with_special ? ids_of (other) : ids);
      const std::string decoded = text_of (expected["decoded"]);
      expect_decodes (*tokenizer, ids, decoded, expected["skipped"].get (other) ? decoded : text_of (other));
      count++;
    }
    for (const auto sequence : config["sequences"].get_array ()) {
      const auto ids = ids_of (sequence["ids"]);
      const std::string decoded = text_of (sequence["decoded"]);
      EXPECT_EQ (tokenizer->decode (ids), decoded) << testing::PrintToString (ids);
      EXPECT_EQ (decode_incrementally (*tokenizer, ids, false), decoded) << testing::PrintToString (ids);
    }
  }
  return count;
}

TEST (TokenizerVectors, every_kind_of_model_gives_the_ids_and_texts_of_the_reference)
{
  EXPECT_GE (expect_models ("model_vectors.json"), 1000u);
}

TEST (TokenizerVectors, characters_within_words_and_at_their_ends_are_those_of_the_reference)
{
  EXPECT_GE (expect_models ("affix_vectors.json"), 200u);
}

TEST (TokenizerVectors, regular_expressions_cut_as_the_reference)
{
  simdjson::dom::parser parser;
  const element data = parse_data (parser, "regex_vectors.json");
  std::vector<std::string> texts;
  for (const auto text : data["texts"].get_array ())
    texts.push_back (text_of (text));

  Regex::Scratch scratch;
  size_t count = 0;
  for (const auto row : data["rows"].get_array ()) {
    const std::string pattern = text_of (row["pattern"]);
    SCOPED_TRACE ("pattern: " + pattern);
    element expected;
    if (row["pieces"].get (expected))
      continue; // the reference refuses it
    std::optional<Regex> regex;
    ASSERT_NO_THROW (regex = Regex::compile (pattern));
    size_t index = 0;
    for (const auto lengths : expected.get_array ()) {
      const std::string &text = texts.at (index++);
      std::vector<Piece> pieces;
      regex->find_all (text, scratch, pieces);
      std::vector<TokenId> found;
      for (const Piece &piece : pieces)
        if (piece.begin < piece.end)
          found.push_back (static_cast<TokenId> (piece.end - piece.begin));
      EXPECT_EQ (found, ids_of (lengths)) << "text: " << text;
      count++;
    }
  }
  EXPECT_GE (count, 1000u);
}
