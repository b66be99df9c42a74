// Reasoning and content are a function of the text alone, wherever the tags stand and however it is cut.
//
// labels: unit property
#include "engine/chat/reasoning.hpp"
#include "tests/seed.hpp"

#include <gtest/gtest.h>

#include <vector>

using namespace millrace;

namespace
{

struct Parts {
  std::string reasoning, content;
  bool operator== (const Parts &) const = default;
};

std::ostream &
operator<< (std::ostream &out, const Parts &parts)
{
  return out << "reasoning \"" << parts.reasoning << "\", content \"" << parts.content << '"';
}

Parts
split (const std::vector<std::string> &pieces, bool inside)
{
  Parts parts;
  ReasoningSplitter splitter (inside);
  for (const std::string &piece : pieces)
    splitter.push (piece, parts.reasoning, parts.content);
  splitter.finish (parts.reasoning, parts.content);
  return parts;
}

/// The definition, with the whole text at hand.
Parts
whole (const std::string &text, bool inside)
{
  constexpr const char *kSpace = " \t\n\r\f\v";
  const auto trimmed = [] (const std::string &part) {
    const size_t begin = part.find_first_not_of (kSpace);
    return begin == std::string::npos ? std::string () : part.substr (begin);
  };
  std::string rest = text;
  if (!inside) {
    if (trimmed (text).rfind ("<think>", 0) != 0)
      return {"", text};
    rest = trimmed (text).substr (7);
  }
  rest = trimmed (rest);
  const size_t close = rest.find ("</think>");
  if (close == std::string::npos)
    return {rest, ""};
  return {rest.substr (0, close), trimmed (rest.substr (close + 8))};
}

struct Case {
  const char *text;
  bool inside;
  Parts parts;
};

const Case kCases[] = {
    {"", false, {"", ""}},
    {"hello", false, {"", "hello"}},
    {"  hello", false, {"", "  hello"}},
    {" \n", false, {"", " \n"}},
    {"<think>a</think>b", false, {"a", "b"}},
    {"\n<think>\na\n</think>\n\nb\n", false, {"a\n", "b\n"}},
    {"<think></think>b", false, {"", "b"}},
    {"<think> \n </think> b", false, {"", "b"}},
    {"<think>a", false, {"a", ""}},
    {"<think>a</think", false, {"a</think", ""}},
    {"<think>a</thin b</think>c", false, {"a</thin b", "c"}},
    {"<think>a<</think>c", false, {"a<", "c"}},
    {"<thin", false, {"", "<thin"}},
    {"  <thin", false, {"", "  <thin"}},
    {"<thinking>a", false, {"", "<thinking>a"}},
    {"x<think>a</think>b", false, {"", "x<think>a</think>b"}},
    {"a</think>b", false, {"", "a</think>b"}},
    {"<think>a</think>b<think>c</think>d", false, {"a", "b<think>c</think>d"}},
    {"<think>a</think>", false, {"a", ""}},
    {"<think>a</think> \n", false, {"a", ""}},
    {"<think><think>a</think>b", false, {"<think>a", "b"}},
    {"a</think>b", true, {"a", "b"}},
    {"\na</think>\n\nb", true, {"a", "b"}},
    {"</think>b", true, {"", "b"}},
    {"a", true, {"a", ""}},
    {"a</", true, {"a</", ""}},
    {"", true, {"", ""}},
    {"a</think>b</think>c", true, {"a", "b</think>c"}},
    {"<think>é漢😀</think>😀é", false, {"é漢😀", "😀é"}},
};

} // namespace

TEST (Reasoning, tags_anywhere)
{
  for (const Case &c : kCases) {
    EXPECT_EQ (split ({c.text}, c.inside), c.parts) << c.text;
    EXPECT_EQ (whole (c.text, c.inside), c.parts) << c.text;
  }
}

TEST (Reasoning, every_cut_in_three_gives_the_same)
{
  for (const Case &c : kCases) {
    const std::string text = c.text;
    for (size_t i = 0; i <= text.size (); i++) {
      for (size_t j = i; j <= text.size (); j++)
        ASSERT_EQ (split ({text.substr (0, i), text.substr (i, j - i), text.substr (j)}, c.inside), c.parts)
            << text << " cut at " << i << ", " << j;
    }
  }
}

TEST (Reasoning, random_texts_and_cuts)
{
  std::mt19937_64 random (test_seed ());
  const auto below = [&random] (size_t n) { return static_cast<size_t> (random () % n); };
  const std::vector<std::string> words = {"<think>", "</think>", "<", "/", "think>", "</thi", " ",
                                          "\n",      "a",        "é", ">", "<think", "t"};
  const int rounds = test_rounds (20000);
  for (int round = 0; round < rounds; round++) {
    std::string text;
    for (size_t i = below (10); i > 0; i--)
      text += words[below (words.size ())];
    const bool inside = below (2);
    std::vector<std::string> pieces;
    for (size_t at = 0; at < text.size ();) {
      const size_t length = below (4);
      pieces.push_back (text.substr (at, length));
      at += length;
    }
    ASSERT_EQ (split (pieces, inside), whole (text, inside)) << text << (inside ? " (inside)" : "");
  }
}

TEST (Reasoning, what_is_certain_comes_at_once)
{
  ReasoningSplitter splitter (false);
  std::string reasoning, content;
  const auto push = [&] (const char *text) { splitter.push (text, reasoning, content); };
  push ("<think>");
  push ("ab");
  EXPECT_EQ (reasoning, "ab");
  push ("c<");
  EXPECT_EQ (reasoning, "abc");
  push ("d");
  EXPECT_EQ (reasoning, "abc<d");
  push ("</think>");
  push ("\n");
  EXPECT_EQ (content, "");
  push ("x <");
  EXPECT_EQ (content, "x <");
}
