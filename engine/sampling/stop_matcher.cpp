#include "engine/sampling/stop_matcher.hpp"

#include <algorithm>

namespace millrace
{

StopMatcher::StopMatcher (std::vector<std::string> stops)
{
  for (std::string &stop : stops) {
    if (stop.empty ())
      continue;
    Automaton automaton{std::move (stop), {}, 0};
    const std::string &text = automaton.stop;
    automaton.border.assign (text.size (), 0);
    for (size_t i = 1, length = 0; i < text.size (); ++i) {
      while (length > 0 && text[i] != text[length])
        length = automaton.border[length - 1];
      length += text[i] == text[length];
      automaton.border[i] = static_cast<uint32_t> (length);
    }
    stops_.push_back (std::move (automaton));
  }
}

bool
StopMatcher::Automaton::advance (char byte)
{
  while (matched > 0 && stop[matched] != byte)
    matched = border[matched - 1];
  matched += stop[matched] == byte;
  return matched == stop.size ();
}

bool
StopMatcher::push (std::string_view piece, std::string &out)
{
  for (size_t i = 0; i < piece.size (); ++i) {
    size_t longest_match = 0;
    for (Automaton &automaton : stops_) {
      if (automaton.advance (piece[i]))
        longest_match = std::max (longest_match, automaton.matched);
    }
    if (longest_match == 0)
      continue;

    held_.append (piece.substr (0, i + 1));
    out.append (held_, 0, held_.size () - longest_match);
    matched_ = held_.substr (held_.size () - longest_match);
    held_.clear ();
    for (Automaton &automaton : stops_)
      automaton.matched = 0;
    return true;
  }

  size_t keep = 0;
  for (const Automaton &automaton : stops_)
    keep = std::max (keep, automaton.matched);

  // A stop string that is UTF-8 can only begin where a character begins; for one that is not, the cut moves
  // back to where the character it would split begins (at most three bytes).
  held_.append (piece);
  size_t cut = held_.size () - keep;
  for (int i = 0; i < 3 && cut > 0 && cut < held_.size () && (held_[cut] & 0xC0) == 0x80; ++i)
    --cut;
  out.append (held_, 0, cut);
  held_.erase (0, cut);
  return false;
}

void
StopMatcher::finish (std::string &out)
{
  out += held_;
  held_.clear ();
  for (Automaton &automaton : stops_)
    automaton.matched = 0;
}

} // namespace millrace
