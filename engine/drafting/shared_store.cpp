#include "engine/drafting/shared_store.hpp"

#include <algorithm>

namespace millrace
{

namespace
{

constexpr size_t kLargestShare = 4; ///< a text has at most this part of the store
constexpr size_t kSpared = 4;
constexpr double kStoreDoubt = 2 * kDoubt; ///< others talk of other things

} // namespace

SharedStore::SharedStore (size_t tokens)
    : index_ (std::max<size_t> (tokens, 1))
{
}

void
SharedStore::make_room (size_t wanted)
{
  size_t may_move = wanted * kSpared;
  while (index_.size () + wanted > index_.capacity ()) {
    const Text oldest = texts_.front ();
    texts_.pop_front ();
    const bool spared = oldest.used && may_move >= oldest.count;
    // Forgotten first: where it moves to may be where it is, and each token is read before it is written.
    index_.forget (oldest.count);
    if (!spared)
      continue;
    may_move -= oldest.count;
    texts_.push_back ({index_.end (), oldest.count, false});
    for (uint32_t i = 0; i + 1 < oldest.count; ++i)
      index_.append (index_.at (oldest.begin + i));
    index_.border ();
  }
}

void
SharedStore::add (std::span<const TokenId> output)
{
  output = output.last (std::min (output.size (), index_.capacity () / kLargestShare - 1));
  if (output.size () <= static_cast<size_t> (TokenIndex::kOrders.front ()))
    return;
  make_room (output.size () + 1);
  texts_.push_back ({index_.end (), static_cast<uint32_t> (output.size () + 1), false});
  for (const TokenId token : output)
    index_.append (token);
  index_.border ();
}

Chain
SharedStore::propose (std::span<const TokenId> tail, int shortest, int most) const
{
  return vote (index_, index_.find (tail, shortest), {}, most, kStoreDoubt);
}

void
SharedStore::used (const Chain &chain)
{
  const uint32_t first = index_.begin ();
  const auto behind = std::ranges::upper_bound (texts_, chain.from - first, {},
                                                [&] (const Text &text) { return text.begin - first; });
  if (behind != texts_.begin ())
    std::prev (behind)->used = true;
}

} // namespace millrace
