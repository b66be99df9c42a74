// labels: unit property
// What a reader of subtitles sees.

#include "engine/scheduling/markup.hpp"
#include "tests/seed.hpp"

#include <gtest/gtest.h>

#include <random>

using millrace::text_of_markup;

TEST (Markup, TagsGoAndReferencesAreResolved)
{
  const struct {
    const char *markup, *text;
  } cases[] = {
      {"plain", "plain"},
      {"", ""},
      {"<i>Come</i> in", "Come in"},
      {"<span foreground=\"#ff0000\" size='large'>red</span>", "red"},
      {"<a title=\"1 > 0\">x</a>", "x"},
      {"a &lt; b &amp;&amp; c &gt; d", "a < b && c > d"},
      {"&quot;&apos;", "\"'"},
      {"&#65;&#x42;&#X263a;&#233;&#x1F600;", "AB\xe2\x98\xba\xc3\xa9\xf0\x9f\x98\x80"},
      // What is no markup stays.
      {"3 < 4", "3 < 4"},
      {"<", "<"},
      {"</", "</"},
      {"<i", "<i"},
      {"<3 <i>", "<3 "},
      {"a<b<c>d", "a<bd"},
      {"<a title=\"never closed>x", "<a title=\"never closed>x"},
      {"&", "&"},
      {"&;", "&;"},
      {"&nbsp;", "&nbsp;"},
      {"&amp", "&amp"},
      {"&#0;&#xd800;&#x110000;&#;&#x;&#1a;&#-5;", "&#0;&#xd800;&#x110000;&#;&#x;&#1a;&#-5;"},
  };
  for (const auto &[markup, text] : cases)
    EXPECT_EQ (text_of_markup (markup), text) << markup;
}

TEST (Markup, AnyBytesAreTakenAndNeverGrow)
{
  std::mt19937_64 random (test_seed ());
  const std::string alphabet = std::string ("<>/&;#x19abip\"' \xc3\xa9", 18) + '\0';
  for (int round = 0; round < 20000; round++) {
    std::string markup;
    for (size_t n = random () % 40; n > 0; n--)
      markup += alphabet[random () % alphabet.size ()];
    EXPECT_LE (text_of_markup (markup).size (), markup.size ()) << markup;
  }
  // Would take minutes if each beginning of a tag were followed to the end of the text.
  std::string beginnings;
  for (int i = 0; i < 2'000'000; i++)
    beginnings += "<i ";
  EXPECT_EQ (text_of_markup (beginnings), beginnings);
}
