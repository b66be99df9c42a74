// labels: unit oracle
// timeout: 300
//
// Tokenizers from the lists of GGUF files: the vectors of public models, small ones of our own, and what is refused.
#include "engine/error.hpp"
#include "engine/tokenizer/byte_alphabet.hpp"
#include "engine/tokenizer/gguf_pre_tokenizers.hpp"
#include "engine/tokenizer/pre_tokenizer.hpp"
#include "engine/tokenizer/tokenizer_gguf.hpp"
#include "engine/tokenizer/utf8.hpp"
#include "tests/gguf_vocabulary.hpp"
#include "tests/test_paths.hpp"

#include <simdjson.h>

#include <fstream>
#include <iostream>
#include <random>
#include <set>
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

/// What WordPiece makes of a text cannot be read back: words are in lower case, without accents, apart by one space.
bool
is_lossy (const GgufVocabulary &vocabulary)
{
  return vocabulary.model == "bert";
}

TEST (GgufTokenizer, every_vocabulary_reproduces_all_vectors)
{
  REQUIRE_ORACLES ("tokenizer_vectors/gguf");
  int files = 0, vectors = 0, inputs_there = 0;
  std::set<std::string> models;
  for (const auto &entry : fs::directory_iterator (oracle_path ("tokenizer_vectors/gguf"))) {
    inputs_there += entry.path ().extension () == ".inp";
    if (entry.path ().extension () != ".gguf")
      continue;
    SCOPED_TRACE (entry.path ().filename ().string ());
    const GgufVocabularyFile file (entry.path ());
    const GgufVocabulary vocabulary = file.vocabulary ();
    models.insert (std::string (vocabulary.model));
    const auto tokenizer = load_gguf_tokenizer (entry.path (), vocabulary);
    EXPECT_EQ (tokenizer->vocab_size (), static_cast<int> (vocabulary.tokens.size ()));
    const auto inputs = read_inputs (entry.path ().string () + ".inp");
    const auto outputs = read_outputs (entry.path ().string () + ".out");
    ASSERT_FALSE (inputs.empty ());
    ASSERT_EQ (inputs.size (), outputs.size ());
    for (size_t i = 0; i < inputs.size (); ++i) {
      EXPECT_EQ (tokenizer->encode (inputs[i]), outputs[i]) << "string " << i << ": " << inputs[i];
      if (!is_lossy (vocabulary))
        EXPECT_EQ (tokenizer->decode (outputs[i]), inputs[i]) << "string " << i;
      else // what is read back is the same to it
        EXPECT_EQ (tokenizer->encode (tokenizer->decode (outputs[i])), outputs[i]) << "string " << i;
      ++vectors;
    }
    ++files;
  }
  std::cout << files << " vocabularies, " << vectors << " vectors\n";
  EXPECT_GE (files, 1);
  EXPECT_EQ (files, inputs_there) << "vectors without a vocabulary, or the reverse";
  for (const std::string &model : models)
    std::cout << "model " << model << "\n";
}

/// Characters of many kinds, among them what normal forms change.
std::string
random_text (std::mt19937 &random)
{
  std::string text;
  for (auto length = random () % 40; length > 0; length--) {
    const auto kind = random () % 5;
    utf8::append (kind < 2    ? 32 + random () % 95
                  : kind == 2 ? U" \n\t'\u00e9\u0301<|"[random () % 8]
                  : kind == 3 ? 0x80 + random () % 0xD700
                              : 0x10000 + random () % 0x100000,
                  text);
  }
  return text;
}

/// Some vocabularies do not: of their training there was no character with such a byte.
bool
has_all_bytes (const Tokenizer &tokenizer)
{
  for (const char16_t c : kByteAlphabet.character) {
    std::string content;
    utf8::append (c, content);
    if (!tokenizer.token_id (content))
      return false;
  }
  return true;
}

