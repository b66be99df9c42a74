#include "engine/drafting/ngram_table.hpp"

#include <algorithm>

namespace millrace
{

namespace
{

constexpr int kMaxProbes = 64;
constexpr size_t kLeastEntries = 512;

bool
weaker (const NgramTable::Entry &a, const NgramTable::Entry &b)
{
  return a.count != b.count ? a.count < b.count : a.next < b.next;
}

size_t
room_for (size_t entries)
{
  return std::max (kLeastEntries, entries + entries / 3 + 1);
}

} // namespace

void
NgramTable::clear (size_t expected)
{
  if (entries_.size () > room_for (expected)) {
    entries_.clear ();
    entries_.resize (room_for (expected));
    entries_.shrink_to_fit ();
  } else {
    std::ranges::fill (entries_, Entry{});
  }
  used_ = 0;
}

size_t
NgramTable::home (const TokenId *context) const
{
  uint64_t hash = 0;
  for (int i = 0; i < context_tokens_; ++i)
    hash = (hash + static_cast<uint32_t> (context[i]) + 1) * 0x9E3779B97F4A7C15u;
  hash = (hash ^ (hash >> 32)) * 0xD6E8FEB86659FD93u;
  return static_cast<size_t> (((hash >> 32) * entries_.size ()) >> 32);
}

bool
NgramTable::is_of (std::span<const TokenId> history, const Entry &entry, const TokenId *context) const
{
  const TokenId *const there = history.data () + entry.next - context_tokens_;
  return std::equal (there, there + context_tokens_, context);
}

/// An entry whose context and continuation the table does not have.
void
NgramTable::place (std::span<const TokenId> history, const Entry &entry)
{
  size_t at = home (history.data () + entry.next - context_tokens_), weakest = at;
  for (int probe = 0; probe < kMaxProbes; ++probe, at = after (at)) {
    if (entries_[at].next == 0) {
      entries_[at] = entry;
      ++used_;
      return;
    }
    if (weaker (entries_[at], entries_[weakest]))
      weakest = at;
  }
  entries_[weakest] = entry;
}

void
NgramTable::resize (std::span<const TokenId> history, size_t entries)
{
  std::vector<Entry> old (entries);
  old.swap (entries_);
  used_ = 0;
  for (const Entry &entry : old) {
    if (entry.next != 0)
      place (history, entry);
  }
}

void
NgramTable::reserve (std::span<const TokenId> history, size_t more)
{
  if (const size_t wanted = room_for (used_ + more); wanted > entries_.size ())
    resize (history, std::max (wanted, entries_.size () + entries_.size () / 4));
}

void
NgramTable::insert (std::span<const TokenId> history, uint32_t next)
{
  if ((used_ + 1) * 4 > entries_.size () * 3)
    resize (history, std::max (kLeastEntries, entries_.size () + entries_.size () / 4));
  const TokenId *const context = history.data () + next - context_tokens_;
  const TokenId token = history[next];
  size_t at = home (context), weakest = at, weakest_of_context = 0;
  int of_context = 0;
  for (int probe = 0; probe < kMaxProbes; ++probe, at = after (at)) {
    ++work_;
    Entry &entry = entries_[at];
    if (entry.next == 0) {
      entry = {next, 1, 0, 0};
      ++used_;
      return;
    }
    if (weaker (entry, entries_[weakest]))
      weakest = at;
    if (!is_of (history, entry, context))
      continue;
    if (history[entry.next] == token) {
      entry.next = next;
      entry.count += entry.count < UINT16_MAX;
      return;
    }
    if (of_context++ == 0 || weaker (entry, entries_[weakest_of_context]))
      weakest_of_context = at;
    if (of_context == kContinuations) {
      weakest = weakest_of_context;
      break;
    }
  }
  // Crowded, by the context itself or by others. What comes now is likelier to come again.
  entries_[weakest] = {next, 1, 0, 0};
}

NgramTable::Continuations
NgramTable::find (std::span<const TokenId> history, std::span<const TokenId> context) const
{
  Continuations found;
  if (used_ == 0)
    return found;
  size_t at = home (context.data ());
  for (int probe = 0; probe < kMaxProbes && found.count < kContinuations; ++probe, at = after (at)) {
    ++work_;
    const Entry &entry = entries_[at];
    if (entry.next == 0)
      break;
    if (!is_of (history, entry, context.data ()))
      continue;
    found.items[static_cast<size_t> (found.count++)] = entry;
    found.total += entry.count;
  }
  return found;
}

void
NgramTable::learn (std::span<const TokenId> history, std::span<const TokenId> context, TokenId guess,
                   bool right)
{
  if (used_ == 0)
    return;
  size_t at = home (context.data ());
  for (int probe = 0; probe < kMaxProbes; ++probe, at = after (at)) {
    ++work_;
    Entry &entry = entries_[at];
    if (entry.next == 0)
      return;
    if (!is_of (history, entry, context.data ()) || history[entry.next] != guess)
      continue;
    uint8_t &counter = right ? entry.accepted : entry.rejected;
    if (++counter == UINT8_MAX) {
      entry.accepted /= 2;
      entry.rejected /= 2;
    }
    return;
  }
}

} // namespace millrace
