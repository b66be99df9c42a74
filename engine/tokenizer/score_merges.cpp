#include "engine/tokenizer/score_merges.hpp"

#include "engine/tokenizer/byte_trie.hpp"
#include "engine/tokenizer/utf8.hpp"

#include <algorithm>
#include <functional>

namespace millrace
{

namespace
{

/// By id: the place of a token's score, highest first; equal scores have the same place.
std::vector<uint32_t>
ranks_of (std::span<const float> scores)
{
  std::vector<float> sorted (scores.begin (), scores.end ());
  std::sort (sorted.begin (), sorted.end (), std::greater<> ());
  sorted.erase (std::unique (sorted.begin (), sorted.end ()), sorted.end ());
  std::vector<uint32_t> ranks;
  for (const float score : scores)
    ranks.push_back (static_cast<uint32_t> (
        std::lower_bound (sorted.begin (), sorted.end (), score, std::greater<> ()) - sorted.begin ()));
  return ranks;
}

class Splits
{
public:
  explicit Splits (const Vocabulary &vocabulary)
      : vocabulary_ (vocabulary)
  {
    const size_t bytes = vocabulary.contents.bytes ().size ();
    forwards_.reserve (bytes);
    backwards_.reserve (bytes);
    std::string reversed;
    for (int id = 0; id < vocabulary.size (); id++) {
      if (!(vocabulary.flags[id] & Vocabulary::kModel))
        continue;
      const std::string_view content = vocabulary.contents[id];
      forwards_.insert (content, id);
      reversed.assign (content.rbegin (), content.rend ());
      backwards_.insert (reversed, id);
    }
  }

  /// Calls `found` with the symbols of both sides wherever the text of `id` can be cut into two of them.
  template <typename Function>
  void find (int32_t id, const Function &found)
  {
    const std::string_view content = vocabulary_.contents[id];
    const size_t size = content.size ();
    rights_.assign (size + 1, kNoToken);
    uint32_t node = ByteTrie::kRoot;
    for (size_t begin = size; begin > 0 && node != ByteTrie::kNowhere;) {
      node = backwards_.step (node, static_cast<unsigned char> (content[--begin]));
      if (node != ByteTrie::kNowhere)
        rights_[begin] = backwards_.number (node);
    }
    const utf8::Decoded last = utf8::decode_before (content, size);
    const auto last_begin = size - static_cast<size_t> (last.size);
    if (rights_[last_begin] == kNoToken)
      rights_[last_begin] = Bpe::symbol_of (last.code_point);

    const utf8::Decoded first = utf8::decode (content, 0);
    node = ByteTrie::kRoot;
    for (size_t end = 1; end < size; end++) {
      if (node != ByteTrie::kNowhere)
        node = forwards_.step (node, static_cast<unsigned char> (content[end - 1]));
      int32_t left = node == ByteTrie::kNowhere ? kNoToken : forwards_.number (node);
      if (left == kNoToken && end == static_cast<size_t> (first.size))
        left = Bpe::symbol_of (first.code_point);
      if (left != kNoToken && rights_[end] != kNoToken)
        found (left, rights_[end]);
      if (node == ByteTrie::kNowhere && end >= static_cast<size_t> (first.size))
        break;
    }
  }

private:
  const Vocabulary &vocabulary_;
  ByteTrie forwards_, backwards_;
  std::vector<int32_t> rights_; ///< by byte: the symbol of what is left of the content from there on
};

} // namespace

MergeTable
score_merges (const Vocabulary &vocabulary, std::span<const float> scores)
{
  const std::vector<uint32_t> ranks = ranks_of (scores);
  Splits splits (vocabulary);
  struct Pair {
    int32_t left, right;
    MergeTable::Merge merge;
  };
  std::vector<Pair> pairs;
  for (int id = 0; id < vocabulary.size (); id++)
    if (vocabulary.flags[id] & Vocabulary::kModel)
      splits.find (id, [&] (int32_t left, int32_t right) {
        pairs.push_back ({left, right, {ranks[id], id}});
      });
  MergeTable merges;
  merges.reserve (pairs.size ());
  for (const Pair &pair : pairs)
    merges.insert (pair.left, pair.right, pair.merge);
  return merges;
}

} // namespace millrace
