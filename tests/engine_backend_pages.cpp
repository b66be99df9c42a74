// labels: unit
//
// Asking for memory ahead, several pages by turns: whatever parts it is read in, each line is asked for once, before it is read.
#include "engine/backend/cpu/pages_ahead_x86.hpp"

#include <gtest/gtest.h>

#include <map>
#include <set>

using namespace millrace::cpu;

namespace
{

const char *
at (uintptr_t address)
{
  return reinterpret_cast<const char *> (address);
}

uintptr_t
page_of (const char *line)
{
  return reinterpret_cast<uintptr_t> (line) / kPageBytes;
}

constexpr uintptr_t kStart = 5 * kWindowBytes;

TEST (PagesAhead, turns_meet_each_line_of_a_window_once)
{
  std::set<const char *> lines;
  for (uintptr_t line = 0; line < kWindowBytes; line += kLineBytes) {
    const char *turn = line_by_turns (at (kStart + line));
    EXPECT_GE (turn, at (kStart));
    EXPECT_LT (turn, at (kStart + kWindowBytes));
    EXPECT_EQ (reinterpret_cast<uintptr_t> (turn) % kLineBytes, 0u);
    lines.insert (turn);
  }
  EXPECT_EQ (lines.size (), kWindowBytes / kLineBytes);
}

TEST (PagesAhead, neighbours_in_turn_are_of_different_pages)
{
  for (uintptr_t first = 0; first < kWindowBytes; first += kPagesAtOnce * kLineBytes) {
    std::set<uintptr_t> pages;
    for (uintptr_t i = 0; i < kPagesAtOnce; ++i)
      pages.insert (page_of (line_by_turns (at (kStart + first + i * kLineBytes))));
    EXPECT_EQ (pages.size (), kPagesAtOnce);
  }
}

// Parts of a block are no multiples of lines, as kernels read them.
TEST (PagesAhead, each_line_is_asked_for_once_and_before_it_is_read)
{
  for (const size_t part : {64, 144, 272, 288, 2112, 100000}) {
    std::map<const char *, int> asked;
    const uintptr_t end = kStart + 4 * kWindowBytes;
    for (uintptr_t begin = kStart; begin < end; begin += part) {
      const size_t bytes = begin + part < end ? part : end - begin;
      // What is read from the second window on has been asked for.
      if (part < kPageBytes && begin >= kStart + kWindowBytes) {
        for (uintptr_t line = begin / kLineBytes * kLineBytes; line < begin + bytes; line += kLineBytes)
          EXPECT_TRUE (asked.count (at (line))) << part << " bytes at once, line " << line;
      }
      for_next_window (at (begin), bytes, [&] (const char *line) { ++asked[line]; });
    }
    EXPECT_EQ (asked.size (), 4 * kWindowBytes / kLineBytes) << part;
    for (const auto &[line, count] : asked) {
      EXPECT_EQ (count, 1) << part;
      EXPECT_GE (line, at (kStart + kWindowBytes)) << part;
      EXPECT_LT (line, at (end + kWindowBytes)) << part;
    }
  }
}

} // namespace
