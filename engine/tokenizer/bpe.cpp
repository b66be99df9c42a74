#include "engine/tokenizer/bpe.hpp"

#include "engine/tokenizer/byte_alphabet.hpp"
#include "engine/tokenizer/utf8.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>
#include <limits>

namespace millrace
{

namespace
{

constexpr size_t kShortWord = 48;         // symbols; longer words go through the heap
constexpr size_t kRememberedWord = 64;    // bytes
constexpr size_t kLeastRemembering = 512; // bytes of text
constexpr size_t kMostSlots = 1 << 14;

/// A few ids, by hand: vector::insert () costs more than they do.
void
append (const int32_t *first, size_t count, std::vector<int32_t> &ids)
{
  const size_t before = ids.size ();
  ids.resize (before + count);
  int32_t *out = ids.data () + before;
  for (size_t i = 0; i < count; i++)
    out[i] = first[i];
}

} // namespace

void
MergeTable::reserve (size_t count)
{
  const size_t size = std::bit_ceil (count * 2 + 2);
  slots_.assign (size, Slot{});
  shift_ = 64 - std::countr_zero (size);
  const size_t bits = std::max<size_t> (64, std::bit_ceil (count * 8));
  bits_.assign (bits / 64, 0);
  bit_shift_ = 64 - std::countr_zero (bits);
}

size_t
MergeTable::probe (uint64_t pair) const
{
  const size_t mask = slots_.size () - 1;
  size_t at = hash_of (pair) >> shift_;
  while (slots_[at].pair != pair && slots_[at].pair != UINT64_MAX)
    at = (at + 1) & mask;
  return at;
}

void
MergeTable::insert (int32_t left, int32_t right, Merge merge)
{
  const uint64_t pair = key (left, right), hash = hash_of (pair) >> bit_shift_;
  slots_[probe (pair)] = {pair, merge};
  bits_[hash >> 6] |= uint64_t{1} << (hash & 63);
}

void
Bpe::Scratch::prepare (size_t bytes)
{
  slots.clear ();
  ids.clear ();
  if (bytes >= kLeastRemembering)
    slots.resize (std::min (kMostSlots, std::bit_ceil (bytes / 4)));
}

void
Bpe::Scratch::forget ()
{
  generation++;
  ids.clear ();
}

void
Bpe::encode (std::string_view word, Scratch &scratch, std::vector<int32_t> &ids) const
{
  if (scratch.slots.empty () || word.size () > kRememberedWord) {
    encode_new (word, scratch, ids);
    return;
  }
  const size_t hash = std::hash<std::string_view>{}(word);
  Scratch::Remembered &slot = scratch.slots[hash & (scratch.slots.size () - 1)];
  if (slot.generation == scratch.generation && slot.size == word.size () &&
      std::memcmp (slot.word, word.data (), word.size ()) == 0) {
    append (scratch.ids.data () + slot.first, slot.count, ids);
    return;
  }
  const size_t before = ids.size ();
  encode_new (word, scratch, ids);
  const size_t count = ids.size () - before;
  if (scratch.ids.size () + count > std::numeric_limits<uint32_t>::max ())
    return;
  slot = {word.data (), static_cast<uint32_t> (word.size ()), static_cast<uint32_t> (scratch.ids.size ()),
          static_cast<uint32_t> (count), scratch.generation};
  append (ids.data () + before, count, scratch.ids);
}

void
Bpe::encode_new (std::string_view word, Scratch &scratch, std::vector<int32_t> &ids) const
{
  if (ignore_merges) {
    int32_t whole = kNoToken;
    if (byte_level) {
      const int32_t number = words.find (word_bytes, word);
      whole = number == kNoToken ? kNoToken : word_ids[number];
    } else {
      whole = vocabulary->model_id (word);
    }
    if (whole != kNoToken) {
      ids.push_back (whole);
      return;
    }
  }
  std::vector<int32_t> &symbols = scratch.symbols;
  if (has_affixes ())
    affixed_symbols_of (word, symbols);
  else
    symbols_of (word, symbols);
  if (symbols.size () > kShortWord)
    merge_long (scratch);
  else if (symbols.size () > 1)
    merge_short (symbols);
  if (merges_characters)
    append_merged (symbols, ids);
  else
    append (symbols.data (), symbols.size (), ids);
}

/// Appends what stands for a character that is no token; returns whether that is the unknown token.
bool
Bpe::append_unknown (std::string_view character, bool after_unknown, std::vector<int32_t> &ids) const
{
  if (fallback.append (character, ids))
    return false;
  if (unknown != kNoToken && !(fuse_unknown && after_unknown))
    ids.push_back (unknown);
  return true;
}

/// Appends tokens as they are, and characters that are none as what stands for them.
void
Bpe::append_merged (const std::vector<int32_t> &symbols, std::vector<int32_t> &ids) const
{
  bool after_unknown = false;
  std::string character;
  for (const int32_t symbol : symbols) {
    if (symbol >= 0) {
      ids.push_back (symbol);
      after_unknown = false;
      continue;
    }
    character.clear ();
    utf8::append (static_cast<char32_t> (kNoToken - 1 - symbol), character);
    after_unknown = append_unknown (character, after_unknown, ids);
  }
}

void
Bpe::symbols_of (std::string_view word, std::vector<int32_t> &symbols) const
{
  symbols.clear ();
  bool after_unknown = false;
  for (size_t at = 0; at < word.size ();) {
    const auto byte = static_cast<unsigned char> (word[at]);
    const int size = byte_level ? 1 : utf8::sequence_size (byte);
    const int32_t id = byte_level ? byte_ids[byte] : vocabulary->model_id (word.substr (at, size));
    if (id != kNoToken || merges_characters) {
      symbols.push_back (id != kNoToken ? id : symbol_of (utf8::decode (word, at).code_point));
      after_unknown = false;
    } else {
      after_unknown = append_unknown (word.substr (at, size), after_unknown, symbols);
    }
    at += size;
  }
}

void
Bpe::affixed_symbols_of (std::string_view word, std::vector<int32_t> &symbols) const
{
  symbols.clear ();
  bool after_unknown = false;
  std::string symbol;
  for (size_t at = 0; at < word.size ();) {
    const auto byte = static_cast<unsigned char> (word[at]);
    const int size = byte_level ? 1 : utf8::sequence_size (byte);
    symbol = at > 0 ? continuing_prefix : std::string ();
    if (byte_level)
      utf8::append (kByteAlphabet.character[byte], symbol);
    else
      symbol += word.substr (at, size);
    at += size;
    if (at >= word.size ())
      symbol += end_suffix;
    const int32_t id = vocabulary->model_id (symbol);
    if (id != kNoToken)
      symbols.push_back (id);
    after_unknown = id == kNoToken && append_unknown (symbol, after_unknown, symbols);
  }
}

void
Bpe::merge_short (std::vector<int32_t> &symbols) const
{
  std::array<MergeTable::Merge, kShortWord> pairs; // pairs[i]: of symbols i and i + 1
  size_t count = symbols.size ();
  size_t best = 0;
  for (size_t i = 0; i + 1 < count; i++) {
    pairs[i] = merges.find (symbols[i], symbols[i + 1]);
    if (pairs[i].rank < pairs[best].rank)
      best = i;
  }
  while (pairs[best].rank != MergeTable::kNoRank) {
    symbols[best] = pairs[best].merged;
    count--;
    for (size_t i = best + 1; i < count; i++) {
      symbols[i] = symbols[i + 1];
      pairs[i] = pairs[i + 1];
    }
    if (count == 1)
      break;
    if (best > 0)
      pairs[best - 1] = merges.find (symbols[best - 1], symbols[best]);
    if (best + 1 < count)
      pairs[best] = merges.find (symbols[best], symbols[best + 1]);
    best = 0;
    for (size_t i = 1; i + 1 < count; i++)
      if (pairs[i].rank < pairs[best].rank)
        best = i;
  }
  symbols.resize (count);
}

void
Bpe::merge_long (Scratch &scratch) const
{
  // The heap's entries are (rank, position): the lowest rank first, the leftmost of equals. An entry is
  // stale when its position was merged away or the pair there has another rank by now.
  std::vector<int32_t> &symbols = scratch.symbols;
  std::vector<int32_t> &next = scratch.next;
  std::vector<int32_t> &previous = scratch.previous;
  std::vector<uint64_t> &heap = scratch.heap;
  const auto count = static_cast<int32_t> (symbols.size ());
  next.resize (count);
  previous.resize (count);
  heap.clear ();

  const auto entry = [] (uint32_t rank, int32_t at) {
    return static_cast<uint64_t> (rank) << 32 | static_cast<uint32_t> (at);
  };
  for (int32_t i = 0; i < count; i++) {
    next[i] = i + 1 < count ? i + 1 : -1;
    previous[i] = i - 1;
    if (i + 1 < count) {
      const auto merge = merges.find (symbols[i], symbols[i + 1]);
      if (merge.rank != MergeTable::kNoRank)
        heap.push_back (entry (merge.rank, i));
    }
  }
  std::make_heap (heap.begin (), heap.end (), std::greater<> ());
  scratch.work_ += symbols.size ();

  const auto push = [&] (int32_t at) {
    scratch.work_++;
    const auto merge = merges.find (symbols[at], symbols[next[at]]);
    if (merge.rank == MergeTable::kNoRank)
      return;
    heap.push_back (entry (merge.rank, at));
    std::push_heap (heap.begin (), heap.end (), std::greater<> ());
  };
  while (!heap.empty ()) {
    scratch.work_++;
    std::pop_heap (heap.begin (), heap.end (), std::greater<> ());
    const uint64_t top = heap.back ();
    heap.pop_back ();
    const auto at = static_cast<int32_t> (top & UINT32_MAX);
    const int32_t right = next[at];
    if (symbols[at] == kNoToken || right < 0)
      continue;
    const auto merge = merges.find (symbols[at], symbols[right]);
    if (merge.rank != top >> 32)
      continue;

    symbols[at] = merge.merged;
    symbols[right] = kNoToken;
    next[at] = next[right];
    if (next[at] >= 0) {
      previous[next[at]] = at;
      push (at);
    }
    if (previous[at] >= 0)
      push (previous[at]);
  }
  std::erase (symbols, kNoToken);
}

} // namespace millrace
