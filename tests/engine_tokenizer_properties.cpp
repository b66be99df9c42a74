// labels: unit property
// timeout: 300
//
// What holds for any text and any ids, on the demo model's tokenizer: round trips, incremental decoding,
// UTF-8 validation, and texts made to be slow.

#include "engine/tokenizer/bpe.hpp"
#include "engine/tokenizer/detokenizer.hpp"
#include "engine/tokenizer/regex.hpp"
#include "engine/tokenizer/score_merges.hpp"
#include "engine/tokenizer/tokenizer.hpp"
#include "engine/tokenizer/unigram.hpp"
#include "tests/test_paths.hpp"

#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>

#include <algorithm>
#include <fstream>
#include <iostream>
#include <random>
#include <thread>

using namespace millrace;

namespace
{

const Tokenizer &
demo ()
{
  static const auto tokenizer = Tokenizer::load (source_path ("models/demo/tokenizer.json"));
  return *tokenizer;
}

uint32_t
new_seed (const char *what)
{
  const char *given = std::getenv ("MILLRACE_SEED");
  const uint32_t seed = given ? std::strtoul (given, nullptr, 10) : std::random_device () ();
  std::cout << what << ": MILLRACE_SEED=" << seed << std::endl;
  return seed;
}

std::string
nfc (const std::string &text)
{
  UErrorCode status = U_ZERO_ERROR;
  std::string out;
  icu::StringByteSink<std::string> sink (&out);
  icu::Normalizer2::getNFCInstance (status)->normalizeUTF8 (0, text, sink, nullptr, status);
  return out;
}

void
append_character (char32_t c, std::string &out)
{
  if (c < 0x80) {
    out += static_cast<char> (c);
    return;
  }
  const int extra = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
  constexpr unsigned char kLead[] = {0, 0xC0, 0xE0, 0xF0};
  out += static_cast<char> (kLead[extra] | c >> 6 * extra);
  for (int i = extra - 1; i >= 0; i--)
    out += static_cast<char> (0x80 | (c >> 6 * i & 0x3F));
}

std::string
random_text (std::mt19937 &random)
{
  std::string text;
  const int length = random () % 60;
  for (int i = 0; i < length; i++) {
    char32_t c = 0;
    switch (random () % 6) {
    case 0:
    case 1:
      c = 32 + random () % 95;
      break;
    case 2:
      c = U" \n\t\r'<|>"[random () % 8];
      break;
    case 3:
      c = 0x80 + random () % 0x700;
      break;
    case 4:
      c = random () % 0xD800;
      break;
    default:
      c = 0xE000 + random () % (0x110000 - 0xE000);
    }
    append_character (c, text);
  }
  return text;
}

/// Bytes of which many are almost UTF-8.
std::string
random_bytes (std::mt19937 &random)
{
  std::string bytes = random_text (random);
  for (int flips = random () % 6; flips > 0 && !bytes.empty (); flips--)
    bytes[random () % bytes.size ()] = static_cast<char> (random ());
  if (!bytes.empty () && random () % 2)
    bytes.resize (random () % bytes.size ());
  return bytes;
}

/// Length of the well-formed sequence at `at`, 0 if there is none. Written from table 3-7 of the Unicode
/// standard, apart from the engine's own.
size_t
sequence_at (const std::string &bytes, size_t at)
{
  const auto byte = [&] (size_t i) -> int {
    return at + i < bytes.size () ? static_cast<unsigned char> (bytes[at + i]) : -1;
  };
  const auto tail = [&] (size_t i) { return byte (i) >= 0x80 && byte (i) <= 0xBF; };
  const int lead = byte (0), second = byte (1);
  if (lead <= 0x7F)
    return 1;
  if (lead >= 0xC2 && lead <= 0xDF)
    return tail (1) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    const bool good = tail (1) && !(lead == 0xE0 && second < 0xA0) && !(lead == 0xED && second > 0x9F);
    return good && tail (2) ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    const bool good = tail (1) && !(lead == 0xF0 && second < 0x90) && !(lead == 0xF4 && second > 0x8F);
    return good && tail (2) && tail (3) ? 4 : 0;
  }
  return 0;
}

} // namespace