TEST (GgufTokenizer, a_hundred_thousand_random_texts_come_back_from_bytes)
{
  REQUIRE_ORACLES ("tokenizer_vectors/gguf");
  const char *given = std::getenv ("MILLRACE_SEED");
  const uint32_t seed = given ? std::strtoul (given, nullptr, 10) : std::random_device () ();
  std::cout << "texts: MILLRACE_SEED=" << seed << std::endl;
  std::mt19937 random (seed);
  std::vector<std::shared_ptr<const Tokenizer>> tokenizers;
  for (const auto &entry : fs::directory_iterator (oracle_path ("tokenizer_vectors/gguf")))
    if (entry.path ().extension () == ".gguf") {
      const GgufVocabularyFile file (entry.path ());
      if (file.vocabulary ().model != "gpt2" || find_gguf_pre_tokenizer (file.vocabulary ().pre)->normalizes)
        continue;
      const auto tokenizer = load_gguf_tokenizer (entry.path (), file.vocabulary ());
      if (has_all_bytes (*tokenizer))
        tokenizers.push_back (tokenizer);
    }
  std::cout << tokenizers.size () << " vocabularies of all bytes\n";
  ASSERT_FALSE (tokenizers.empty ());
  for (int i = 0; i < 100'000; i++) {
    const Tokenizer &tokenizer = *tokenizers[i % tokenizers.size ()];
    const std::string text = random_text (random);
    ASSERT_EQ (tokenizer.decode (tokenizer.encode (text)), text) << "iteration " << i;
  }
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

TEST (GgufTokenizer, every_pre_tokenizer_cuts_as_its_model_does)
{
  std::vector<std::string> contents;
  for (const int c : kByteAlphabet.character) {
    contents.emplace_back ();
    utf8::append (static_cast<char32_t> (c), contents.back ());
  }
  std::vector<std::string_view> tokens (contents.begin (), contents.end ());
  const std::string all = gguf_pre_tokenizer_names ();
  int count = 0;
  for (size_t at = 0; at < all.size (); count++) {
    const size_t end = std::min (all.find (", ", at), all.size ());
    const std::string name = all.substr (at, end - at);
    at = end + 2;
    SCOPED_TRACE (name);
    const GgufVocabulary source{"gpt2", name, tokens, {}, {}, -1, -1, {}, {}};
    const auto tokenizer = load_gguf_tokenizer ("small.gguf", source);
    const std::string text = "It's 1234567 of\n\n  THEM, <b>x</b> 中文の한 y\u0301!! ";
    const GgufPreTokenizer *kind = find_gguf_pre_tokenizer (name);
    const std::string composed = "It's 1234567 of\n\n  THEM, <b>x</b> 中文の한 \u00fd!! ";
    if (!kind->of_characters) {
      EXPECT_EQ (tokenizer->decode (tokenizer->encode (text)), kind->normalizes ? composed : text);
    }
  }
  EXPECT_GE (count, 80);
}

/// Where a text is cut by the patterns and digit groups of a name.
std::vector<std::string>
pieces_of (const char *name, const std::string &text)
{
  const PreTokenizer pre_tokenizer = make_pre_tokenizer (*find_gguf_pre_tokenizer (name));
  PreTokenizer::Scratch scratch;
  std::vector<std::string_view> words;
  pre_tokenizer.split (text, true, scratch, words);
  return {words.begin (), words.end ()};
}

TEST (GgufTokenizer, pre_tokenizers_cut_as_the_reference)
{
  simdjson::dom::parser parser;
  const simdjson::dom::element data =
      parser.load (source_path ("tests/data/tokenizer/cut_vectors.json").string ()).value ();
  size_t count = 0;
  for (const auto [name, rows] : data["cuts"].get_object ()) {
    SCOPED_TRACE (std::string (name));
    size_t index = 0;
    const simdjson::dom::array texts = data["texts"].get_array ();
    for (const auto lengths : rows.get_array ()) {
      const std::string text (texts.at (index++).get_string ().value ());
      std::vector<size_t> expected, found;
      for (const auto length : lengths.get_array ())
        expected.push_back (static_cast<size_t> (int64_t (length)));
      for (const std::string &piece : pieces_of (std::string (name).c_str (), text))
        found.push_back (piece.size ());
      EXPECT_EQ (found, expected) << "text: " << text;
      count++;
    }
  }
  EXPECT_GE (count, 1000u);
}

TEST (GgufTokenizer, what_is_particular_of_a_pre_tokenizer)
{
  using Pieces = std::vector<std::string>;
  EXPECT_EQ (pieces_of ("qwen2", "ab 123"), (Pieces{"ab", " ", "1", "2", "3"}));
  EXPECT_EQ (pieces_of ("qwen35", "क्षि x"), (Pieces{"क्षि", " x"}));
  EXPECT_EQ (pieces_of ("qwen2", "क्षि x"), (Pieces{"क", "्ष", "ि", " x"}));
  EXPECT_EQ (pieces_of ("llama-bpe", "IT'S 12345"), (Pieces{"IT", "'S", " ", "123", "45"}));
  EXPECT_EQ (pieces_of ("gpt-2", "IT'S 12345  x"), (Pieces{"IT", "'", "S", " 12345", " ", " x"}));
  EXPECT_EQ (pieces_of ("starcoder", "a 12"), (Pieces{"a", " ", "1", "2"}));
  EXPECT_EQ (pieces_of ("falcon", "a`b 1234"), (Pieces{"a", "`", "b", " ", "123", "4"}));
  EXPECT_EQ (pieces_of ("gpt-4o", "helloWorld HTTPServer's"), (Pieces{"hello", "World", " HTTPServer's"}));
  EXPECT_EQ (pieces_of ("tekken", "helloWorld's 12"), (Pieces{"hello", "World", "'s", " ", "1", "2"}));
  EXPECT_EQ (pieces_of ("kimi-k2", "abc中文def"), (Pieces{"abc", "中文", "def"}));
  EXPECT_EQ (pieces_of ("deepseek-v3", "x1234 中文!Go"), (Pieces{"x", "123", "4", " ", "中文", "!Go"}));
  EXPECT_EQ (pieces_of ("tiny_aya", "1234567 12a"), (Pieces{"1", "234", "567", " ", "12", "a"}));
  EXPECT_EQ (pieces_of ("superbpe", "x1234567y"), (Pieces{"x", "1", "234", "567", "y"}));
  EXPECT_EQ (pieces_of ("afmoe", "1234"), (Pieces{"1", "234"}));
  EXPECT_EQ (pieces_of ("bailingmoe", "a!!\n\nb"), (Pieces{"a", "!!\n\n", "b"}));
  EXPECT_EQ (pieces_of ("seed-coder", "a!!\nb"), (Pieces{"a", "!!", "\n", "b"}));
  EXPECT_EQ (pieces_of ("ufakzeka", "Ankara'da"), (Pieces{"Ankara", "'da"}));
  EXPECT_EQ (pieces_of ("exaone-moe", "ab cd 1"), (Pieces{"ab cd", " ", "1"}));
  EXPECT_EQ (pieces_of ("jais-2", "a     b"), (Pieces{"a", "    ", " b"}));
  EXPECT_EQ (pieces_of ("bloom", "Hi, you(2)"), (Pieces{"Hi", ",", " you", "(", "2", ")"}));
  EXPECT_EQ (pieces_of ("viking", "a12"), (Pieces{"a", "1", "2"}));
  EXPECT_EQ (pieces_of ("chameleon", "<sentinel:12>IMGIMGABZ x"),
             (Pieces{"<", "sentinel", ":", "1", "2", ">", "IMGIMGABZ", " x"}));
  // The range of its punctuation from ":" to "~" has the letters in it.
  EXPECT_EQ (pieces_of ("deepseek-llm", "Ünï, Жи 12"), (Pieces{"Ü", "n", "ï", ",", " Жи", " ", "12"}));
  EXPECT_EQ (pieces_of ("minicpm5", "12345"), (Pieces{"123", "45"}));
  EXPECT_EQ (pieces_of ("youtu", "12 한국…x"), (Pieces{"1", "2", " ", "한국", "…", "x"}));
  EXPECT_EQ (pieces_of ("gemma4", "a b\n\nc"), (Pieces{"a b", "\n\n", "c"}));
}

TEST (GgufTokenizer, gemma_merges_characters_with_spaces_as_marks)
{
  const std::vector<std::string_view> tokens = {"<bos>", "<0xC3>", "<0xA9>", "▁",    "a", "b",
                                                "▁a",    "▁ab",    "\n",     "\n\n", "  "};
  const std::vector<std::string_view> merges = {"▁ a", "▁a b"};
  const std::vector<int32_t> types = {3, 6, 6, 1, 1, 1, 1, 1, 1, 1, 4};
  for (const char *model : {"gemma4", "gpt2"}) {
    const GgufVocabulary source{model, "gemma4", tokens, merges, types, 0, -1, {}, {}};
    const auto tokenizer = load_gguf_tokenizer ("small.gguf", source);
    EXPECT_EQ (tokenizer->encode ("a ab\n\né  b", {.add_special_tokens = true}),
               (Ids{0, 4, 7, 9, 1, 2, 10, 5}));
    EXPECT_EQ (tokenizer->decode (Ids{4, 7, 9, 1, 2, 10, 5}), "a ab\n\né  b");
  }
}

TEST (GgufTokenizer, pieces_merge_by_score_and_fall_back_to_bytes)
{
  const std::vector<std::string_view> tokens = {"<unk>", "<s>", "</s>", "<0x0A>", "▁",  "a",
                                                "b",     "ab",  "▁a",   "<turn>", "<x>"};
  const std::vector<int32_t> types = {2, 3, 3, 6, 1, 1, 1, 1, 1, 4, 5};
  const std::vector<float> scores = {0, 0, 0, 0, -9, -9, -9, -2, -1, 0, 0};
  GgufVocabulary source{"llama", "default", tokens, {}, types, 1, 2, {}, {}};
  source.scores = scores;
  const auto tokenizer = load_gguf_tokenizer ("small.gguf", source);
  EXPECT_EQ (tokenizer->encode ("ab ab", {.add_special_tokens = true}), (Ids{1, 8, 6, 8, 6}));
  EXPECT_EQ (tokenizer->encode ("ab\n<turn>ab<x>"), (Ids{8, 6, 3, 9, 8, 6, 0}))
      << "what is unused stays text";
  EXPECT_EQ (tokenizer->decode (Ids{1, 8, 6, 3, 8}, true), "ab\n a");
  source.add_space_prefix = false;
  source.add_bos = false;
  source.add_eos = true;
  EXPECT_EQ (load_gguf_tokenizer ("small.gguf", source)->encode ("ab", {.add_special_tokens = true}),
             (Ids{7, 2}));
  source.strips_after_special = true;
  EXPECT_EQ (load_gguf_tokenizer ("small.gguf", source)->encode ("</s>  ab"), (Ids{2, 7}));
  EXPECT_EQ (load_gguf_tokenizer ("small.gguf", source)->encode ("<s> ab"), (Ids{1, 8, 6}));
}

TEST (GgufTokenizer, unigram_models_take_the_best_cut)
{
  const std::vector<std::string_view> tokens = {"<pad>", "</s>", "<unk>", "▁", "a", "b", "ab", "▁ab", "ba"};
  const std::vector<int32_t> types = {3, 3, 2, 1, 1, 1, 1, 1, 1};
  const std::vector<float> scores = {0, 0, 0, -2, -3, -3, -4, -9, -1};
  GgufVocabulary source{"t5", "default", tokens, {}, types, -1, 1, {}, {}};
  source.scores = scores;
  source.unknown = 2;
  source.add_space_prefix = true;
  source.remove_extra_whitespaces = true;
  const auto tokenizer = load_gguf_tokenizer ("small.gguf", source);
  EXPECT_EQ (tokenizer->encode ("  abab  ", {.add_special_tokens = true}), (Ids{3, 4, 8, 5, 1}));
  EXPECT_EQ (tokenizer->encode ("ab  xyz"), (Ids{3, 6, 3, 2})) << "one unknown token for a run";
  EXPECT_EQ (tokenizer->decode (Ids{7, 3, 6}), "ab ab");
  // One rule, "x" → "ab": the root's children are at offset 0, the leaf of "x" is the first of its own.
  std::string map (4 + 4 * 256 + 3, '\0');
  const auto unit = [&map] (size_t at, uint32_t value) {
    for (int byte = 0; byte < 4; ++byte)
      map[4 + at * 4 + static_cast<size_t> (byte)] = static_cast<char> (value >> 8 * byte);
  };
  map[1] = 4;
  unit (0, 1u << 10);
  const size_t child = 1 ^ 'x';
  unit (child, 'x' | 1u << 8 | (static_cast<uint32_t> (child ^ 200) << 10));
  unit (200, 1u << 31);
  map.replace (4 + 4 * 256, 2, "ab");
  source.precompiled_charsmap = map;
  EXPECT_EQ (load_gguf_tokenizer ("small.gguf", source)->encode ("x"), (Ids{3, 6}));
  source.precompiled_charsmap = "x";
  EXPECT_THROW (load_gguf_tokenizer ("small.gguf", source), LoadError);
}

TEST (GgufTokenizer, word_pieces_have_their_mark_at_the_beginning)
{
  const std::vector<std::string_view> tokens = {"[PAD]", "[UNK]", "[CLS]", "[SEP]",  "▁ab",
                                                "c",     "▁c",    "▁,",    "▁\u4E2D"};
  const std::vector<int32_t> types = {3, 3, 3, 3, 1, 1, 1, 1, 1};
  GgufVocabulary source{"bert", "", tokens, {}, types, 2, -1, {}, {}};
  source.unknown = 1;
  source.separator = 3;
  const auto tokenizer = load_gguf_tokenizer ("small.gguf", source);
  EXPECT_EQ (tokenizer->encode ("ÁBC c,c\u4E2D abd", {.add_special_tokens = true}),
             (Ids{2, 4, 5, 6, 7, 6, 8, 1, 3}));
  EXPECT_EQ (tokenizer->decode (Ids{2, 4, 5, 6, 7, 6}, true), "abc c, c");
  source.lowercase = false;
  EXPECT_EQ (load_gguf_tokenizer ("small.gguf", source)->encode ("AB ab"), (Ids{1, 4}));
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
  expect_refused (with ([] (Small &s) { s.model = "rwkv"; }), "model", "\"rwkv\" is not supported");
  expect_refused (with ([] (Small &s) { s.model = "llama"; }), "scores", "0 entries for 10 tokens");
  expect_refused (with ([] (Small &s) { s.model = ""; }), "model", "gpt2");
  expect_refused (with ([] (Small &s) { s.pre = "no-such-model"; }), "pre", "qwen2, ");
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
