// Stop strings over streamed text: text is held back while it could still become a stop string.
//
// Emitted text never contains any part of a match; what is held back is at most the longest stop string
// less one byte, and always ends on a character boundary of the input pieces.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace millrace {

class StopMatcher
{
public:
  explicit StopMatcher (std::vector<std::string> stops = {}); ///< empty strings are ignored

  /// Appends to `out` what can be emitted. True when a stop string matched: `out` then ends right before the
  /// earliest match (the longest of those starting there does not matter) and nothing may be pushed after it.
  bool push (std::string_view piece, std::string &out);
  /// End of text without a match: appends what was held back.
  void finish (std::string &out);
  bool empty () const { return stops_.empty (); }

private:
  std::vector<std::string> stops_;
  std::string held_;
};

} // namespace millrace