TEST (TokenizerProperties, decoding_an_encoded_text_gives_its_nfc)
{
  std::mt19937 random (new_seed ("round trip"));
  for (int i = 0; i < 100'000; i++) {
    const std::string text = random_text (random);
    ASSERT_EQ (demo ().decode (demo ().encode (text, {.parse_special = i % 2 == 0})), nfc (text))
        << "iteration " << i;
  }
}

TEST (TokenizerProperties, encoding_any_bytes_is_safe_and_sees_replacement_characters)
{
  std::mt19937 random (new_seed ("any bytes"));
  for (int i = 0; i < 5000; i++) {
    const std::string bytes = random_bytes (random);
    const std::string decoded = demo ().decode (demo ().encode (bytes));
    ASSERT_TRUE (valid_utf8 (decoded)) << "iteration " << i;
    if (valid_utf8 (bytes))
      ASSERT_EQ (decoded, nfc (bytes)) << "iteration " << i;
    else
      ASSERT_NE (decoded.find ("\uFFFD"), std::string::npos) << "iteration " << i;
  }
}

TEST (TokenizerProperties, incremental_decoding_equals_decoding_at_every_prefix)
{
  std::mt19937 random (new_seed ("incremental"));
  for (int i = 0; i < 1000; i++) {
    // Random ids make broken characters of every kind; a few ids do not exist.
    std::vector<TokenId> ids;
    for (int n = random () % 40; n > 0; n--)
      ids.push_back (random () % 3 ? static_cast<TokenId> (random () % 300)
                                   : static_cast<TokenId> (random () % 8250) - 10);
    for (const bool skip : {false, true}) {
      Detokenizer detokenizer (demo (), skip);
      std::string emitted;
      for (size_t length = 0; length < ids.size (); length++) {
        std::string piece;
        detokenizer.push (ids[length], piece);
        ASSERT_TRUE (valid_utf8 (piece)) << "iteration " << i << ", token " << length;
        emitted += piece;
        Detokenizer ended = detokenizer;
        std::string whole = emitted;
        ended.finish (whole);
        const std::span<const TokenId> prefix (ids.data (), length + 1);
        ASSERT_EQ (whole, demo ().decode (prefix, skip)) << "iteration " << i << ", token " << length;
        ASSERT_EQ (detokenizer.pending (), whole.size () > emitted.size ());
      }
    }
  }
}

TEST (TokenizerProperties, invalid_bytes_become_one_replacement_for_each_maximal_subpart)
{
  const auto bytes_token = [] (unsigned char byte) {
    for (TokenId id = 0; id < demo ().vocab_size (); id++)
      if (demo ().token_bytes (id) == std::string_view (reinterpret_cast<const char *> (&byte), 1))
        return id;
    return TokenId{-1};
  };
  struct Case {
    std::string bytes, text;
  };
  const Case cases[] = {
      {"\xC0\x80", "\uFFFD\uFFFD"},
      {"\xED\xA0\x80", "\uFFFD\uFFFD\uFFFD"},
      {"\xF0\x9F\x98", "\uFFFD"},
      {"\xF0\x9F\x98z", "\uFFFDz"},
      {"\xF0\x80\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD"},
      {"\xF4\x90\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD"},
      {"\xE2\x82\xE2\x82\xAC", "\uFFFD\u20AC"},
      {"a\xFF\xFE", "a\uFFFD\uFFFD"},
      {"\x80\xC3", "\uFFFD\uFFFD"},
      {"\xF1\x80\xC3\xA9", "\uFFFD\u00E9"},
  };
  for (const Case &c : cases) {
    std::vector<TokenId> ids;
    for (const char byte : c.bytes)
      ids.push_back (bytes_token (static_cast<unsigned char> (byte)));
    EXPECT_EQ (demo ().decode (ids), c.text);
  }
}

TEST (TokenizerProperties, valid_utf8_finds_the_first_bad_byte)
{
  std::mt19937 random (new_seed ("UTF-8"));
  int bad = 0;
  for (int i = 0; i < 20000; i++) {
    const std::string bytes = random_bytes (random);
    size_t expected = 0;
    while (expected < bytes.size ()) {
      const size_t size = sequence_at (bytes, expected);
      if (size == 0)
        break;
      expected += size;
    }
    size_t offset = 12345;
    if (expected == bytes.size ()) {
      ASSERT_TRUE (valid_utf8 (bytes, &offset)) << "iteration " << i;
    } else {
      bad++;
      ASSERT_FALSE (valid_utf8 (bytes, &offset)) << "iteration " << i;
      ASSERT_EQ (offset, expected) << "iteration " << i;
    }
  }
  EXPECT_GT (bad, 1000);
}

