// Byte strings with numbers, found by walking a text byte by byte.
//
// One hash table of edges (node, byte) → node, filled to at most a half: building and walking are linear whatever the
// strings are. Immutable once built; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace millrace
{

class ByteTrie
{
public:
  static constexpr uint32_t kRoot = 0;
  static constexpr uint32_t kNowhere = UINT32_MAX;
  static constexpr int32_t kNoNumber = -1;
  struct Match {
    size_t size = 0;
    int32_t number = kNoNumber; ///< kNoNumber: nothing matched
  };

  ByteTrie ();
  /// Room for strings of `bytes` bytes altogether; more may come.
  void reserve (size_t bytes);
  /// The number that an equal string has already, or kNoNumber after storing `number` (≥ 0).
  int32_t insert (std::string_view text, int32_t number);

  bool empty () const { return numbers_.size () == 1 && numbers_[kRoot] == kNoNumber; }
  /// The node after `byte`, or kNowhere.
  uint32_t step (uint32_t node, unsigned char byte) const
  {
    const uint64_t key = static_cast<uint64_t> (node) << 8 | byte;
    for (size_t at = place (key);; at = (at + 1) & (slots_.size () - 1)) {
      if (slots_[at].key == key)
        return slots_[at].node;
      if (slots_[at].key == kFree)
        return kNowhere;
    }
  }
  /// The number of the string that ends at `node`, or kNoNumber.
  int32_t number (uint32_t node) const { return numbers_[node]; }
  /// The longest string that `text` has at `at`.
  Match longest (std::string_view text, size_t at = 0) const;

private:
  static constexpr uint64_t kFree = UINT64_MAX;
  struct Slot {
    uint64_t key = kFree;
    uint32_t node = kNowhere;
  };
  size_t place (uint64_t key) const { return (key * 0x9E3779B97F4A7C15) >> shift_; }
  void resize (size_t count);
  uint32_t add_step (uint32_t node, unsigned char byte);

  std::vector<Slot> slots_;
  std::vector<int32_t> numbers_; ///< by node
  int shift_ = 63;
};

} // namespace millrace
