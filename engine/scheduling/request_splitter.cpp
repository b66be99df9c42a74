#include "engine/scheduling/request_splitter.hpp"

#include <algorithm>

namespace millrace
{

RequestSplitter::RequestSplitter (Boundary boundary, size_t limit_bytes)
    : boundary_ (boundary)
    , limit_ (limit_bytes)
{
}

void
RequestSplitter::append (std::string_view bytes)
{
  const size_t room = limit_ - held_.size ();
  too_long_ = too_long_ || bytes.size () > room;
  held_.append (bytes.substr (0, room));
}

void
RequestSplitter::emit_line (Emit emit)
{
  std::string_view text = held_;
  if (text.ends_with ('\r'))
    text.remove_suffix (1);
  if (!text.empty ())
    emit ({text, too_long_});
  held_.clear ();
  too_long_ = false;
}

void
RequestSplitter::push (std::string_view bytes, Emit emit)
{
  switch (boundary_) {
  case Boundary::kBuffer:
    emit ({bytes.substr (0, limit_), bytes.size () > limit_});
    break;
  case Boundary::kEnd:
    append (bytes);
    break;
  case Boundary::kLine:
    for (size_t newline; (newline = bytes.find ('\n')) != bytes.npos; bytes.remove_prefix (newline + 1)) {
      append (bytes.substr (0, newline));
      emit_line (emit);
    }
    append (bytes);
    break;
  }
}

void
RequestSplitter::finish (Emit emit)
{
  if (boundary_ == Boundary::kLine) {
    emit_line (emit);
  } else if (boundary_ == Boundary::kEnd) {
    std::string_view text = held_;
    if (text.ends_with ('\n'))
      text.remove_suffix (text.ends_with ("\r\n") ? 2 : 1);
    emit ({text, too_long_});
    held_.clear ();
    too_long_ = false;
  }
}

} // namespace millrace
