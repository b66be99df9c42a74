#include "engine/tokenizer/vocabulary.hpp"

#include <bit>
#include <functional>

namespace millrace
{

namespace
{

uint32_t
hash_of (std::string_view text)
{
  return static_cast<uint32_t> (std::hash<std::string_view>{}(text));
}

} // namespace

void
StringIndex::reserve (size_t count)
{
  slots_.assign (std::bit_ceil (count * 2 + 2), Slot{});
}

size_t
StringIndex::probe (const StringTable &table, std::string_view text, uint32_t hash) const
{
  const size_t mask = slots_.size () - 1;
  size_t at = hash & mask;
  while (slots_[at].number != kNoToken && (slots_[at].hash != hash || table[slots_[at].number] != text))
    at = (at + 1) & mask;
  return at;
}

int32_t
StringIndex::insert (const StringTable &table, int32_t number)
{
  const std::string_view text = table[number];
  const uint32_t hash = hash_of (text);
  Slot &slot = slots_[probe (table, text, hash)];
  if (slot.number != kNoToken)
    return slot.number;
  slot = {hash, number};
  return kNoToken;
}

int32_t
StringIndex::find (const StringTable &table, std::string_view text) const
{
  if (slots_.empty ())
    return kNoToken;
  return slots_[probe (table, text, hash_of (text))].number;
}

} // namespace millrace
