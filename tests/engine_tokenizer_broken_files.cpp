// labels: unit property
// timeout: 300
//
// Broken, hostile and unsupported tokenizer.json files: each is a LoadError that names the file, the field
// and what is wrong, and no damage to a file can crash the loader or the tokenizer that it may still give.

#include "engine/error.hpp"
#include "engine/tokenizer/tokenizer.hpp"
#include "tests/test_paths.hpp"

#include <array>
#include <fstream>
#include <iostream>
#include <random>

using namespace millrace;

namespace
{

/// A small file that loads; tests replace one of its members.
struct Sections {
  std::string version = R"("1.0")";
  std::string added =
      R"([{"id":5,"content":"<s>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}])";
  std::string normalizer = "null";
  std::string pre_tokenizer =
      R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true})";
  std::string post_processor = "null";
  std::string decoder = R"({"type":"ByteLevel"})";
  std::string vocab = R"({"a":0,"b":1,"ab":2,"c":3,"abc":4})";
  std::string merges = R"(["a b",["ab","c"]])";
  std::string model = R"("type":"BPE","dropout":null,"unk_token":null)";

  std::string json () const
  {
    return "{\"version\":" + version + ",\"added_tokens\":" + added + ",\"normalizer\":" + normalizer +
           ",\"pre_tokenizer\":" + pre_tokenizer + ",\"post_processor\":" + post_processor +
           ",\"decoder\":" + decoder + ",\"model\":{" + model + ",\"vocab\":" + vocab +
           ",\"merges\":" + merges + "}}";
  }
};

std::string
added_token (const std::string &id, const std::string &content, const std::string &normalized = "false")
{
  return R"({"id":)" + id + R"(,"content":")" + content +
         R"(","single_word":false,"lstrip":false,"rstrip":false,"special":false,"normalized":)" + normalized +
         "}";
}

class BrokenFiles : public testing::Test
{
protected:
  std::shared_ptr<const Tokenizer> load (const std::string &json)
  {
    std::ofstream (path_, std::ios::binary) << json;
    return Tokenizer::load (path_);
  }
  /// `field` as the error names it, and a part of what it says.
  void expect_error (const std::string &json, const std::string &field, const std::string &says)
  {
    SCOPED_TRACE (json.substr (0, 600));
    try {
      load (json);
      FAIL () << "loaded; expected an error about " << field;
    } catch (const LoadError &error) {
      EXPECT_EQ (error.file, path_);
      EXPECT_EQ (error.field, field) << error.what ();
      EXPECT_NE (std::string (error.what ()).find (path_.string ()), std::string::npos) << error.what ();
      EXPECT_NE (std::string (error.what ()).find (says), std::string::npos) << error.what ();
    }
  }

  TemporaryFolder folder_;
  std::filesystem::path path_ = folder_.path () / "tokenizer.json";
};

std::string
read_file (const std::filesystem::path &path)
{
  std::ifstream in (path, std::ios::binary);
  return std::string ((std::istreambuf_iterator<char> (in)), {});
}

} // namespace

TEST_F (BrokenFiles, the_unbroken_file_loads)
{
  const auto tokenizer = load (Sections ().json ());
  EXPECT_EQ (tokenizer->encode ("abc<s>ab"), (std::vector<TokenId>{4, 5, 2}));
  EXPECT_EQ (tokenizer->encode ("abcab", {.add_special_tokens = true}), (std::vector<TokenId>{4, 2}));
  EXPECT_EQ (tokenizer->encode ("azb"), (std::vector<TokenId>{2}))
      << "what is unknown is left out before merging";
}

