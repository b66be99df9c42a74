// Keys and values that attention for AVX2 and AVX-512 will read, asked for in the order in which it reads them. Included
// through attention_x86.hpp only; everything is internal to its file.
//
// One tile of queries reads chunk after chunk: keys, then values; of these some blocks together (keys of several blocks are
// multiplied at once), and of such a group head after head. No hardware knows where the next head's rows are when pages of
// memory end between them, and none goes on while scores become weights: what is asked for then keeps memory at work, and
// the lead is used up while the rest is read.
#pragma once

#include "engine/backend/cpu/attention_rows_x86.hpp"
#include "engine/backend/cpu/pages_ahead_x86.hpp"

namespace millrace::cpu
{

namespace
{

constexpr int kLine = 64;                      ///< bytes of a cache line
constexpr int kLeadLines = 512;                ///< that are asked for before they are read
constexpr int kMostLeadLines = 4 * kLeadLines; ///< a part of the second-level cache
constexpr int kSoftenLines = 64; ///< that memory gives while scores of a query and a chunk become weights

/// Asks for nothing.
struct NotAhead {
  void fetch () {}
};

// Keys and values of a block, asked for a few lines at a time.
struct BlocksAhead {
  const char *data[2];
  int count = 0;
  size_t at = 0, bytes = 0, step = 0;

  void add (const char *block)
  {
    if (block)
      data[count++] = block;
  }
  /// Spreads `size` bytes of each over `steps` steps.
  void spread (size_t size, int steps)
  {
    at = 0;
    bytes = count > 0 ? size : 0;
    step = (size / static_cast<size_t> ((steps > 1 ? steps : 1)) + kLine - 1) / kLine * kLine;
  }
  void fetch ()
  {
    const size_t end = at + step < bytes ? at + step : bytes;
    for (; at < end; at += kLine) {
      for (int i = 0; i < count; ++i)
        _mm_prefetch (data[i] + at, _MM_HINT_T1);
    }
  }
};

/// What one tile reads.
class ReadAhead
{
public:
  explicit ReadAhead (const AttentionArgs &args)
      : args_ (args)
  {
  }

  /// Positions [begin, end) will be read, the keys of `blocks` blocks at once.
  void start (int begin, int end, int blocks)
  {
    first_ = begin / kKvTokens * kKvTokens;
    end_ = end;
    most_blocks_ = blocks;
    position_ = first_;
    by_turns_ =
        args_.is_intel && static_cast<size_t> (args_.heads) * args_.key_bytes == args_.key_block_bytes;
    keys_ = true;
    head_ = block_ = lead_ = 0;
    begin_group ();
    find ();
  }

  /// `bytes` are read now, in `steps` steps, before each of which fetch () is called.
  void read (size_t bytes, int steps)
  {
    const int lines = static_cast<int> (bytes / kLine);
    budget_ = lead_ < kLeadLines ? 2 * lines : lead_ > kLeadLines + lines ? lines / 4 * 3 : lines;
    step_ = steps > 1 ? (budget_ + steps - 1) / steps : budget_;
    lead_ += budget_ - lines;
  }

  void fetch ()
  {
    const int lines = step_ < budget_ ? step_ : budget_;
    budget_ -= lines;
    ask (lines);
  }

  /// While nothing is read. Narrow heads with many queries would get further and further ahead.
  void fetch_more (int lines)
  {
    if (lead_ + lines > kMostLeadLines)
      return;
    lead_ += lines;
    ask (lines);
  }

private:
  void ask (int lines)
  {
    while (lines > 0 && lines_ > 0) {
      const int now = lines < lines_ ? lines : lines_;
      for (int i = 0; i < now; ++i) {
        const char *line = data_ + i * kLine;
        _mm_prefetch (by_turns_ ? line_by_turns (line) : line, _MM_HINT_T1);
      }
      data_ += now * kLine;
      lines -= now;
      lines_ -= now;
      if (lines_ == 0)
        next ();
    }
  }

  void next ()
  {
    if (++block_ == blocks_) {
      block_ = 0;
      if (++head_ == args_.heads) {
        head_ = 0;
        position_ += blocks_ * kKvTokens;
        if (position_ >= chunk_end ()) {
          if (!keys_ && position_ >= end_)
            return;
          if (keys_)
            position_ = first_ > chunk_ ? first_ : chunk_;
          keys_ = !keys_;
        }
        begin_group ();
      }
    }
    find ();
  }

  void begin_group ()
  {
    if (keys_)
      chunk_ = position_ / kAttentionChunk * kAttentionChunk;
    const bool is_whole = position_ + (most_blocks_ - 1) * kKvTokens < chunk_end ();
    blocks_ = keys_ && is_whole ? most_blocks_ : 1;
  }

  void find ()
  {
    const int position = position_ + block_ * kKvTokens;
    data_ = keys_ ? keys_of (args_, position, head_) : values_of (args_, position, head_);
    lines_ = static_cast<int> ((keys_ ? args_.key_bytes : args_.value_bytes) / kLine);
  }

  int chunk_end () const { return chunk_ + kAttentionChunk < end_ ? chunk_ + kAttentionChunk : end_; }

  const AttentionArgs &args_;
  int first_ = 0, end_ = 0, most_blocks_ = 1;
  int chunk_ = 0, position_ = 0; ///< of a group of blocks
  int blocks_ = 1, block_ = 0, head_ = 0;
  bool keys_ = true;
  bool by_turns_ = false; ///< all of a window is read, as there are all heads
  const char *data_ = nullptr;
  int lines_ = 0; ///< left of a block and head
  int lead_ = 0;  ///< lines that were asked for and have not been read
  int budget_ = 0, step_ = 0;
};

} // namespace

} // namespace millrace::cpu
