// len (), iter () and truth of values.
#include "engine/chat/loop.hpp"
#include "engine/chat/text.hpp"

namespace millrace::jinja
{

namespace
{

/// Walks an indexable value by position.
class IndexIterator : public Iterator
{
public:
  IndexIterator (const Value &source, int64_t length, const char *type_name)
      : Iterator (type_name)
      , source_ (source)
      , length_ (length)
  {
    set_depth (*this, source.depth ());
  }

  bool next (Value &out) override
  {
    if (position_ >= length_)
      return false;
    spend (1);
    const auto index = static_cast<size_t> (position_++);
    switch (source_.kind ()) {
    case Kind::kList:
    case Kind::kTuple:
      out = source_.items ()[index];
      return true;
    case Kind::kDict:
      out = source_.dict ().entries[index].first;
      return true;
    case Kind::kDictView:
      out = source_.as<DictViewPayload> ().at (index);
      return true;
    case Kind::kRange:
      out = Value::integer (source_.as<RangePayload> ().at (static_cast<int64_t> (index)));
      return true;
    default:
      return false;
    }
  }

private:
  Value source_;
  int64_t position_ = 0;
  int64_t length_;
};

class CharacterIterator : public Iterator
{
public:
  explicit CharacterIterator (const Value &source)
      : Iterator ("str_iterator")
      , source_ (source)
  {
    set_depth (*this, 0);
  }

  bool next (Value &out) override
  {
    const std::string &text = source_.text ();
    if (position_ >= text.size ())
      return false;
    const size_t start = position_;
    decode (text, position_);
    out = Value::string (text.substr (start, position_ - start));
    return true;
  }

private:
  Value source_;
  size_t position_ = 0;
};

class EmptyIterator : public Iterator
{
public:
  bool next (Value &) override { return false; }
};

} // namespace

bool
has_length (const Value &value)
{
  switch (value.kind ()) {
  case Kind::kMissing:
  case Kind::kUndefined:
  case Kind::kString:
  case Kind::kList:
  case Kind::kTuple:
  case Kind::kDict:
  case Kind::kDictView:
  case Kind::kRange:
  case Kind::kLoop:
    return true;
  default:
    return false;
  }
}

int64_t
length_of (const Value &value)
{
  switch (value.kind ()) {
  case Kind::kMissing:
  case Kind::kUndefined:
    return 0;
  case Kind::kString:
    return static_cast<int64_t> (value.as<StringPayload> ().length ());
  case Kind::kList:
  case Kind::kTuple:
    return static_cast<int64_t> (value.items ().size ());
  case Kind::kDict:
    return static_cast<int64_t> (value.dict ().entries.size ());
  case Kind::kDictView:
    return static_cast<int64_t> (value.as<DictViewPayload> ().dict.dict ().entries.size ());
  case Kind::kRange:
    return value.as<RangePayload> ().length;
  case Kind::kLoop:
    return value.as<LoopPayload> ().total ();
  default:
    fail (std::string ("object of type '") + type_name (value) + "' has no len()");
  }
}

bool
is_true (const Value &value)
{
  switch (value.kind ()) {
  case Kind::kMissing:
  case Kind::kUndefined:
  case Kind::kNone:
    return false;
  case Kind::kBool:
  case Kind::kInt:
    return value.as_int () != 0;
  case Kind::kFloat:
    return value.as_float () != 0;
  case Kind::kString:
    return !value.text ().empty ();
  default:
    return has_length (value) ? length_of (value) != 0 : true;
  }
}

bool
is_iterable (const Value &value)
{
  return has_length (value) || value.is (Kind::kIterator);
}

Value
iterate (const Value &value)
{
  switch (value.kind ()) {
  case Kind::kIterator:
    return value;
  case Kind::kMissing:
  case Kind::kUndefined:
    return make_value<EmptyIterator> ();
  case Kind::kString:
    return make_value<CharacterIterator> (value);
  case Kind::kList:
    return make_value<IndexIterator> (value, length_of (value), "list_iterator");
  case Kind::kTuple:
    return make_value<IndexIterator> (value, length_of (value), "tuple_iterator");
  case Kind::kDict:
  case Kind::kDictView:
    return make_value<IndexIterator> (value, length_of (value), "dict_keyiterator");
  case Kind::kRange:
    return make_value<IndexIterator> (value, length_of (value), "range_iterator");
  default:
    fail (std::string ("'") + type_name (value) + "' object is not iterable");
  }
}

std::vector<Value>
to_vector (const Value &value)
{
  if (value.is (Kind::kList) || value.is (Kind::kTuple)) {
    spend (value.items ().size ());
    return value.items ();
  }
  std::vector<Value> items;
  const Value iterator = iterate (value);
  Value item;
  while (iterator.as<Iterator> ().next (item)) {
    spend (2); // what is gathered here is charged for memory only once it becomes a list
    items.push_back (std::move (item));
    item = Value ();
  }
  return items;
}

} // namespace millrace::jinja