TEST_F (BrokenFiles, each_wrong_field_is_named)
{
  struct Case {
    std::string Sections::*section;
    std::string value, field, says;
  };
  std::string deep = R"({"type":"NFC"})";
  for (int i = 0; i < 100; i++)
    deep = R"({"type":"Sequence","normalizers":[)" + deep + "]}";
  const std::string strip = R"({"type":"Strip","strip_left":true,"strip_right":true})";
  const auto with_model = [] (const std::string &member) { return R"("type":"BPE",)" + member; };
  const auto split = [] (const std::string &pattern, const std::string &behavior = "Isolated") {
    return R"({"type":"Split","pattern":)" + pattern + R"(,"behavior":")" + behavior + R"(","invert":false})";
  };
  const Case cases[] = {
      {&Sections::version, R"("2.0")", "version", "2.0"},
      {&Sections::version, "1.0", "version", "must be a string"},
      {&Sections::added, "{}", "added_tokens", "array"},
      {&Sections::added, "[7]", "added_tokens[0]", "object"},
      {&Sections::added, R"([{"id":5,"content":"x"}])", "added_tokens[0].single_word", "missing"},
      {&Sections::added, "[" + added_token ("-1", "x") + "]", "added_tokens[0].id", "whole number"},
      {&Sections::added, "[" + added_token ("1.5", "x") + "]", "added_tokens[0].id", "whole number"},
      {&Sections::added, "[" + added_token ("16777217", "x") + "]", "added_tokens[0].id", "16777216"},
      {&Sections::added, "[" + added_token ("9999999999999", "x") + "]", "added_tokens[0].id", "whole"},
      {&Sections::added, "[" + added_token ("3", "x") + "]", "added_tokens[0].id", "belongs to \"c\""},
      {&Sections::added, "[" + added_token ("5", "x") + "," + added_token ("5", "y") + "]",
       "added_tokens[1].id", "belongs to \"x\""},
      {&Sections::added, "[" + added_token ("5", "x") + "," + added_token ("6", "x") + "]", "added_tokens",
       "two ids"},
      {&Sections::added, "[" + added_token ("5", "a") + "]", "added_tokens", "two ids"},
      {&Sections::added, "[" + added_token ("5", "x", "1") + "]", "added_tokens[0].normalized",
       "true or false"},
      {&Sections::normalizer, R"({"type":"BertNormalizer"})", "normalizer.clean_text", "missing"},
      {&Sections::normalizer, R"({"type":"Prepend","prepend":")" + std::string (257, 'x') + R"("})",
       "normalizer.prepend", "has 257 bytes"},
      {&Sections::normalizer, R"({"type":"ByteLevel"})", "normalizer.type", "ByteLevel is not supported"},
      {&Sections::normalizer, R"({"type":"Precompiled","precompiled_charsmap":"AAA"})",
       "normalizer.precompiled_charsmap", "not Base64"},
      {&Sections::normalizer, R"({"type":"Precompiled","precompiled_charsmap":"A*AA"})",
       "normalizer.precompiled_charsmap", "not Base64"},
      {&Sections::normalizer, R"({"type":"Precompiled","precompiled_charsmap":"AAAA"})",
       "normalizer.precompiled_charsmap", "cut short"},
      {&Sections::normalizer, R"({"type":7})", "normalizer.type", "string"},
      {&Sections::normalizer, "[]", "normalizer", "object"},
      {&Sections::normalizer, R"({"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"Odd"}]})",
       "normalizer.normalizers[1].type", "Odd is not supported"},
      {&Sections::normalizer, R"({"type":"Replace","pattern":{"Regex":"("},"content":""})",
       "normalizer.pattern.Regex", "not closed"},
      {&Sections::normalizer, R"({"type":"Replace","pattern":{},"content":""})", "normalizer.pattern.Regex",
       "missing"},
      {&Sections::normalizer, R"({"type":"Strip","strip_left":true})", "normalizer.strip_right", "missing"},
      {&Sections::pre_tokenizer, R"({"type":"Metaspace"})", "pre_tokenizer.replacement", "missing"},
      {&Sections::pre_tokenizer, R"({"type":"Metaspace","replacement":""})", "pre_tokenizer.replacement",
       "must not be empty"},
      {&Sections::pre_tokenizer, R"({"type":"Metaspace","replacement":"_","prepend_scheme":"last"})",
       "pre_tokenizer.prepend_scheme", "last is not a scheme"},
      {&Sections::pre_tokenizer, R"({"type":"CharDelimiterSplit"})", "pre_tokenizer.delimiter", "missing"},
      {&Sections::pre_tokenizer, R"({"type":"Punctuation","behavior":"Odd"})", "pre_tokenizer.behavior",
       "Odd is not a split behavior"},
      {&Sections::pre_tokenizer, R"({"type":"Sequence","pretokenizers":[{"type":"UnicodeScripts"}]})",
       "pre_tokenizer.pretokenizers[0].type", "UnicodeScripts is not supported"},
      {&Sections::pre_tokenizer,
       R"({"type":"Sequence","pretokenizers":[{"type":"ByteLevel","add_prefix_space":false},{"type":"Digits"}]})",
       "pre_tokenizer.pretokenizers[1].type", "after ByteLevel"},
      {&Sections::pre_tokenizer, R"({"type":"ByteLevel"})", "pre_tokenizer.add_prefix_space", "missing"},
      {&Sections::pre_tokenizer, split (R"x({"Regex":"a)"})x"), "pre_tokenizer.pattern.Regex", "parenthesis"},
      {&Sections::pre_tokenizer, split (R"({"Regex":"[z-a]"})"), "pre_tokenizer.pattern.Regex",
       "does not compile"},
      {&Sections::pre_tokenizer, split (R"({"Regex":"[a&&b]"})"), "pre_tokenizer.pattern.Regex", "&&"},
      {&Sections::pre_tokenizer, split (R"({"Regex":"(?<n>a)\\g<n>"})"), "pre_tokenizer.pattern.Regex",
       "\\g"},
      {&Sections::pre_tokenizer, split (R"({"Regex":"\\p{Nonsense}"})"), "pre_tokenizer.pattern.Regex",
       "compile"},
      {&Sections::pre_tokenizer, split (R"({"Regex":"(?:a+)+[bd]"})"), "pre_tokenizer.pattern.Regex",
       "too many steps"},
      {&Sections::pre_tokenizer, split ("\"a\""), "pre_tokenizer.pattern", "object"},
      {&Sections::pre_tokenizer, split (R"({"Regex":"a"})", "Sometimes"), "pre_tokenizer.behavior",
       "Sometimes"},
      {&Sections::post_processor, R"({"type":"Odd"})", "post_processor.type", "Odd is not supported"},
      {&Sections::post_processor, R"({"type":"RobertaProcessing"})", "post_processor.cls", "missing"},
      {&Sections::post_processor, R"({"type":"BertProcessing","cls":["a",0],"sep":["b"]})",
       "post_processor.sep", "a token and its id"},
      {&Sections::post_processor, R"({"type":"BertProcessing","cls":["a",0],"sep":["b",99]})",
       "post_processor.sep[1]", "99 is no token"},
      {&Sections::post_processor,
       R"({"type":"Sequence","processors":[{"type":"BertProcessing","cls":["a",0],"sep":["b",1]},{"type":"BertProcessing"}]})",
       "post_processor.processors[1].type", "after another template"},
      {&Sections::post_processor, R"({"type":"TemplateProcessing","special_tokens":{}})",
       "post_processor.single", "missing"},
      {&Sections::post_processor, R"({"type":"TemplateProcessing","single":[],"special_tokens":{}})",
       "post_processor.single", "no sequence"},
      {&Sections::post_processor,
       R"({"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>"}}],"special_tokens":{}})",
       "post_processor.special_tokens.<s>", "missing"},
      {&Sections::post_processor,
       R"({"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>"}}],"special_tokens":{"<s>":{"ids":[99]}}})",
       "post_processor.special_tokens.<s>.ids[0]", "99"},
      {&Sections::post_processor, R"({"type":"TemplateProcessing","single":[{"Sequence":{"id":"B"}}]})",
       "post_processor.single[0].Sequence", "sequence A"},
      {&Sections::decoder, R"({"type":"CTC"})", "decoder.type", "CTC is not supported"},
      {&Sections::decoder, R"({"type":"CTC","pad_token":"<pad>"})", "decoder.type", "CTC"},
      {&Sections::decoder, R"({"type":"BPEDecoder"})", "decoder.suffix", "missing"},
      {&Sections::decoder, R"({"type":"BPEDecoder","suffix":""})", "decoder.suffix", "must not be empty"},
      {&Sections::decoder, R"({"type":"Metaspace"})", "decoder.replacement", "missing"},
      {&Sections::decoder, R"({"type":"Strip","content":" ","start":-1,"stop":0})", "decoder.start",
       "whole number"},
      {&Sections::decoder,
       R"({"type":"Sequence","decoders":[{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":1}]})",
       "decoder.decoders[1].stop", "must be 0 after Fuse"},
      {&Sections::decoder,
       R"({"type":"Sequence","decoders":[{"type":"Fuse"},{"type":"Replace","pattern":{"String":"_"},"content":" "}]})",
       "decoder.decoders[1].type", "Replace after Fuse"},
      {&Sections::decoder, R"({"type":"Sequence","decoders":[{"type":"Fuse"},{"type":"ByteLevel"}]})",
       "decoder.decoders[1].type", "after Fuse"},
      {&Sections::model, R"("type":"Odd")", "model.type", "Odd is not supported"},
      {&Sections::model, R"("type":"Unigram")", "model.vocab", "array"},
      {&Sections::model, R"("type":"WordPiece")", "model.max_input_chars_per_word", "missing"},
      {&Sections::model, R"("type":"WordLevel")", "model.unk_token", "missing"},
      {&Sections::model, R"("type":"WordLevel","unk_token":"?")", "model.unk_token", "not in model.vocab"},
      {&Sections::model, with_model (R"("dropout":0.1)"), "model.dropout", "null"},
      {&Sections::model, with_model (R"("continuing_subword_prefix":"##")"), "model.merges[0]",
       "\"b\" does not begin with continuing_subword_prefix"},
      {&Sections::model, with_model (R"("continuing_subword_prefix":7)"), "model.continuing_subword_prefix",
       "string"},
      {&Sections::model, with_model (R"("end_of_word_suffix":")" + std::string (300, 'x') + "\""),
       "model.end_of_word_suffix", "300 bytes"},
      {&Sections::model, with_model (R"("unk_token":"?")"), "model.unk_token", "not in model.vocab"},
      {&Sections::model, with_model (R"("ignore_merges":"yes")"), "model.ignore_merges", "true or false"},
      {&Sections::vocab, "[]", "model.vocab", "object"},
      {&Sections::vocab, "null", "model.vocab", "missing"},
      {&Sections::vocab, "{}", "model.vocab", "empty"},
      {&Sections::vocab, R"({"a":0,"b":-1})", "model.vocab", "\"b\""},
      {&Sections::vocab, R"({"a":0,"b":"1"})", "model.vocab", "\"b\""},
      {&Sections::vocab, R"({"a":16777217})", "model.vocab", "16777216"},
      {&Sections::vocab, R"({"a":0,"b":0})", "model.vocab", "same id 0"},
      {&Sections::vocab, R"({"a":0,"a":1})", "model.vocab", "two ids"},
      {&Sections::merges, "null", "model.merges", "missing"},
      {&Sections::merges, "{}", "model.merges", "array"},
      {&Sections::merges, R"(["ab"])", "model.merges[0]", "one space"},
      {&Sections::merges, R"(["a b","a b c"])", "model.merges[1]", "one space"},
      {&Sections::merges, R"([["a"]])", "model.merges[0]", "two strings"},
      {&Sections::merges, R"([["a",7]])", "model.merges[0]", "two strings"},
      {&Sections::merges, R"(["a z"])", "model.merges[0]", "\"z\" is not in model.vocab"},
      {&Sections::merges, R"(["a b","b a"])", "model.merges[1]", "\"ba\" is not in model.vocab"},
      {&Sections::merges, R"(["a <s>"])", "model.merges[0]", "\"<s>\" is not in model.vocab"},
  };
  for (const Case &c : cases) {
    Sections sections;
    sections.*c.section = c.value;
    expect_error (sections.json (), c.field, c.says);
  }

  for (const auto &[vocab, field, says] :
       {std::array{"[]", "model.vocab", "empty"},
        std::array{R"([["a"]])", "model.vocab[0]", "a token and its score"},
        std::array{R"([["a",0],["b","1"]])", "model.vocab[1]", "a token and its score"},
        std::array{R"([["a",0],["a",1]])", "model.vocab", "two ids"},
        std::array{R"([["a",0],["<s>",1],["b",1]])", "model.unk_id", "whole number from 0 to 2"}}) {
    Sections unigram;
    unigram.model = R"("type":"Unigram","unk_id":3)";
    unigram.vocab = vocab;
    unigram.added = "[]";
    expect_error (unigram.json (), field, says);
  }

  Sections sections;
  sections.normalizer = deep;
  std::string field = "normalizer";
  for (int i = 0; i < 16; i++)
    field += ".normalizers[0]";
  expect_error (sections.json (), field, "nested too deeply");

  sections = Sections ();
  sections.normalizer = strip;
  sections.added = "[" + added_token ("5", " ", "true") + "]";
  expect_error (sections.json (), "added_tokens[0].content", "nothing is left");
  sections.normalizer = R"({"type":"Lowercase"})";
  sections.added = "[" + added_token ("5", "X", "true") + "," + added_token ("6", "x", "true") + "]";
  expect_error (sections.json (), "added_tokens[1].content", "the same after normalization");
}

