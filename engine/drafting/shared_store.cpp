#include "engine/drafting/shared_store.hpp"

#include <algorithm>

namespace millrace
{

namespace
{

constexpr size_t kLargestShare = 4; ///< a text has at most this part of the store
constexpr size_t kSpared = 4;
constexpr int kVisits = 24;                ///< each is a cache miss or two in a history of this size
constexpr double kStoreDoubt = 3 * kDoubt; ///< others talk of other things
constexpr int kShortest = 2;               ///< tokens in common, for the same reason

} // namespace

SharedStore::SharedStore (size_t tokens)
    : index_ (std::max<size_t> (tokens, 1))
{
}

void
SharedStore::wait (std::vector<TokenId> text)
{
  waiting_tokens_ += text.size ();
  waiting_.push_back (std::move (text));
  // The first may be half written.
  while (waiting_tokens_ > index_.capacity () && waiting_.size () > 2) {
    waiting_tokens_ -= waiting_[1].size ();
    waiting_.erase (waiting_.begin () + 1);
  }
}

void
SharedStore::add (std::span<const TokenId> output)
{
  output = output.last (std::min (output.size (), index_.capacity () / kLargestShare - 1));
  if (output.size () <= static_cast<size_t> (TokenIndex::kOrders.front ()))
    return;
  may_spare_ = std::min (may_spare_ + kSpared * output.size (), index_.capacity ());
  wait ({output.begin (), output.end ()});
}

void
SharedStore::make_room (size_t wanted)
{
  while (index_.size () + wanted > index_.capacity ()) {
    const Text oldest = texts_.front ();
    texts_.pop_front ();
    if (oldest.used && may_spare_ >= oldest.count) {
      may_spare_ -= oldest.count;
      std::vector<TokenId> text (oldest.count - 1);
      for (uint32_t i = 0; i < text.size (); ++i)
        text[i] = index_.at (oldest.begin + i);
      wait (std::move (text));
    }
    index_.forget (oldest.count);
  }
}

void
SharedStore::settle (size_t tokens)
{
  while (tokens > 0 && !waiting_.empty ()) {
    if (written_ == 0) {
      const size_t wanted = waiting_.front ().size () + 1;
      make_room (wanted);
      texts_.push_back ({index_.end (), static_cast<uint32_t> (wanted), false});
    }
    const std::vector<TokenId> &text = waiting_.front ();
    for (; tokens > 0 && written_ < text.size (); --tokens)
      index_.append (text[written_++]);
    if (written_ < text.size ())
      return;
    index_.border ();
    waiting_tokens_ -= text.size ();
    waiting_.pop_front ();
    written_ = 0;
  }
}

size_t
SharedStore::bytes () const
{
  return index_.bytes () + texts_.size () * sizeof (Text) + waiting_tokens_ * sizeof (TokenId);
}

Chain
SharedStore::propose (std::span<const TokenId> tail, int shortest, int most) const
{
  return vote (index_, index_.find (tail, std::max (shortest, kShortest), kVisits), {}, most, kStoreDoubt);
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
