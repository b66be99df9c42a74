// labels: unit
//
// What is known of a file that has come in part, and when it is asked for again.
#include "engine/hub/part_ranges.hpp"
#include "engine/hub/retry.hpp"
#include "tests/seed.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

using namespace millrace;

namespace
{

using Ranges = std::vector<ByteRange>;

TEST (PartRanges, what_is_missing_is_what_was_not_added)
{
  std::mt19937 random (test_seed ());
  for (int round = 0; round < 200; ++round) {
    const uint64_t size = 1 + random () % 60;
    PartRanges ranges (size, "none");
    std::vector<bool> there (size);
    for (int i = 0; i < 12; ++i) {
      const uint64_t begin = random () % size, end = begin + random () % (size - begin + 1);
      ranges.add ({begin, end});
      std::fill (there.begin () + static_cast<ptrdiff_t> (begin),
                 there.begin () + static_cast<ptrdiff_t> (end), true);
      std::vector<bool> missing (size);
      const uint64_t most = 1 + random () % 20;
      for (const ByteRange &range : ranges.missing (most)) {
        EXPECT_LE (range.bytes (), most);
        for (uint64_t at = range.begin; at < range.end; ++at)
          missing[at] = true;
      }
      for (uint64_t at = 0; at < size; ++at)
        ASSERT_NE (there[at], missing[at]) << "byte " << at << " of " << size;
      EXPECT_EQ (ranges.bytes (), static_cast<uint64_t> (std::count (there.begin (), there.end (), true)));
      const auto again = PartRanges::parse (ranges.text (), size, "none");
      ASSERT_TRUE (again);
      EXPECT_EQ (again->missing (most), ranges.missing (most));
    }
  }
}

TEST (PartRanges, an_empty_file_is_complete)
{
  const PartRanges ranges (0, "none");
  EXPECT_TRUE (ranges.is_complete ());
  EXPECT_EQ (ranges.missing (10), Ranges{});
}

TEST (PartRanges, text_that_is_not_exactly_so_is_none)
{
  PartRanges ranges (100, "sha256:ab");
  ranges.tag = "\"tag\"";
  ranges.add ({0, 10});
  ranges.add ({50, 100});
  const std::string text = ranges.text ();
  const auto parsed = PartRanges::parse (text, 100, "sha256:ab");
  ASSERT_TRUE (parsed);
  EXPECT_EQ (parsed->tag, "\"tag\"");
  EXPECT_EQ (parsed->missing (1000), (Ranges{{10, 50}}));

  EXPECT_FALSE (PartRanges::parse (text, 101, "sha256:ab"));
  EXPECT_FALSE (PartRanges::parse (text, 100, "sha256:ac"));
  for (const char *more : {"have 1\n", "have 5 5\n", "have 7 5\n", "have 0 101\n", "have -1 5\n",
                           "have 0 5 \n", "have 0 99999999999999999999\n", "what\n", "have 0 5"})
    EXPECT_FALSE (PartRanges::parse (text + more, 100, "sha256:ab")) << more;
  for (size_t length = 0; length < text.size (); ++length) { // a line that is cut off is none
    if (PartRanges::parse (text.substr (0, length), 100, "sha256:ab")) {
      EXPECT_EQ (text[length - 1], '\n') << length;
    }
  }
}

TEST (Retry, delays_double_and_are_spread)
{
  const RetryPolicy policy{.attempts = 8, .first_delay_s = 1, .most_delay_s = 20};
  for (int failed = 0; failed < 7; ++failed) {
    const double full = std::min (20.0, static_cast<double> (1 << failed));
    EXPECT_EQ (retry_delay_s (policy, failed, 0, {}), full / 2);
    EXPECT_NEAR (*retry_delay_s (policy, failed, 0.999, {}), full, full / 500);
  }
  EXPECT_EQ (retry_delay_s (policy, 7, 0, {}), std::nullopt);
}

TEST (Retry, keeps_what_a_server_asks_for)
{
  const RetryPolicy policy;
  EXPECT_EQ (retry_delay_s (policy, 0, 0, 30.0), 30.0);
  EXPECT_EQ (retry_delay_s (policy, 4, 0, 3.0), 8.0);
  EXPECT_EQ (retry_delay_s (policy, 0, 0, 601.0), std::nullopt);
  for (const unsigned status : {408u, 429u, 500u, 502u, 503u, 504u, 524u})
    EXPECT_TRUE (is_passing_status (status)) << status;
  for (const unsigned status : {400u, 401u, 403u, 404u, 410u, 501u})
    EXPECT_FALSE (is_passing_status (status)) << status;
}

} // namespace
