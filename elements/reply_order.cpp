#include "elements/reply_order.hpp"

#include "library/request.hpp"

#include <iterator>
#include <utility>

namespace millrace
{

static void
move_to (std::vector<Ref<GstBuffer>> &leaving, std::vector<Ref<GstBuffer>> &buffers)
{
  leaving.insert (leaving.end (), std::move_iterator (buffers.begin ()), std::move_iterator (buffers.end ()));
  buffers.clear ();
}

void
ReplyOrder::begin (std::span<const uint64_t> open)
{
  begun_ = true;
  next_ = open.empty () ? 0 : open.front ();
  // What has ended in between has left, or gone with who held it.
  uint64_t number = next_;
  for (const uint64_t next : open) {
    for (; number < next; number++)
      held_[number].ended = true;
    number = next + 1;
  }
}

void
ReplyOrder::add (uint64_t number, bool ends, Ref<GstBuffer> buffer, std::vector<Ref<GstBuffer>> &leaving)
{
  if (number != RequestTiming::kNoNumber && number > next_) {
    Held &held = held_[number];
    held.buffers.push_back (std::move (buffer));
    held.ended = held.ended || ends;
    return;
  }
  leaving.push_back (std::move (buffer));
  if (number != next_ || !ends)
    return;
  next_++;
  for (auto first = held_.begin (); first != held_.end () && first->first == next_;
       first = held_.erase (first)) {
    move_to (leaving, first->second.buffers);
    if (!first->second.ended) {
      held_.erase (first);
      return;
    }
    next_++;
  }
}

void
ReplyOrder::finish (std::vector<Ref<GstBuffer>> &leaving)
{
  for (auto &[number, held] : held_)
    move_to (leaving, held.buffers);
  held_.clear ();
  begun_ = false;
}

} // namespace millrace
