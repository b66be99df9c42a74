// labels: unit oracle
// timeout: 300
//
// Tokenizers from the lists of GGUF files: the vectors of public models, small ones of our own, and what is refused.
#include "engine/error.hpp"
#include "engine/tokenizer/tokenizer_gguf.hpp"
#include "tests/gguf_vocabulary.hpp"
#include "tests/test_paths.hpp"

#include <fstream>
#include <iostream>
#include <sstream>

namespace fs = std::filesystem;
using namespace millrace;
using namespace millrace::testing;

namespace
{

std::string
contents_of (const fs::path &file)
{
  std::ifstream stream (file, std::ios::binary);
  return {std::istreambuf_iterator<char> (stream), {}};
}

/// The strings of an .inp file: apart by a line __ggml_vocab_test__.
std::vector<std::string>
read_inputs (const fs::path &file)
{
  static const std::string kSeparator = "\n__ggml_vocab_test__\n";
  const std::string all = contents_of (file);
  std::vector<std::string> inputs;
  size_t begin = 0;
  for (size_t end = all.find (kSeparator); end != std::string::npos; end = all.find (kSeparator, begin)) {
    inputs.push_back (all.substr (begin, end - begin));
    begin = end + kSeparator.size ();
  }
  return inputs; // what follows the last separator is no string
}

std::vector<std::vector<TokenId>>
read_outputs (const fs::path &file)
{
  std::vector<std::vector<TokenId>> outputs;
  std::istringstream lines (contents_of (file));
  for (std::string line; std::getline (lines, line);) {
    std::istringstream numbers (line);
    outputs.emplace_back ();
    for (TokenId id = 0; numbers >> id;)
      outputs.back ().push_back (id);
  }
  return outputs;
}

TEST (GgufTokenizer, byte_level_vocabularies_reproduce_all_vectors)
{
  REQUIRE_ORACLES ("tokenizer_vectors/gguf");
  int files = 0, vectors = 0;
  for (const auto &entry : fs::directory_iterator (oracle_path ("tokenizer_vectors/gguf"))) {
    if (entry.path ().extension () != ".gguf" || !fs::exists (entry.path ().string () + ".inp"))
      continue;
    const GgufVocabularyFile file (entry.path ());
    const GgufVocabulary vocabulary = file.vocabulary ();
    if (vocabulary.model != "gpt2") {
      EXPECT_THROW (load_gguf_tokenizer (entry.path (), vocabulary), LoadError) << entry.path ();
      continue;
    }
    SCOPED_TRACE (entry.path ().filename ().string ());
    const auto tokenizer = load_gguf_tokenizer (entry.path (), vocabulary);
    EXPECT_EQ (tokenizer->vocab_size (), static_cast<int> (vocabulary.tokens.size ()));
    const auto inputs = read_inputs (entry.path ().string () + ".inp");
    const auto outputs = read_outputs (entry.path ().string () + ".out");
    ASSERT_EQ (inputs.size (), outputs.size ());
    for (size_t i = 0; i < inputs.size (); ++i) {
      EXPECT_EQ (tokenizer->encode (inputs[i]), outputs[i]) << "string " << i << ": " << inputs[i];
      EXPECT_EQ (tokenizer->decode (outputs[i]), inputs[i]) << "string " << i;
      ++vectors;
    }
    ++files;
  }
  std::cout << files << " vocabularies, " << vectors << " vectors\n";
  EXPECT_GE (files, 3);
}

/// Lists of a small vocabulary, changed by the tests.
struct Small {
  std::string model = "gpt2", pre = "gpt-2";
  std::vector<std::string_view> tokens = {"a", "b", "c", "Ġ", "ab", "abc", "<s>", "<mine>", "<unk>", "é"};
  std::vector<std::string_view> merges = {"a b", "ab c"};
  std::vector<int32_t> types = {1, 1, 1, 1, 1, 1, 3, 4, 2, 4};
  TokenId bos = 6, eos = 6;
  std::optional<bool> add_bos, add_eos;

