// Token contents by id and ids by content.
//
// Built once by the loader, then immutable and free for any thread. Contents lie in one arena in id order;
// the index maps a string_view to an id without copying or allocating.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace millrace
{

constexpr int32_t kNoToken = -1;
constexpr int32_t kMaxTokenId = 1 << 24;

/// Strings numbered 0 … size () - 1 in one block of memory.
class StringTable
{
public:
  void append (std::string_view text)
  {
    arena_ += text;
    ends_.push_back (arena_.size ());
  }
  std::string_view operator[] (size_t i) const
  {
    const size_t begin = i ? ends_[i - 1] : 0;
    return std::string_view (arena_).substr (begin, ends_[i] - begin);
  }
  size_t size () const { return ends_.size (); }
  const std::string &bytes () const { return arena_; } ///< all strings, one after the other
  void reserve (size_t count, size_t bytes)
  {
    ends_.reserve (count);
    arena_.reserve (bytes);
  }

private:
  std::string arena_;
  std::vector<size_t> ends_;
};

/// Hash index from strings of a table to their numbers; open addressing, filled to at most a half.
class StringIndex
{
public:
  void reserve (size_t count);
  /// The number already stored for an equal string, or kNoToken after inserting `number`.
  int32_t insert (const StringTable &table, int32_t number);
  int32_t find (const StringTable &table, std::string_view text) const;

private:
  struct Slot {
    uint32_t hash;
    int32_t number = kNoToken;
  };
  size_t probe (const StringTable &table, std::string_view text, uint32_t hash) const;

  std::vector<Slot> slots_;
};

struct Vocabulary {
  enum Flag : uint8_t {
    kPresent = 1, ///< the id is in use
    kModel = 2,   ///< in the model's vocab (BPE produces it); added tokens may be in it as well
  };

  StringTable contents; ///< by id, as written in the file; empty for holes
  StringIndex index;
  std::vector<uint8_t> flags;

  int size () const { return static_cast<int> (flags.size ()); }
  /// Id of a token of the model's vocab, or kNoToken.
  int32_t model_id (std::string_view content) const
  {
    const int32_t id = index.find (contents, content);
    return id != kNoToken && (flags[id] & kModel) ? id : kNoToken;
  }
};

} // namespace millrace
