// Stop strings against a search over the whole text, for any way of cutting it into pieces.
//
// labels: unit property
#include "engine/sampling/stop_matcher.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <random>

using namespace millrace;

namespace
{

struct Outcome {
  std::string text;
  bool matched = false;
  bool operator== (const Outcome &) const = default;
};

std::ostream &
operator<< (std::ostream &out, const Outcome &outcome)
{
  return out << '"' << outcome.text << "\" matched=" << outcome.matched;
}

/// The definition: the stop string that is complete first, of those the one that begins first.
Outcome
search (const std::string &text, const std::vector<std::string> &stops)
{
  for (size_t end = 1; end <= text.size (); ++end) {
    std::optional<size_t> begin;
    for (const std::string &stop : stops) {
      if (!stop.empty () && stop.size () <= end && text.compare (end - stop.size (), stop.size (), stop) == 0)
        begin = std::min (begin.value_or (end), end - stop.size ());
    }
    if (begin)
      return {text.substr (0, *begin), true};
  }
  return {text, false};
}

/// How much of the end of the text could still become a stop string.
size_t
longest_open_end (const std::string &text, const std::vector<std::string> &stops)
{
  size_t longest = 0;
  for (const std::string &stop : stops) {
    for (size_t n = 1; n < stop.size () && n <= text.size (); ++n) {
      if (text.compare (text.size () - n, n, stop, 0, n) == 0)
        longest = std::max (longest, n);
    }
  }
  return longest;
}

const std::vector<std::vector<std::string>> kAlphabets = {
    {"a", "b"}, {"a", "b", "c", "\n"}, {"é", "è", "a"}, {"漢", "字", "😀", "😁", "x"}};

std::vector<std::string>
random_characters (std::mt19937_64 &random, const std::vector<std::string> &alphabet, size_t count)
{
  std::vector<std::string> characters;
  for (size_t i = 0; i < count; ++i)
    characters.push_back (alphabet[random () % alphabet.size ()]);
  return characters;
}

std::string
joined (const std::vector<std::string> &parts)
{
  std::string text;
  for (const std::string &part : parts)
    text += part;
  return text;
}

} // namespace

TEST (StopMatcher, equals_a_search_of_the_whole_text_for_any_split)
{
  int matches = 0;
  for (uint64_t seed = 0; seed < 20'000; ++seed) {
    std::mt19937_64 random (seed);
    const auto &alphabet = kAlphabets[random () % kAlphabets.size ()];
    std::vector<std::string> stops;
    std::vector<std::vector<std::string>> stop_characters;
    for (size_t i = random () % 4 + 1; i > 0; --i) {
      stop_characters.push_back (random_characters (random, alphabet, random () % (random () % 2 ? 7 : 14)));
      stops.push_back (joined (stop_characters.back ()));
    }
    // Text at random, or of what stop strings begin with, so that many nearly match.
    std::vector<std::string> characters = random_characters (random, alphabet, random () % 40);
    for (size_t i = random () % 12; i > 0; --i) {
      const auto &stop = stop_characters[random () % stop_characters.size ()];
      const size_t prefix = random () % (stop.size () + 1);
      characters.insert (characters.end (), stop.begin (), stop.begin () + static_cast<ptrdiff_t> (prefix));
    }
    const Outcome expected = search (joined (characters), stops);

    StopMatcher matcher (stops);
    Outcome outcome;
    std::string pushed;
    for (size_t at = 0; at < characters.size () && !outcome.matched;) {
      std::string piece;
      for (size_t take = random () % 6; take > 0 && at < characters.size (); --take)
        piece += characters[at++];
      pushed += piece;
      outcome.matched = matcher.push (piece, outcome.text);
      if (outcome.matched)
        continue;
      // All that cannot become a stop string is out already, and it ends where a character does.
      ASSERT_EQ (outcome.text.size (), pushed.size () - longest_open_end (pushed, stops)) << "seed " << seed;
      ASSERT_TRUE (outcome.text.size () == pushed.size () || (pushed[outcome.text.size ()] & 0xC0) != 0x80)
          << "seed " << seed;
    }
    if (!outcome.matched)
      matcher.finish (outcome.text);
    ASSERT_EQ (outcome, expected) << "seed " << seed;
    matches += outcome.matched;
  }
  EXPECT_GT (matches, 4'000);
  EXPECT_LT (matches, 19'000);
}

TEST (StopMatcher, text_is_held_back_only_while_it_may_become_a_stop_string)
{
  StopMatcher matcher ({"</end>", "\n\n"});
  std::string out;
  EXPECT_FALSE (matcher.push ("a</e", out));
  EXPECT_EQ (out, "a");
  EXPECT_FALSE (matcher.push ("m>", out));
  EXPECT_EQ (out, "a</em>");
  EXPECT_FALSE (matcher.push ("\n", out));
  EXPECT_EQ (out, "a</em>");
  EXPECT_FALSE (matcher.push ("b<", out));
  EXPECT_EQ (out, "a</em>\nb");
  EXPECT_TRUE (matcher.push ("/end> and more", out));
  EXPECT_EQ (out, "a</em>\nb");
}

TEST (StopMatcher, of_several_complete_at_one_byte_the_longest_wins)
{
  for (const auto &stops : {std::vector<std::string>{"bc", "abc", "c"}, {"c", "bc", "abc"}}) {
    StopMatcher matcher (stops);
    std::string out;
    EXPECT_TRUE (matcher.push ("xabc", out));
    EXPECT_EQ (out, "x");
  }
}

TEST (StopMatcher, without_stop_strings_everything_passes_at_once)
{
  StopMatcher matcher ({"", ""});
  EXPECT_TRUE (matcher.empty ());
  EXPECT_FALSE (StopMatcher ({"x"}).empty ());
  std::string out;
  EXPECT_FALSE (matcher.push ("any text", out));
  EXPECT_EQ (out, "any text");
  matcher.finish (out);
  EXPECT_EQ (out, "any text");
}

TEST (StopMatcher, a_stop_string_that_begins_inside_a_character_does_not_cut_it)
{
  // No request can ask for it (its bytes are no UTF-8), a program may: 0xA9 is the second byte of é.
  StopMatcher matcher ({"\xA9!"});
  std::string out;
  EXPECT_FALSE (matcher.push ("caf\xC3\xA9", out));
  EXPECT_EQ (out, "caf");
  EXPECT_FALSE (matcher.push (" au lait", out));
  EXPECT_EQ (out, "caf\xC3\xA9 au lait");
}

TEST (StopMatcher, a_long_run_of_almost_matches_ends_in_the_right_place)
{
  const std::string almost (1023, 'a');
  StopMatcher matcher ({almost + 'b'});
  std::string out;
  for (int i = 0; i < 5'000; ++i)
    ASSERT_FALSE (matcher.push ("a", out));
  EXPECT_EQ (out.size (), 5'000u - 1'023u);
  EXPECT_TRUE (matcher.push ("b", out));
  EXPECT_EQ (out, std::string (5'000 - 1'023, 'a'));
}