/// Look-ups and entries of the heap for each symbol of a word of `size`.
double
work_per_symbol (const Bpe &bpe, const std::string &unit, size_t size)
{
  std::string word;
  while (word.size () < size)
    word += unit;
  Bpe::Scratch scratch;
  scratch.prepare (word.size ());
  std::vector<int32_t> ids;
  bpe.encode (word, scratch, ids);
  EXPECT_FALSE (ids.empty ());
  return static_cast<double> (scratch.work ()) / static_cast<double> (word.size ());
}

TEST (TokenizerProperties, the_work_on_a_word_grows_as_its_length)
{
  // All merges of up to 16 of a, b and the space mark, by scores: whatever the word, there is always something to merge.
  Vocabulary vocabulary;
  std::vector<float> scores;
  const std::vector<std::string> units = {"a", "b", "▁", "ab", "aab", "▁a"};
  std::vector<std::string> pieces;
  for (const std::string &unit : units)
    for (std::string piece = unit; piece.size () <= 48; piece += unit)
      if (std::find (pieces.begin (), pieces.end (), piece) == pieces.end ())
        pieces.push_back (piece);
  vocabulary.index.reserve (pieces.size ());
  for (const std::string &piece : pieces) {
    vocabulary.contents.append (piece);
    vocabulary.flags.push_back (Vocabulary::kPresent | Vocabulary::kModel);
    vocabulary.index.insert (vocabulary.contents, static_cast<int32_t> (scores.size ()));
    scores.push_back (static_cast<float> (piece.size () % 7) - static_cast<float> (scores.size ()) / 8);
  }
  Bpe bpe;
  bpe.vocabulary = &vocabulary;
  bpe.merges = score_merges (vocabulary, scores);
  bpe.merges_characters = true;
  bpe.unknown = 0;
  for (const std::string unit : {"a", "ab", "▁", "aab", "▁ab", "abaabaaab", "x"})
    for (const size_t size : {10'000, 1'000'000}) {
      // Each symbol is entered once, and each merge enters two pairs and takes one out.
      EXPECT_LE (work_per_symbol (bpe, unit, size), 6) << unit << ", " << size;
    }
  Unigram unigram;
  for (size_t i = 0; i < pieces.size (); i++)
    unigram.pieces.insert (pieces[i], static_cast<int32_t> (i));
  unigram.scores.assign (scores.begin (), scores.end ());
  for (const std::string unit : {"a", "ab", "▁", "x"}) {
    std::string text;
    while (text.size () < 1'000'000)
      text += unit;
    Unigram::Scratch scratch;
    std::vector<int32_t> ids;
    unigram.encode (text, scratch, ids);
    EXPECT_LE (scratch.work (), text.size () * 50)
        << unit << ": the longest piece and one more for each character";
  }
}

TEST (TokenizerProperties, ten_megabytes_without_a_boundary_come_back)
{
  for (const std::string unit : {"a", " ", "abcdefghij"}) {
    std::string text;
    while (text.size () < 10'000'000)
      text += unit;
    EXPECT_TRUE (demo ().decode (demo ().encode (text)) == text) << "of " << unit;
  }
}

TEST (TokenizerProperties, two_megabytes_of_one_character_are_no_trouble)
{
  constexpr size_t kSize = 2'000'000;
  for (const std::string unit : {"a", " ", "\n", "!", "7", "\u00E9", "\u4E2D", "\u0301", "'s", "a "}) {
    std::string text;
    while (text.size () < kSize)
      text += unit;
    const auto ids = demo ().encode (text);
    EXPECT_LE (ids.size (), text.size ()) << "of " << unit;
    EXPECT_EQ (demo ().decode (ids), text) << "of " << unit;
  }
}

TEST (TokenizerProperties, absurd_runs_of_combining_marks_are_put_in_order)
{
  // Every second mark belongs before all others: quadratic for an insertion sort.
  constexpr int kPairs = 200'000;
  std::string text = "a", ordered = "a";
  for (int i = 0; i < kPairs; i++)
    text += "\u0307\u0323";
  EXPECT_EQ (demo ().decode (demo ().encode (text)).size (),
             std::string ("\u1EA1").size () + (kPairs - 1) * 2 + kPairs * 2);
  // Short runs, where ICU does it alone, and long ones agree.
  for (const int pairs : {1, 10, 31, 32, 33, 40, 100}) {
    std::string marks = "e";
    for (int i = 0; i < pairs; i++)
      marks += "\u0307\u0323\u0F73\u0344";
    EXPECT_EQ (demo ().decode (demo ().encode (marks)), nfc (marks)) << pairs;
  }
}

TEST (TokenizerProperties, threads_share_a_tokenizer)
{
  const std::string text =
      "The quick brown fox; d\u00E9j\u00E0 vu <|im_start|>user\n  return 42;\n\u4E2D\u6587";
  const auto expected = demo ().encode (text);
  std::vector<std::thread> threads;
  std::vector<int> wrong (4, 0);
  for (int &count : wrong)
    threads.emplace_back ([&] {
      for (int i = 0; i < 500; i++)
        count += demo ().encode (text) != expected || demo ().decode (expected) != text;
    });
  for (std::thread &thread : threads)
    thread.join ();
  EXPECT_EQ (wrong, std::vector<int> (4, 0));
}

TEST (TokenizerProperties, special_text_is_ordinary_text_when_not_parsed)
{
  const std::string text = "<|im_start|>user<think>";
  const auto parsed = demo ().encode (text);
  const auto plain = demo ().encode (text, {.parse_special = false});
  const auto start = demo ().token_id ("<|im_start|>"), think = demo ().token_id ("<think>");
  ASSERT_TRUE (start && think);
  EXPECT_EQ (parsed.front (), *start);
  EXPECT_EQ (std::count (plain.begin (), plain.end (), *start), 0);
  EXPECT_EQ (plain.back (), *think) << "<think> is not special and stays a token";
  EXPECT_EQ (demo ().decode (plain), text);
  EXPECT_TRUE (demo ().is_special (*start));
  EXPECT_FALSE (demo ().is_special (*think));
  EXPECT_EQ (demo ().decode (parsed, true), "user<think>");
}

TEST (TokenizerProperties, ids_outside_the_vocabulary_are_nothing)
{
  for (const TokenId id : {-1, 8192, INT32_MAX, INT32_MIN}) {
    EXPECT_EQ (demo ().token_bytes (id), "");
    EXPECT_FALSE (demo ().is_special (id));
    EXPECT_EQ (demo ().decode (std::vector<TokenId>{id}), "");
  }
  EXPECT_FALSE (demo ().token_id ("no such token in there"));
}

TEST (TokenizerProperties, digests_tell_vocabularies_apart)
{
  const auto draft = Tokenizer::load (source_path ("models/demo-draft/tokenizer.json"));
  EXPECT_EQ (draft->digest (), demo ().digest ());
  EXPECT_EQ (demo ().digest ().size (), 16u);
  EXPECT_EQ (demo ().digest ().find_first_not_of ("0123456789abcdef"), std::string::npos);

  // Another byte in one token, or another special flag, is another vocabulary.
  std::ifstream in (source_path ("models/demo/tokenizer.json"));
  const std::string json ((std::istreambuf_iterator<char> (in)), {});
  TemporaryFolder folder;
  for (const auto &[from, to] : {std::pair<std::string, std::string>{"<|fim_pad|>", "<|fim_pat|>"},
                                 {"\"special\": true", "\"special\": false"}}) {
    std::string changed = json;
    const size_t at = changed.find (from);
    ASSERT_NE (at, std::string::npos);
    changed.replace (at, from.size (), to);
    std::ofstream (folder.path () / "t.json") << changed;
    EXPECT_NE (Tokenizer::load (folder.path () / "t.json")->digest (), demo ().digest ()) << to;
  }
}

TEST (TokenizerProperties, a_match_limit_leaves_the_rest_as_one_piece)
{
  // Harmless on the probe texts, exponential on "qq…q".
  const Regex regex = Regex::compile ("x|(?:q+)+[de]");
  const std::string text = "x" + std::string (4000, 'q');
  Regex::Scratch scratch;
  std::vector<Piece> pieces;
  regex.find_all (text, scratch, pieces);
  ASSERT_EQ (pieces.size (), 2u);
  EXPECT_TRUE (pieces[0].matched);
  EXPECT_FALSE (pieces[1].matched);
  EXPECT_EQ (pieces[1].end, text.size ());
}