  std::shared_ptr<const Tokenizer> load () const
  {
    return load_gguf_tokenizer ("small.gguf",
                                {model, pre, tokens, merges, types, bos, eos, add_bos, add_eos});
  }
};

using Ids = std::vector<TokenId>;

TEST (GgufTokenizer, ordinary_text_never_becomes_a_special_token_unless_it_may)
{
  const auto tokenizer = Small ().load ();
  EXPECT_EQ (tokenizer->encode ("abc<s>"), (Ids{5, 6}));
  EXPECT_EQ (tokenizer->encode ("abc<s>", {.parse_special = false}), (Ids{5}));
  EXPECT_EQ (tokenizer->encode ("ab<mine>", {.parse_special = false}), (Ids{4, 7}));
  EXPECT_TRUE (tokenizer->is_special (6));
  EXPECT_TRUE (tokenizer->is_special (8));
  EXPECT_FALSE (tokenizer->is_special (7));
  EXPECT_EQ (tokenizer->decode (Ids{5, 6, 3, 0}), "abc<s> a");
  EXPECT_EQ (tokenizer->decode (Ids{5, 6, 3, 0}, true), "abc a");

  Small whole; // a special token that is a whole word, in a model whose words need no merges
  whole.pre = "llama-bpe";
  whole.tokens[6] = "abcabc";
  EXPECT_EQ (whole.load ()->encode ("abcabc", {.parse_special = false}), (Ids{5, 5}));
}

TEST (GgufTokenizer, user_defined_tokens_are_their_own_text)
{
  const auto tokenizer = Small ().load ();
  EXPECT_EQ (tokenizer->encode ("aé"), (Ids{0, 9}));
  EXPECT_EQ (tokenizer->decode (Ids{0, 9}), "aé"); // not the byte that é spells in the alphabet
}

TEST (GgufTokenizer, ends_are_added_as_the_file_or_else_the_model_says)
{
  const auto encode = [] (const Small &small) {
    return small.load ()->encode ("ab", {.add_special_tokens = true});
  };
  Small small;
  EXPECT_EQ (encode (small), (Ids{4}));
  small.add_bos = true;
  small.add_eos = true;
  EXPECT_EQ (encode (small), (Ids{6, 4, 6}));
  small = Small ();
  small.pre = "llama-bpe";
  EXPECT_EQ (encode (small), (Ids{6, 4}));
  small.add_bos = false;
  EXPECT_EQ (encode (small), (Ids{4}));
  small.add_bos = true;
  small.bos = -1;
  EXPECT_EQ (encode (small), (Ids{4}));
}

TEST (GgufTokenizer, qwen_normalizes_as_its_tokenizer_json_does)
{
  Small small;
  small.tokens.push_back ("Ã");
  small.tokens.push_back ("©");
  small.types.insert (small.types.end (), {1, 1});
  small.types[9] = 5; // é is unused
  EXPECT_EQ (small.load ()->encode ("e\u0301"), (Ids{}));
  small.pre = "qwen2";
  EXPECT_EQ (small.load ()->encode ("e\u0301"), (Ids{10, 11}));
}

TEST (GgufTokenizer, empty_tokens_are_holes_and_types_may_be_absent)
{
  Small small;
  small.tokens[2] = "";
  small.tokens[5] = "";
  small.merges.pop_back ();
  small.types.clear ();
  const auto tokenizer = small.load ();
  EXPECT_EQ (tokenizer->encode ("ab<s>"), (Ids{4}));
  EXPECT_FALSE (tokenizer->is_known (2));
  EXPECT_TRUE (tokenizer->is_known (6));
}

void
expect_refused (const Small &small, const std::string &key, const std::string &part)
{
  try {
    small.load ();
  } catch (const LoadError &error) {
    EXPECT_EQ (error.field, "tokenizer.ggml." + key) << error.what ();
    EXPECT_NE (std::string (error.what ()).find (part), std::string::npos) << error.what ();
    return;
  }
  ADD_FAILURE () << "loaded; expected an error about " << key;
}

TEST (GgufTokenizer, what_cannot_be_done_is_refused_by_key)
{
  const auto with = [] (const auto &change) {
    Small small;
    change (small);
    return small;
  };
  expect_refused (with ([] (Small &s) { s.model = "llama"; }), "model", "\"llama\" is not supported");
  expect_refused (with ([] (Small &s) { s.model = ""; }), "model", "gpt2");
  expect_refused (with ([] (Small &s) { s.pre = "viking"; }), "pre", "qwen2, ");
  expect_refused (with ([] (Small &s) { s.pre = ""; }), "pre", "\"\" is not supported");
  expect_refused (with ([] (Small &s) { s.tokens.clear (); }), "tokens", "0 tokens");
  expect_refused (with ([] (Small &s) { s.types.pop_back (); }), "token_type", "9 entries for 10 tokens");
  expect_refused (with ([] (Small &s) { s.tokens[1] = "a"; }), "tokens", "\"a\" is token 0 and token 1");
  expect_refused (with ([] (Small &s) { s.tokens[1] = "\xff"; }), "tokens", "token 1 is not valid Unicode");
  expect_refused (with ([] (Small &s) { s.merges[0] = "ab"; }), "merges", "entry 0");
  expect_refused (with ([] (Small &s) { s.merges[0] = ""; }), "merges", "entry 0");
  expect_refused (with ([] (Small &s) { s.merges[0] = "ab "; }), "merges", "entry 0");
  expect_refused (with ([] (Small &s) { s.merges[1] = "a c"; }), "merges", "\"ac\"");
  expect_refused (with ([] (Small &s) { s.add_bos = true, s.bos = 10; }), "bos_token_id", "is 10");
  expect_refused (with ([] (Small &s) { s.add_eos = true, s.eos = 99; }), "eos_token_id", "is 99");
}

} // namespace
