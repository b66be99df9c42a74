// The KV cache of one scheduler: who holds which block, what can be shared, what can be given up.
//
// Every block has exactly one owner: the free list of its group, a sequence, or a node of the prefix tree. A
// sequence owns the blocks it still writes; when a block is full it goes to the tree, where the sequence pins it
// beside all others that read it, so equal prefixes are kept once. A sequence that begins inside a cached
// block takes a copy and writes on in that (copy on write). Full blocks outside a window group's window are
// unpinned or freed at once. Recurrent state is kept as snapshots on nodes; a sequence works on a copy.
//
// Blocks are given up in this order: free ones, then unpinned ones, least recently used first. Pinned blocks are
// never taken; the scheduler chooses whom to preempt.
//
// One thread, the decode thread. Nothing here throws once constructed, except std::bad_alloc.
#pragma once

#include "engine/kv/block_pool.hpp"
#include "engine/kv/disk_store.hpp"
#include "engine/kv/prefix_tree.hpp"

#include <array>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace millrace
{

/// A sequence's part of the cache. Only KvCache writes it, but for the root; stages read the tables.
struct SequenceKv {
  /// Block tables as Slice::blocks wants them. A recurrent group has two entries: the state, and the checkpoint
  /// that rejected drafts go back to.
  std::array<std::vector<BlockId>, kMaxKvGroups> tables;
  BlockId root = root_of (0);                   ///< set before attach (); sequences of one root share KV
  int tokens = 0;                               ///< leading positions whose KV is valid
  int shared = 0;                               ///< leading entries that belong to the tree and are pinned
  std::array<int, kMaxKvGroups> window_begin{}; ///< entries before it are given up; 0 but for window groups
  BlockId snapshot_node = kNoBlock;             ///< where the last snapshot of generated text was put
  int hashed = -1;                              ///< entry that next_hash is of
  BlockHash next_hash;                          ///< of the block after the shared ones
};

struct KvStatistics {
  uint64_t lookups = 0, lookup_tokens = 0;      ///< attaches, and the tokens they could have found
  uint64_t hit_tokens = 0, disk_hit_tokens = 0; ///< found; the second are part of the first
  uint64_t copied_blocks = 0;                   ///< copy on write
  uint64_t evicted_blocks = 0;                  ///< cached ones given up for others
};

struct KvCacheSettings {
  bool prefix_cache = true;
  std::unique_ptr<DiskStore> disk; ///< or null
};

class KvCache
{
public:
  /// `blocks` of each group, at least 1. `context` outlives the cache.
  KvCache (const KvLayout &layout, const BlockCounts &blocks, ExecutionContext &context,
           KvCacheSettings settings);

  int groups () const { return static_cast<int> (layout_.size ()); }
  const KvLayout &layout () const { return layout_; }
  int size (int group) const { return pool (group).size (); }
  int free (int group) const { return pool (group).free (); }
  int cached (int group) const { return tree_.unpinned (group); } ///< can be reclaimed
  int available (int group) const { return free (group) + cached (group); }
  size_t bytes () const; ///< of all blocks of all groups
  const KvStatistics &statistics () const { return statistics_; }
  const PrefixTree &tree () const { return tree_; }
  DiskStore *disk () { return settings_.disk.get (); }

  /// Gives an empty sequence what is cached of tokens [0, tokens.size () - 1): the last token is always computed.
  /// False, with nothing held, when even its recurrent state finds no room.
  bool attach (SequenceKv &sequence, std::span<const TokenId> tokens);
  /// The same for a sequence that has computed whole blocks so far: others may have gone further on the
  /// same tokens. Returns the tokens gained.
  int extend (SequenceKv &sequence, std::span<const TokenId> tokens);
  /// Leading blocks of `tokens` that running sequences hold: they cost a newcomer nothing.
  int pinned_blocks (std::span<const TokenId> tokens, BlockId root = root_of (0)) const;
  /// The full block that the sequence is at, as one value; equal only for sequences that compute the same block of
  /// the same prefix. False: what is left of `tokens` does not fill one.
  bool next_block (SequenceKv &sequence, std::span<const TokenId> tokens, BlockHash &block) const;

  /// Makes the tables cover `length` positions; gives up cached blocks where needed. False, and nothing
  /// changed, when available () does not suffice.
  bool reserve (SequenceKv &sequence, int length);
  /// KV of tokens [0, tokens.size ()) is valid and stays; full blocks become shared. `generated`: the last of them
  /// were generated, not part of the prompt.
  void commit (SequenceKv &sequence, std::span<const TokenId> tokens, bool generated);
  /// Rejected drafts have spoilt recurrent state: goes back to the checkpoint taken by verify () at
  /// position `tokens`. Positional blocks keep their contents. Constant time.
  void restore_checkpoint (SequenceKv &sequence, int tokens);
  /// Gives all back; `tokens` are those of [0, sequence.tokens). What is worth keeping stays cached.
  void release (SequenceKv &sequence, std::span<const TokenId> tokens);
  /// Queues a sequence's full blocks for the disk.
  void save (const SequenceKv &sequence);
  /// Writes everything cached to disk and waits for it; newest paths are kept when the disk's limit is reached.
  void save_all ();

  /// Blocks of each group that release () would make available.
  BlockCounts releasable (const SequenceKv &sequence) const;
  bool has_recurrent () const { return recurrent_; }

  /// What is wrong with the books, for tests; empty when every block has one owner and every pin a sequence.
  std::string inconsistency (std::span<const SequenceKv *const> sequences) const;

private:
  const BlockPool &pool (int group) const { return pools_[static_cast<size_t> (group)]; }
  BlockPool &pool (int group) { return pools_[static_cast<size_t> (group)]; }
  const KvGroup &group_of (int group) const { return layout_[static_cast<size_t> (group)]; }
  bool is_window (int group) const { return group_of (group).kind == KvGroup::Kind::kWindow; }
  bool is_recurrent (int group) const { return group_of (group).kind == KvGroup::Kind::kRecurrent; }
  std::vector<BlockId> &table (SequenceKv &sequence, int group) const
  {
    return sequence.tables[static_cast<size_t> (group)];
  }
  int entries_for (int group, int length) const { return table_size (group_of (group), length); }
  int first_needed (int group, int tokens) const;

  BlockId allocate (int group);
  void evict_node ();
  const BlockHash &next_hash (SequenceKv &sequence, std::span<const TokenId> tokens) const;
  int usable_blocks (const SequenceKv &sequence) const;
  int take_cached (SequenceKv &sequence, std::span<const TokenId> tokens);
  void take_partial (SequenceKv &sequence, std::span<const TokenId> tokens);
  BlockId load (BlockId parent, std::span<const TokenId> tokens);
  bool save_node (BlockId node);
  void share_block (SequenceKv &sequence, std::span<const TokenId> tokens);
  void leave_windows (SequenceKv &sequence);
  void take_snapshot (SequenceKv &sequence, bool generated);
  void cache_tail (SequenceKv &sequence, std::span<const TokenId> tokens);
  void drop_redundant (BlockId parent, std::span<const TokenId> tokens);

  KvLayout layout_;
  std::vector<BlockPool> pools_;
  ExecutionContext &context_;
  KvCacheSettings settings_;
  PrefixTree tree_;
  bool recurrent_ = false;
  KvStatistics statistics_;
  std::vector<BlockId> path_; // scratch of take_cached
  std::vector<std::byte> payload_;
};

} // namespace millrace
