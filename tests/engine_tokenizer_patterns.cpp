// labels: unit property
// timeout: 300
//
// The patterns that are matched by hand cut as their regular expressions do: every character in several contexts, and random
// texts.
#include "engine/tokenizer/known_pattern.hpp"
#include "engine/tokenizer/known_patterns.hpp"
#include "engine/tokenizer/pre_tokenizer.hpp"
#include "engine/tokenizer/utf8.hpp"
#include "tests/test_paths.hpp"

#include <iostream>
#include <random>

using namespace millrace;

namespace
{

constexpr std::string_view kPatterns[] = {kByteLevelPattern, kLlama3Pattern, kQwen2Pattern, kQwen35Pattern};

std::vector<size_t>
ends_by_hand (const KnownPattern &pattern, std::string_view text)
{
  std::vector<size_t> ends;
  for (size_t at = 0; at < text.size ();) {
    at = pattern.end_of_match (text, at);
    ends.push_back (at);
  }
  return ends;
}

std::vector<size_t>
ends_by_regex (const Regex &regex, std::string_view text)
{
  Regex::Scratch scratch;
  std::vector<Piece> pieces;
  regex.find_all (text, scratch, pieces);
  std::vector<size_t> ends;
  for (const Piece &piece : pieces)
    ends.push_back (piece.end);
  return ends;
}

void
expect_equal (std::string_view pattern, const std::string &text)
{
  const auto by_hand = ends_by_hand (KnownPattern::find (pattern), text);
  const auto by_regex = ends_by_regex (Regex::compile (pattern), text);
  const auto [hand, regex] =
      std::mismatch (by_hand.begin (), by_hand.end (), by_regex.begin (), by_regex.end ());
  if (hand == by_hand.end () && regex == by_regex.end ())
    return;
  const size_t at = hand == by_hand.begin () ? 0 : *(hand - 1);
  ADD_FAILURE () << "pattern " << pattern << "\ndiffers after byte " << at << ": \""
                 << testing::PrintToString (text.substr (at, 24)) << "\", matches end at "
                 << (hand == by_hand.end () ? 0 : *hand) << " and "
                 << (regex == by_regex.end () ? 0 : *regex);
}

TEST (KnownPatterns, every_character_is_of_the_same_kind)
{
  for (const std::string_view pattern : kPatterns) {
    std::string text;
    for (char32_t c = 0; c < 0x110000; c++) {
      if (c >= 0xD800 && c < 0xE000)
        continue;
      for (const std::string_view before : {"a", " ", "1", ".", "'"}) {
        text += before;
        utf8::append (c, text);
        if (c < 0x3100) {
          utf8::append (c, text);
          text += "e \n";
        }
      }
      if (text.size () > 4'000'000) {
        expect_equal (pattern, text);
        text.clear ();
      }
    }
    expect_equal (pattern, text);
  }
}

TEST (KnownPatterns, random_texts_are_cut_alike)
{
  const char *given = std::getenv ("MILLRACE_SEED");
  const uint32_t seed = given ? std::strtoul (given, nullptr, 10) : std::random_device () ();
  std::cout << "texts: MILLRACE_SEED=" << seed << std::endl;
  std::mt19937 random (seed);
  constexpr std::u32string_view kOften =
      U"aeLlsStTrRvVmMdDſ'''  \t\r\n\n\u3000\u00a0\u0085019½Ⅷ٣.!-_/\u0301\u093f中ひé\U0001F600\u200d";
  for (const std::string_view pattern : kPatterns) {
    std::string text;
    for (int i = 0; i < 200'000; i++)
      utf8::append (random () % 16 ? kOften[random () % kOften.size ()] : random () % 0xD800, text);
    expect_equal (pattern, text);
  }
}

TEST (KnownPatterns, ends_of_texts_are_cut_alike)
{
  constexpr std::string_view kParts[] = {"a", "'", "s", " ", "\n", "1", ".", "é", "\u0301", "\r"};
  for (const std::string_view pattern : kPatterns) {
    const KnownPattern known = KnownPattern::find (pattern);
    const Regex regex = Regex::compile (pattern);
    for (size_t i = 0; i < 10'000; i++) {
      std::string text;
      for (size_t rest = i, n = 0; n < 4; n++, rest /= 10)
        text += kParts[rest % 10];
      ASSERT_EQ (ends_by_hand (known, text), ends_by_regex (regex, text)) << pattern << "\n" << text;
    }
  }
}

TEST (KnownPatterns, other_patterns_are_left_to_the_engine)
{
  EXPECT_FALSE (KnownPattern::find (R"(\s+)"));
  EXPECT_FALSE (KnownPattern ());
  EXPECT_TRUE (split_stage (kQwen2Pattern).known);
  EXPECT_TRUE (split_stage (kQwen2Pattern, SplitBehavior::kRemoved, true).known);
  EXPECT_FALSE (split_stage (kQwen2Pattern, SplitBehavior::kRemoved).known);
  EXPECT_FALSE (split_stage (kQwen2Pattern, SplitBehavior::kMergedWithNext).known);
  EXPECT_TRUE (split_stage (kQwen2Pattern, SplitBehavior::kIsolated, true).known);
}

} // namespace
