#include "engine/kv/prefix_tree.hpp"

#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cassert>
#include <utility>

namespace millrace
{

namespace
{

constexpr size_t kSetNodeBytes = 128; ///< twice a node of the set: the pool grows in doubling steps
constexpr size_t kPoolBytes = 64 << 10;

int
common_prefix (std::span<const TokenId> a, std::span<const TokenId> b)
{
  return static_cast<int> (std::ranges::mismatch (a, b).in1 - a.begin ());
}

} // namespace

bool
PrefixTree::BySiblings::less (const Key &a, const Key &b)
{
  if (a.parent != b.parent)
    return a.parent < b.parent;
  return std::ranges::lexicographical_compare (a.tokens, b.tokens);
}

PrefixTree::PrefixTree (int blocks, int groups)
    : groups_ (groups)
    , nodes_ (static_cast<size_t> (blocks))
    , table_ (std::bit_ceil (2 * static_cast<size_t> (blocks) + 2), kNoBlock)
    , arena_ (static_cast<size_t> (blocks) * kSetNodeBytes + kPoolBytes)
    , memory_ (&arena_)
    , siblings_ (BySiblings{this}, &memory_)
{
}

BlockHash
PrefixTree::hash_of (BlockId parent, std::span<const TokenId> tokens) const
{
  struct {
    BlockHash parent;
    std::array<TokenId, kBlockTokens> tokens;
  } input{};
  static_assert (sizeof input == sizeof (BlockHash) + kBlockTokens * sizeof (TokenId));
  if (is_root (parent))
    input.parent.low = static_cast<uint64_t> (kNoBlock - parent);
  else
    input.parent = at (parent).hash;
  std::ranges::copy (tokens, input.tokens.begin ());
  const XXH128_hash_t hash = XXH3_128bits (&input, sizeof (BlockHash) + tokens.size () * sizeof (TokenId));
  return {hash.low64, hash.high64};
}

BlockId
PrefixTree::find (BlockId parent, std::span<const TokenId> tokens, const BlockHash &hash) const
{
  assert (tokens.size () == kBlockTokens);
  for (size_t slot = home (hash); table_[slot] != kNoBlock; slot = (slot + 1) & (table_.size () - 1)) {
    const Node &node = at (table_[slot]);
    if (node.hash == hash && node.parent == parent && std::ranges::equal (node.tokens, tokens))
      return table_[slot];
  }
  return kNoBlock;
}

// In lexicographic order the sibling that shares the longest prefix is next to where the tokens would stand.
PrefixTree::Closest
PrefixTree::closest (BlockId parent, std::span<const TokenId> wanted) const
{
  Closest best;
  const auto consider = [&] (BlockId node) {
    if (at (node).parent != parent)
      return;
    const int agree = common_prefix (tokens (node), wanted);
    if (agree > best.tokens)
      best = {node, agree};
  };
  const auto next = siblings_.lower_bound (Key{parent, wanted});
  if (next != siblings_.end ())
    consider (*next);
  if (next != siblings_.begin ())
    consider (*std::prev (next));
  return best;
}

void
PrefixTree::insert (BlockId id, BlockId parent, std::span<const TokenId> tokens)
{
  assert (!contains (id) && !tokens.empty () && tokens.size () <= kBlockTokens);
  assert (is_root (parent) || (contains (parent) && at (parent).count == kBlockTokens));
  Node &node = at (id);
  node.parent = parent;
  node.depth = depth (parent) + 1;
  node.count = static_cast<int> (tokens.size ());
  node.children = 0;
  std::ranges::copy (tokens, node.tokens.begin ());
  node.hash = hash_of (parent, tokens);
  node.blocks.fill (kNoBlock);
  node.blocks[0] = id;
  node.uses = {};
  node.disk_id = {};
  node.disk_groups = 0;
  if (!is_root (parent))
    at (parent).children++;
  siblings_.insert (id);
  if (node.count == kBlockTokens)
    table_insert (id);
  list_append (0, id);
}

void
PrefixTree::erase (BlockId id)
{
  Node &node = at (id);
  assert (contains (id) && node.children == 0 && node.uses[0].pins == 0);
  assert (
      std::all_of (node.blocks.begin () + 1, node.blocks.end (), [] (BlockId b) { return b == kNoBlock; }));
  list_remove (0, id);
  if (node.count == kBlockTokens)
    table_erase (id);
  siblings_.erase (id);
  if (!is_root (node.parent))
    at (node.parent).children--;
  node.depth = 0;
}

void
PrefixTree::add_block (int group, BlockId id, BlockId block)
{
  assert (group > 0 && contains (id) && at (id).blocks[index (group)] == kNoBlock);
  at (id).blocks[index (group)] = block;
  list_append (group, id);
}

BlockId
PrefixTree::remove_block (int group, BlockId id)
{
  assert (group > 0 && pins (group, id) == 0 && block (group, id) != kNoBlock);
  list_remove (group, id);
  return std::exchange (at (id).blocks[index (group)], kNoBlock);
}

void
PrefixTree::pin (int group, BlockId id)
{
  assert (contains (id) && block (group, id) != kNoBlock);
  if (at (id).uses[index (group)].pins++ == 0)
    list_remove (group, id);
}

void
PrefixTree::unpin (int group, BlockId id)
{
  assert (contains (id) && pins (group, id) > 0);
  if (--at (id).uses[index (group)].pins == 0)
    list_append (group, id);
}

void
PrefixTree::list_append (int group, BlockId id)
{
  List &list = lists_[index (group)];
  Use &use = at (id).uses[index (group)];
  use.older = list.newest;
  use.newer = kNoBlock;
  (list.newest == kNoBlock ? list.oldest : at (list.newest).uses[index (group)].newer) = id;
  list.newest = id;
  list.count++;
}

void
PrefixTree::list_remove (int group, BlockId id)
{
  List &list = lists_[index (group)];
  const Use use = at (id).uses[index (group)];
  (use.older == kNoBlock ? list.oldest : at (use.older).uses[index (group)].newer) = use.newer;
  (use.newer == kNoBlock ? list.newest : at (use.newer).uses[index (group)].older) = use.older;
  list.count--;
}

void
PrefixTree::table_insert (BlockId id)
{
  size_t slot = home (at (id).hash);
  while (table_[slot] != kNoBlock)
    slot = (slot + 1) & (table_.size () - 1);
  table_[slot] = id;
}

// Entries behind the gap move up when the gap lies between their home and them: no tombstones.
void
PrefixTree::table_erase (BlockId id)
{
  const size_t mask = table_.size () - 1;
  size_t gap = home (at (id).hash);
  while (table_[gap] != id)
    gap = (gap + 1) & mask;
  for (size_t slot = (gap + 1) & mask; table_[slot] != kNoBlock; slot = (slot + 1) & mask) {
    const size_t from_home = (slot - home (at (table_[slot]).hash)) & mask;
    if (from_home >= ((slot - gap) & mask)) {
      table_[gap] = table_[slot];
      gap = slot;
    }
  }
  table_[gap] = kNoBlock;
}

std::vector<BlockId>
PrefixTree::nodes_by_depth () const
{
  std::vector<BlockId> nodes (siblings_.begin (), siblings_.end ());
  std::ranges::stable_sort (nodes, {}, [this] (BlockId node) { return at (node).depth; });
  return nodes;
}

} // namespace millrace