TEST_F (BrokenFiles, what_is_no_json_is_said_to_be_none)
{
  const std::string good = Sections ().json ();
  for (const std::string &json : {std::string (), std::string ("{"), good.substr (0, good.size () / 2),
                                  std::string (100'000, '['), std::string ("{\"model\":\xFF}")})
    expect_error (json, "", "cannot be read as JSON");
  expect_error ("[]", "", "object");
  expect_error ("{}", "model", "missing");
  EXPECT_THROW (Tokenizer::load (folder_.path () / "absent.json"), LoadError);
  EXPECT_THROW (Tokenizer::load (folder_.path ()), LoadError);
}

TEST_F (BrokenFiles, holes_in_the_ids_are_no_tokens)
{
  Sections sections;
  sections.vocab = R"({"a":0,"b":1,"ab":7,"c":3,"abc":9})";
  const auto tokenizer = load (sections.json ());
  EXPECT_EQ (tokenizer->vocab_size (), 10);
  EXPECT_EQ (tokenizer->encode ("abcab"), (std::vector<TokenId>{9, 7}));
  EXPECT_EQ (tokenizer->decode (std::vector<TokenId>{2, 9, 4, 8, 7}), "abcab");
  EXPECT_EQ (tokenizer->token_bytes (4), "");
}

TEST_F (BrokenFiles, damaged_bytes_never_crash)
{
  const char *given = std::getenv ("MILLRACE_SEED");
  const uint32_t seed = given ? std::strtoul (given, nullptr, 10) : std::random_device () ();
  std::cout << "damage: MILLRACE_SEED=" << seed << std::endl;
  std::mt19937 random (seed);
  const std::string demo = read_file (source_path ("models/demo/tokenizer.json"));
  const std::string small = Sections ().json ();
  ASSERT_FALSE (demo.empty ());
  int loaded = 0, refused = 0;
  for (int i = 0; i < 1200; i++) {
    // Most of the demo's bytes are vocabulary: the head, with everything else, gets its share.
    std::string json = i % 4 ? small : demo;
    const size_t reach = i % 8 ? json.size () : std::min<size_t> (json.size (), 5000);
    switch (random () % 4) {
    case 0:
      json.resize (random () % json.size ());
      break;
    case 1:
      json[random () % reach] ^= static_cast<char> (1 << random () % 8);
      break;
    case 2:
      json.erase (random () % reach, 1 + random () % 8);
      break;
    default: {
      const std::string piece = json.substr (random () % reach, 1 + random () % 24);
      json.insert (random () % reach, piece);
    }
    }
    try {
      const auto tokenizer = load (json);
      loaded++;
      const std::string text = "abc <s> Hello, w\u00F6rld!\n\n  12 <|im_start|> \u4E2D";
      const auto ids = tokenizer->encode (text, {.add_special_tokens = true});
      EXPECT_TRUE (valid_utf8 (tokenizer->decode (ids)));
      for (const TokenId id : ids)
        EXPECT_TRUE (id >= 0 && id < tokenizer->vocab_size ());
    } catch (const LoadError &error) {
      refused++;
      EXPECT_NE (std::string (error.what ()).find (path_.string ()), std::string::npos);
    }
  }
  EXPECT_GT (loaded, 20);
  EXPECT_GT (refused, 300);
}
