#include "engine/kv/kv_cache.hpp"

#include <algorithm>
#include <cassert>
#include <utility>

namespace millrace
{

namespace
{

std::span<const TokenId>
block_of (std::span<const TokenId> tokens, int block)
{
  return tokens.subspan (static_cast<size_t> (block) * kBlockTokens, kBlockTokens);
}

} // namespace

KvCache::KvCache (const KvLayout &layout, const BlockCounts &blocks, ExecutionContext &context,
                  KvCacheSettings settings)
    : layout_ (layout)
    , context_ (context)
    , settings_ (std::move (settings))
    , tree_ (blocks[0], static_cast<int> (layout.size ()))
{
  for (int group = 0; group < groups (); group++) {
    pools_.emplace_back (blocks[static_cast<size_t> (group)]);
    recurrent_ |= is_recurrent (group);
  }
}

size_t
KvCache::bytes () const
{
  size_t total = 0;
  for (int group = 0; group < groups (); group++)
    total += group_of (group).block_bytes * static_cast<size_t> (size (group));
  return total;
}

/// The first block that a token at position `tokens` or later still reads.
int
KvCache::first_needed (int group, int tokens) const
{
  return is_window (group) ? std::max (0, tokens - group_of (group).window + 1) / kBlockTokens : 0;
}

// --- blocks ---------------------------------------------------------------------------------------

void
KvCache::evict_node ()
{
  const BlockId node = tree_.oldest (0);
  for (int group = 1; group < groups (); group++) {
    if (tree_.block (group, node) != kNoBlock)
      pool (group).release (tree_.remove_block (group, node));
  }
  tree_.erase (node);
  pool (0).release (node);
  statistics_.evicted_blocks++;
}

BlockId
KvCache::allocate (int group)
{
  if (pool (group).free () == 0) {
    const BlockId node = tree_.oldest (group);
    if (node == kNoBlock)
      return kNoBlock;
    if (group == 0)
      evict_node ();
    else
      pool (group).release (tree_.remove_block (group, node));
  }
  return pool (group).allocate ();
}

bool
KvCache::reserve (SequenceKv &sequence, int length)
{
  for (int group = 0; group < groups (); group++) {
    const int missing = entries_for (group, length) - static_cast<int> (table (sequence, group).size ());
    if (missing > available (group))
      return false;
  }
  for (int group = 0; group < groups (); group++) {
    auto &blocks = table (sequence, group);
    while (static_cast<int> (blocks.size ()) < entries_for (group, length))
      blocks.push_back (allocate (group));
  }
  return true;
}

// --- beginning ------------------------------------------------------------------------------------

bool
KvCache::attach (SequenceKv &sequence, std::span<const TokenId> tokens)
{
  assert (sequence.tokens == 0 && sequence.shared == 0);
  for (int group = 0; group < groups (); group++) {
    if (is_recurrent (group) && available (group) < 2)
      return false;
  }
  for (int group = 0; group < groups (); group++) {
    if (!is_recurrent (group))
      continue;
    table (sequence, group).assign ({allocate (group), allocate (group)});
    context_.clear_block (group, table (sequence, group)[0]);
  }
  if (!settings_.prefix_cache)
    return true;
  take_cached (sequence, tokens);
  take_partial (sequence, tokens);
  statistics_.lookups++;
  statistics_.lookup_tokens += tokens.size () - 1;
  statistics_.hit_tokens += static_cast<uint64_t> (sequence.tokens);
  return true;
}

int
KvCache::extend (SequenceKv &sequence, std::span<const TokenId> tokens)
{
  const bool at_block = sequence.tokens == sequence.shared * kBlockTokens &&
                        sequence.tables[0].size () == static_cast<size_t> (sequence.shared);
  BlockHash next;
  if (!settings_.prefix_cache || !at_block || !next_block (sequence, tokens, next))
    return 0;
  const BlockId node =
      sequence.shared > 0 ? sequence.tables[0][static_cast<size_t> (sequence.shared) - 1] : sequence.root;
  if (tree_.find (node, block_of (tokens, sequence.shared), next) == kNoBlock)
    return 0;
  const int gained = take_cached (sequence, tokens);
  statistics_.hit_tokens += static_cast<uint64_t> (gained);
  return gained;
}

/// The longest part of path_ on which every group can go on: window groups need the blocks of the last window,
/// recurrent ones a snapshot at the very end.
int
KvCache::usable_blocks (const SequenceKv &sequence) const
{
  std::array<int, kMaxKvGroups> run{}; // blocks in a row, up to the present one, that a window group has
  for (int group = 0; group < groups (); group++)
    run[static_cast<size_t> (group)] = sequence.shared - sequence.window_begin[static_cast<size_t> (group)];
  int usable = 0;
  for (int i = 0; i < static_cast<int> (path_.size ()); i++) {
    const int end = sequence.shared + i + 1;
    bool complete = true;
    for (int group = 1; group < groups (); group++) {
      const auto g = static_cast<size_t> (group);
      const bool has = tree_.block (group, path_[static_cast<size_t> (i)]) != kNoBlock;
      run[g] = has ? run[g] + 1 : 0;
      complete &= is_window (group) ? run[g] >= end - first_needed (group, end * kBlockTokens) : has;
    }
    if (complete)
      usable = i + 1;
  }
  return usable;
}

// Follows the tree, and where it ends the disk, then keeps what is of use. Reading may push blocks of other groups off
// nodes found before, so that is judged at the end.
int
KvCache::take_cached (SequenceKv &sequence, std::span<const TokenId> tokens)
{
  const int limit = (static_cast<int> (tokens.size ()) - 1) / kBlockTokens; // blocks before the last token
  const int begin = sequence.shared;
  int disk_blocks = 0;
  BlockId node = begin > 0 ? sequence.tables[0][static_cast<size_t> (begin) - 1] : sequence.root;
  path_.clear ();
  for (int depth = begin; depth < limit; depth++) {
    const auto block = block_of (tokens, depth);
    BlockId next = tree_.find (node, block);
    if (next == kNoBlock) {
      next = load (node, block);
      disk_blocks += next != kNoBlock;
    }
    if (next == kNoBlock)
      break;
    tree_.pin (0, next); // so that loading does not evict what has been found
    path_.push_back (next);
    node = next;
  }

  const int usable = begin + usable_blocks (sequence);
  while (static_cast<int> (path_.size ()) > usable - begin) {
    tree_.unpin (0, path_.back ());
    path_.pop_back ();
  }
  if (usable == begin)
    return 0;
  statistics_.disk_hit_tokens +=
      static_cast<uint64_t> (std::min (disk_blocks, usable - begin) * kBlockTokens);
  sequence.tables[0].insert (sequence.tables[0].end (), path_.begin (), path_.end ());
  for (int group = 1; group < groups (); group++) {
    auto &blocks = table (sequence, group);
    if (is_recurrent (group)) {
      context_.copy_block (group, tree_.block (group, path_.back ()), blocks[0]);
      continue;
    }
    const int first = first_needed (group, usable * kBlockTokens);
    for (int depth = begin; depth < usable; depth++) {
      const BlockId owner = path_[static_cast<size_t> (depth - begin)];
      const bool needed = depth >= first;
      blocks.push_back (needed ? tree_.block (group, owner) : kNoBlock);
      if (needed)
        tree_.pin (group, owner);
    }
  }
  sequence.shared = usable;
  sequence.tokens = usable * kBlockTokens;
  leave_windows (sequence);
  return (usable - begin) * kBlockTokens;
}

// The block after the shared ones may begin like a cached one: a copy saves computing what agrees.
void
KvCache::take_partial (SequenceKv &sequence, std::span<const TokenId> tokens)
{
  const size_t begin = static_cast<size_t> (sequence.shared) * kBlockTokens;
  const size_t count = std::min<size_t> (tokens.size () - 1 - begin, kBlockTokens);
  if (recurrent_ || count == 0)
    return;
  const BlockId node = sequence.shared > 0 ? sequence.tables[0].back () : sequence.root;
  const auto [source, agree] = tree_.closest (node, tokens.subspan (begin, count));
  if (agree == 0)
    return;
  for (int group = 0; group < groups (); group++) {
    if (tree_.block (group, source) == kNoBlock)
      return;
  }
  for (int group = 0; group < groups (); group++)
    tree_.pin (group, source); // the room for the copy must not come from the original
  bool room = true;
  for (int group = 0; group < groups (); group++)
    room &= available (group) > 0;
  for (int group = 0; room && group < groups (); group++) {
    table (sequence, group).push_back (allocate (group));
    context_.copy_block (group, tree_.block (group, source), table (sequence, group).back ());
  }
  for (int group = groups (); group-- > 0;)
    tree_.unpin (group, source);
  if (!room)
    return;
  statistics_.copied_blocks++;
  sequence.tokens += agree;
}

int
KvCache::pinned_blocks (std::span<const TokenId> tokens, BlockId root) const
{
  const int limit = (static_cast<int> (tokens.size ()) - 1) / kBlockTokens;
  BlockId node = root;
  for (int depth = 0; depth < limit; depth++) {
    node = tree_.find (node, block_of (tokens, depth));
    if (node == kNoBlock || tree_.pins (0, node) == 0)
      return depth;
  }
  return limit;
}

/// Asked for in every step, while it changes only with each block.
const BlockHash &
KvCache::next_hash (SequenceKv &sequence, std::span<const TokenId> tokens) const
{
  if (sequence.hashed != sequence.shared) {
    const auto shared = static_cast<size_t> (sequence.shared);
    sequence.next_hash = tree_.hash_of (shared > 0 ? sequence.tables[0][shared - 1] : sequence.root,
                                        block_of (tokens, sequence.shared));
    sequence.hashed = sequence.shared;
  }
  return sequence.next_hash;
}

bool
KvCache::next_block (SequenceKv &sequence, std::span<const TokenId> tokens, BlockHash &block) const
{
  if (!settings_.prefix_cache || (static_cast<size_t> (sequence.shared) + 1) * kBlockTokens >= tokens.size ())
    return false;
  block = next_hash (sequence, tokens);
  return true;
}

// --- growing --------------------------------------------------------------------------------------

void
KvCache::commit (SequenceKv &sequence, std::span<const TokenId> tokens, bool generated)
{
  sequence.tokens = static_cast<int> (tokens.size ());
  if (settings_.prefix_cache) {
    while ((sequence.shared + 1) * kBlockTokens <= sequence.tokens)
      share_block (sequence, block_of (tokens, sequence.shared));
    if (recurrent_ && sequence.tokens > 0 && sequence.tokens % kBlockTokens == 0)
      take_snapshot (sequence, generated);
  }
  leave_windows (sequence);
}

// The sequence's first own block is full: it goes to the tree. Where the tree has the same tokens already (two
// sequences computed them in the same step) one copy is enough; their bits are equal.
void
KvCache::share_block (SequenceKv &sequence, std::span<const TokenId> tokens)
{
  const auto index = static_cast<size_t> (sequence.shared);
  const BlockId parent = index > 0 ? sequence.tables[0][index - 1] : sequence.root;
  const BlockId own = sequence.tables[0][index];
  BlockId node = tree_.find (parent, tokens);
  if (node == kNoBlock) {
    drop_redundant (parent, tokens);
    tree_.insert (own, parent, tokens);
    node = own;
  } else {
    pool (0).release (own);
    sequence.tables[0][index] = node;
  }
  tree_.pin (0, node);
  for (int group = 1; group < groups (); group++) {
    if (!is_window (group))
      continue;
    BlockId &entry = table (sequence, group)[index];
    if (tree_.block (group, node) == kNoBlock) {
      tree_.add_block (group, node, entry);
    } else {
      pool (group).release (entry);
      entry = tree_.block (group, node);
    }
    tree_.pin (group, node);
  }
  sequence.shared++;
}

/// A partial block that a new one begins with says nothing more.
void
KvCache::drop_redundant (BlockId parent, std::span<const TokenId> tokens)
{
  const auto [node, agree] = tree_.closest (parent, tokens);
  if (node == kNoBlock || agree < static_cast<int> (tree_.tokens (node).size ()) || tree_.pins (0, node) > 0)
    return;
  for (int group = 1; group < groups (); group++) {
    if (tree_.block (group, node) != kNoBlock)
      pool (group).release (tree_.remove_block (group, node));
  }
  tree_.erase (node);
  pool (0).release (node);
}

void
KvCache::leave_windows (SequenceKv &sequence)
{
  for (int group = 1; group < groups (); group++) {
    if (!is_window (group))
      continue;
    auto &blocks = table (sequence, group);
    int &begin = sequence.window_begin[static_cast<size_t> (group)];
    const int end = std::min (first_needed (group, sequence.tokens), static_cast<int> (blocks.size ()));
    for (; begin < end; begin++) {
      BlockId &entry = blocks[static_cast<size_t> (begin)];
      if (entry == kNoBlock)
        continue;
      if (begin < sequence.shared)
        tree_.unpin (group, sequence.tables[0][static_cast<size_t> (begin)]);
      else
        pool (group).release (entry);
      entry = kNoBlock;
    }
  }
}

// Prompts leave a snapshot at the end of each chunk; generated text one that moves along with it.
void
KvCache::take_snapshot (SequenceKv &sequence, bool generated)
{
  const BlockId node = sequence.tables[0][static_cast<size_t> (sequence.shared) - 1];
  const BlockId previous = sequence.snapshot_node;
  for (int group = 1; group < groups (); group++) {
    if (!is_recurrent (group) || tree_.block (group, node) != kNoBlock)
      continue;
    BlockId block = kNoBlock;
    if (generated && previous != kNoBlock && tree_.block (group, previous) != kNoBlock)
      block = tree_.remove_block (group, previous);
    else
      block = allocate (group);
    if (block == kNoBlock)
      continue;
    context_.copy_block (group, table (sequence, group)[0], block);
    tree_.add_block (group, node, block);
  }
  sequence.snapshot_node = generated ? node : kNoBlock;
}

void
KvCache::restore_checkpoint (SequenceKv &sequence, int tokens)
{
  for (int group = 1; group < groups (); group++) {
    if (is_recurrent (group))
      std::swap (table (sequence, group)[0], table (sequence, group)[1]);
  }
  sequence.tokens = tokens;
}

// --- ending ---------------------------------------------------------------------------------------

/// The last block, not full, becomes a leaf: the next turn of a conversation begins inside it.
void
KvCache::cache_tail (SequenceKv &sequence, std::span<const TokenId> tokens)
{
  const auto begin = static_cast<size_t> (sequence.shared) * kBlockTokens;
  if (recurrent_ || tokens.size () <= begin)
    return;
  const auto tail = tokens.subspan (begin);
  const auto index = static_cast<size_t> (sequence.shared);
  const BlockId parent = index > 0 ? sequence.tables[0][index - 1] : sequence.root;
  if (const auto [node, agree] = tree_.closest (parent, tail); agree == static_cast<int> (tail.size ()))
    return;
  drop_redundant (parent, tail);
  const BlockId own = sequence.tables[0][index];
  tree_.insert (own, parent, tail);
  sequence.tables[0][index] = kNoBlock;
  for (int group = 1; group < groups (); group++)
    tree_.add_block (group, own, std::exchange (table (sequence, group)[index], kNoBlock));
}

void
KvCache::release (SequenceKv &sequence, std::span<const TokenId> tokens)
{
  assert (static_cast<int> (tokens.size ()) == sequence.tokens);
  if (settings_.prefix_cache)
    cache_tail (sequence, tokens);
  const auto shared = static_cast<size_t> (sequence.shared);
  for (int group = groups (); group-- > 0;) {
    auto &blocks = table (sequence, group);
    const size_t pinned = is_recurrent (group) ? 0 : shared;
    for (size_t i = blocks.size (); i-- > 0;) { // from the end: a node must not be older than its children
      if (blocks[i] == kNoBlock)
        continue;
      if (i < pinned)
        tree_.unpin (group, sequence.tables[0][i]);
      else
        pool (group).release (blocks[i]);
    }
    if (group > 0)
      blocks.clear ();
  }
  sequence.tables[0].clear ();
  sequence.tokens = sequence.shared = 0;
  sequence.hashed = -1;
  sequence.window_begin.fill (0);
  sequence.snapshot_node = kNoBlock;
}

BlockCounts
KvCache::releasable (const SequenceKv &sequence) const
{
  BlockCounts counts{};
  for (int group = 0; group < groups (); group++) {
    const auto g = static_cast<size_t> (group);
    const auto &blocks = sequence.tables[g];
    if (is_recurrent (group)) {
      counts[g] = static_cast<int> (blocks.size ());
      continue;
    }
    int count = static_cast<int> (blocks.size ()) - std::max (sequence.shared, sequence.window_begin[g]);
    // Towards the end of a path fewer and fewer sequences share it. (Not so in windows: too few are counted.)
    for (int i = sequence.shared; i-- > sequence.window_begin[g];) {
      if (tree_.pins (group, sequence.tables[0][static_cast<size_t> (i)]) > 1)
        break;
      count++;
    }
    counts[g] = count;
  }
  return counts;
}

} // namespace millrace
