#include "engine/tokenizer/byte_trie.hpp"

#include <bit>
#include <utility>

namespace millrace
{

ByteTrie::ByteTrie ()
{
  numbers_.push_back (kNoNumber);
  resize (2);
}

void
ByteTrie::resize (size_t count)
{
  std::vector<Slot> old = std::exchange (slots_, std::vector<Slot> (count));
  shift_ = 64 - std::countr_zero (count);
  for (const Slot &slot : old) {
    if (slot.key == kFree)
      continue;
    size_t at = place (slot.key);
    while (slots_[at].key != kFree)
      at = (at + 1) & (count - 1);
    slots_[at] = slot;
  }
}

void
ByteTrie::reserve (size_t bytes)
{
  const size_t count = std::bit_ceil (bytes + 2);
  if (count > slots_.size ())
    resize (count);
}

uint32_t
ByteTrie::add_step (uint32_t node, unsigned char byte)
{
  const uint32_t found = step (node, byte);
  if (found != kNowhere)
    return found;
  if (numbers_.size () * 2 > slots_.size ())
    resize (slots_.size () * 2);
  const auto added = static_cast<uint32_t> (numbers_.size ());
  numbers_.push_back (kNoNumber);
  const uint64_t key = static_cast<uint64_t> (node) << 8 | byte;
  size_t at = place (key);
  while (slots_[at].key != kFree)
    at = (at + 1) & (slots_.size () - 1);
  slots_[at] = {key, added};
  return added;
}

int32_t
ByteTrie::insert (std::string_view text, int32_t number)
{
  uint32_t node = kRoot;
  for (const char byte : text)
    node = add_step (node, static_cast<unsigned char> (byte));
  if (numbers_[node] != kNoNumber)
    return numbers_[node];
  numbers_[node] = number;
  return kNoNumber;
}

ByteTrie::Match
ByteTrie::longest (std::string_view text, size_t at) const
{
  Match match;
  uint32_t node = kRoot;
  for (size_t end = at;; end++) {
    if (numbers_[node] != kNoNumber)
      match = {end - at, numbers_[node]};
    if (end == text.size ())
      return match;
    node = step (node, static_cast<unsigned char> (text[end]));
    if (node == kNowhere)
      return match;
  }
}

} // namespace millrace
