#include "engine/chat/loop.hpp"

namespace millrace::jinja
{

LoopPayload::LoopPayload (const Value &iterable, int depth0)
    : Payload (Kind::kLoop)
    , iterable (iterable)
    , iterator (iterate (iterable))
    , depth0 (depth0)
{
  set_depth (*this, iterable.depth ());
}

bool
LoopPayload::advance (Value &item)
{
  if (!after.is (Kind::kMissing)) {
    item = std::move (after);
    after = Value::missing ();
  } else if (!iterator.is (Kind::kIterator) || !iterator.as<Iterator> ().next (item)) {
    return false;
  }
  index0++;
  before = std::move (current);
  current = item;
  return true;
}

int64_t
LoopPayload::total ()
{
  if (length >= 0)
    return length;
  if (has_length (iterable) && !iterable.is (Kind::kLoop)) {
    length = length_of (iterable);
  } else if (iterator.is (Kind::kIterator)) {
    const Value rest = Value::list (to_vector (iterator));
    iterator = iterate (rest);
    length = length_of (rest) + index0 + 1 + (after.is (Kind::kMissing) ? 0 : 1);
  } else {
    length = index0 + 1;
  }
  return length;
}

const Value &
LoopPayload::peek ()
{
  if (after.is (Kind::kMissing) && iterator.is (Kind::kIterator)) {
    Value next;
    if (iterator.as<Iterator> ().next (next))
      after = std::move (next);
  }
  return after;
}

void
LoopPayload::finish ()
{
  if (length < 0 && has_length (iterable) && !iterable.is (Kind::kLoop))
    length = length_of (iterable);
  iterable = iterator = Value ();
  after = current = before = Value::missing ();
  last_changed.clear ();
}

} // namespace millrace::jinja
