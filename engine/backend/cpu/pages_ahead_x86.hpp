// Memory that is read from front to back, asked for four pages at a time.
//
// Intel's hardware reads on within a page of 4 KiB, each page by itself, and starts anew where one ends: two threads that read on
// get three quarters of what they get when each reads several pages by turns (docs/performance.md). So what will be read next
// is asked for by turns, a line of each page of a window; it is still read in its order. Asking changes no result, and what
// lies behind the end of a stretch may be asked for. Everything is static, as code compiled for
// one instruction set must not leave its file.
#pragma once

#include <cstddef>
#include <cstdint>

namespace millrace::cpu
{

constexpr uintptr_t kPageBytes = 4096, kPagesAtOnce = 4, kLineBytes = 64;
constexpr uintptr_t kWindowBytes = kPageBytes * kPagesAtOnce; ///< they begin at multiples of it

/// The line of the same window whose turn it is when `line` would be: each of a window's once.
static inline const char *
line_by_turns (const char *line)
{
  const auto at = reinterpret_cast<uintptr_t> (line);
  const uintptr_t of_window = at % kWindowBytes / kLineBytes;
  return reinterpret_cast<const char *> (at / kWindowBytes * kWindowBytes +
                                         of_window % kPagesAtOnce * kPageBytes +
                                         of_window / kPagesAtOnce * kLineBytes);
}

/// When bytes [data, data + bytes) are read: calls ask (line) for as many of the next window, each line once.
template <typename Ask>
static inline void
for_next_window (const char *data, size_t bytes, Ask &&ask)
{
  constexpr uintptr_t kTurn = kLineBytes * kPagesAtOnce;
  const auto begin = reinterpret_cast<uintptr_t> (data), end = begin + bytes;
  for (uintptr_t at = (begin + kTurn - 1) / kTurn * kTurn; at < end; at += kTurn) {
    const char *line = line_by_turns (reinterpret_cast<const char *> (at + kWindowBytes));
#pragma GCC unroll 4
    for (uintptr_t page = 0; page < kPagesAtOnce; ++page)
      ask (line + page * kPageBytes);
  }
}

#if defined(__x86_64__) || defined(__i386__)

// To the compiler _mm_prefetch () has no effect, so that it leaves out calls of functions that do nothing else.
static inline void
ask_for (const char *line)
{
  __asm__ volatile("prefetcht0 %0" : : "m"(*line));
}

static inline void
ask_for_next_window (const char *data, size_t bytes)
{
  for_next_window (data, bytes, ask_for);
}

#endif

} // namespace millrace::cpu
