#include "engine/tokenizer/added_tokens.hpp"

#include "engine/tokenizer/utf8.hpp"

#include <algorithm>

namespace millrace
{

namespace
{

bool
is_alone (std::string_view text, size_t begin, size_t end)
{
  if (begin > 0 && utf8::is_word (utf8::decode_before (text, begin).code_point))
    return false;
  return end == text.size () || !utf8::is_word (utf8::decode (text, end).code_point);
}

/// Walks over white space backwards, no further than `least`.
size_t
white_space_before (std::string_view text, size_t at, size_t least)
{
  while (at > least) {
    const utf8::Decoded c = utf8::decode_before (text, at);
    if (!utf8::is_white_space (c.code_point))
      break;
    at -= c.size;
  }
  return at;
}

size_t
white_space_after (std::string_view text, size_t at)
{
  while (at < text.size ()) {
    const utf8::Decoded c = utf8::decode (text, at);
    if (!utf8::is_white_space (c.code_point))
      break;
    at += c.size;
  }
  return at;
}

} // namespace

AddedTokenMatcher::AddedTokenMatcher (std::vector<AddedToken> tokens)
    : tokens_ (std::move (tokens))
{
  std::sort (tokens_.begin (), tokens_.end (),
             [] (const AddedToken &a, const AddedToken &b) { return a.content < b.content; });

  // Breadth first: a node is the range of sorted contents that share its prefix.
  struct Range {
    size_t begin, end, depth;
    uint32_t node;
  };
  nodes_.emplace_back ();
  std::vector<Range> pending = {{0, tokens_.size (), 0, 0}};
  for (size_t next = 0; next < pending.size (); next++) {
    Range range = pending[next];
    if (range.begin < range.end && tokens_[range.begin].content.size () == range.depth)
      nodes_[range.node].token = static_cast<int32_t> (range.begin++);
    nodes_[range.node].first_edge = static_cast<uint32_t> (edges_.size ());
    while (range.begin < range.end) {
      const char byte = tokens_[range.begin].content[range.depth];
      size_t end = range.begin;
      while (end < range.end && tokens_[end].content[range.depth] == byte)
        end++;
      const auto node = static_cast<uint32_t> (nodes_.size ());
      nodes_.emplace_back ();
      edges_.push_back ({static_cast<unsigned char> (byte), node});
      nodes_[range.node].edge_count++;
      pending.push_back ({range.begin, end, range.depth + 1, node});
      range.begin = end;
    }
  }
  for (uint32_t i = 0; i < nodes_[0].edge_count; i++)
    roots_[edges_[i].byte] = edges_[i].node;
}

bool
AddedTokenMatcher::find (std::string_view text, size_t from, Found &found) const
{
  for (size_t begin = from; begin < text.size (); begin++) {
    uint32_t node = roots_[static_cast<unsigned char> (text[begin])];
    if (node == 0)
      continue;
    found.token = -1;
    for (size_t at = begin + 1;; at++) {
      if (nodes_[node].token >= 0)
        found = {begin, at, nodes_[node].token};
      if (at == text.size ())
        break;
      const auto byte = static_cast<unsigned char> (text[at]);
      const Edge *first = edges_.data () + nodes_[node].first_edge;
      const Edge *last = first + nodes_[node].edge_count;
      const Edge *edge = std::find_if (first, last, [byte] (const Edge &e) { return e.byte == byte; });
      if (edge == last)
        break;
      node = edge->node;
    }
    if (found.token >= 0)
      return true;
  }
  return false;
}

void
AddedTokenMatcher::split (std::string_view text, bool parse_special, std::vector<Part> &parts) const
{
  size_t covered = 0;
  size_t run_begin = 0, run_end = 0; // white space that was walked over already
  Found found;
  for (size_t from = 0; !tokens_.empty () && find (text, from, found);) {
    // The search goes on after the content itself, even when it is not taken or takes white space along.
    from = found.end;
    const AddedToken &token = tokens_[found.token];
    if (token.special && !parse_special)
      continue;
    if (token.single_word && !is_alone (text, found.begin, found.end))
      continue;
    size_t begin = found.begin, end = found.end;
    if (token.lstrip)
      begin = std::max (white_space_before (text, begin, std::min (covered, begin)), covered);
    if (token.rstrip) {
      if (end < run_begin || end > run_end) {
        run_begin = end;
        run_end = white_space_after (text, end);
      }
      end = run_end;
    }
    if (covered < begin)
      parts.push_back ({covered, begin, -1});
    parts.push_back ({begin, end, token.id});
    covered = end;
  }
  if (covered < text.size ())
    parts.push_back ({covered, text.size (), -1});
}

} // namespace millrace
