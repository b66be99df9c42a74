// Stop strings over streamed text: text is held back while it could still become a stop string.
//
// Emitted text never contains any part of a match; what is held back is at most the longest stop string
// less one byte, and always ends on a character boundary of the input pieces. How the text was cut into
// pieces does not enter: the first stop string to be complete wins, and of several complete at the same byte
// the longest. Cost: bytes pushed times stop strings. Source: Knuth, Morris, Pratt, "Fast pattern matching in
// strings", 1977; one automaton for each stop string.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace millrace
{

class StopMatcher
{
public:
  explicit StopMatcher (std::vector<std::string> stops = {}); ///< empty strings are ignored

  /// Appends to `out` what can be emitted. True when a stop string matched: `out` then ends right before the
  /// match and nothing may be pushed after it.
  bool push (std::string_view piece, std::string &out);
  /// End of text without a match: appends what was held back.
  void finish (std::string &out);
  /// The stop string that push () found; empty before that.
  const std::string &matched () const { return matched_; }
  bool empty () const { return stops_.empty (); }

private:
  struct Automaton {
    std::string stop;
    std::vector<uint32_t> border; ///< [i]: longest proper prefix of stop that ends its first i + 1 bytes
    size_t matched = 0;           ///< length of the longest prefix of stop that ends the text

    bool advance (char byte); ///< true when all of stop is matched
  };

  std::vector<Automaton> stops_;
  std::string held_, matched_;
};

} // namespace millrace
