#include "engine/tokenizer/unigram.hpp"

#include "engine/tokenizer/utf8.hpp"

#include <algorithm>

namespace millrace
{

void
Unigram::find_ways (std::string_view text, Scratch &scratch) const
{
  std::vector<Scratch::Node> &nodes = scratch.nodes;
  nodes.assign (text.size () + 1, {});
  const auto offer = [&] (size_t from, size_t size, double score, int32_t piece) {
    Scratch::Node &node = nodes[from + size];
    double sum = nodes[from].score + score;
    if (single_precision && piece == kNoToken)
      sum = static_cast<float> (sum);
    if (node.size && !(sum > node.score))
      return;
    node = {single_precision ? static_cast<float> (sum) : sum, piece, static_cast<uint32_t> (size)};
  };
  for (size_t begin = 0; begin < text.size ();) {
    const size_t character = utf8::sequence_size (static_cast<unsigned char> (text[begin]));
    bool single = false;
    uint32_t trie = ByteTrie::kRoot;
    for (size_t end = begin; end < text.size ();) {
      scratch.work_++;
      trie = pieces.step (trie, static_cast<unsigned char> (text[end++]));
      if (trie == ByteTrie::kNowhere)
        break;
      const int32_t piece = pieces.number (trie);
      if (piece == ByteTrie::kNoNumber)
        continue;
      offer (begin, end - begin, scores[piece], piece);
      single |= end - begin == character;
    }
    if (!single)
      offer (begin, character, unknown_score, kNoToken);
    begin += character;
  }
}

void
Unigram::encode (std::string_view text, Scratch &scratch, std::vector<int32_t> &ids) const
{
  if (text.empty ())
    return;
  find_ways (text, scratch);
  scratch.ends.clear ();
  for (size_t end = text.size (); end > 0; end -= scratch.nodes[end].size)
    scratch.ends.push_back (static_cast<uint32_t> (end));
  std::reverse (scratch.ends.begin (), scratch.ends.end ());

  size_t run = 0; // where the unknown characters before `begin` begin
  size_t begin = 0;
  const auto end_run = [&] {
    if (run < begin && !fallback.append (text.substr (run, begin - run), ids) && unknown != kNoToken)
      ids.push_back (unknown);
  };
  for (const uint32_t end : scratch.ends) {
    const int32_t piece = scratch.nodes[end].piece;
    if (piece != kNoToken) {
      end_run ();
      ids.push_back (piece);
      run = end;
    }
    begin = end;
  }
  end_run ();
}

} // namespace millrace
