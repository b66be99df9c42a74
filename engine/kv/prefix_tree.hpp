// Which cached blocks hold which tokens: a tree of blocks, shared by every sequence that begins alike.
//
// A node is a block of group 0 and bears its id. It stands for the tokens from the start of a sequence to its own
// last one; a full node has kBlockTokens tokens and may have children, a partial one (the tail of a sequence that
// ended) has fewer and none. Full blocks are found by a hash over the whole prefix, then compared token by
// token, parent included: a hash alone decides nothing. The longest partial match is a neighbour in the order of
// siblings. Blocks of other groups hang on the node of the same tokens.
//
// Sequences pin what they read. Unpinned blocks stay until oldest () gives them up, least recently used first; a
// path is let go from its end, so what many share goes last, and a node never goes before its children.
//
// One thread. Holds ids only: no memory of the backend. Allocates nothing once it is constructed.
// Source: prefix sharing over block hashes as in vLLM (automatic prefix caching), over a tree as in SGLang
// (RadixAttention, arXiv 2312.07104).
#pragma once

#include "engine/backend/backend.hpp"
#include "engine/kv/disk_store.hpp"

#include <array>
#include <memory_resource>
#include <set>
#include <span>
#include <vector>

namespace millrace
{

/// The parent of first blocks, which is no node. Sequences whose KV is computed in another way for equal tokens have a root
/// of their own.
constexpr BlockId
root_of (int variant)
{
  return kNoBlock - variant;
}

constexpr bool
is_root (BlockId parent)
{
  return parent <= kNoBlock;
}

class PrefixTree
{
public:
  /// For block ids of group 0 in [0, blocks); `groups` kinds of blocks.
  PrefixTree (int blocks, int groups);
  PrefixTree (const PrefixTree &) = delete;
  PrefixTree &operator= (const PrefixTree &) = delete;

  // Nodes, and root_of () as a parent.
  BlockId parent (BlockId node) const { return at (node).parent; }
  std::span<const TokenId> tokens (BlockId node) const
  {
    return std::span (at (node).tokens).first (static_cast<size_t> (at (node).count));
  }
  int depth (BlockId node) const { return is_root (node) ? 0 : at (node).depth; } ///< blocks from the root
  const BlockHash &hash (BlockId node) const { return at (node).hash; }
  bool contains (BlockId node) const { return at (node).depth > 0; }
  int size () const { return static_cast<int> (siblings_.size ()); }

  /// The child of `parent` with exactly these kBlockTokens tokens, or kNoBlock.
  BlockId find (BlockId parent, std::span<const TokenId> tokens) const
  {
    return find (parent, tokens, hash_of (parent, tokens));
  }
  /// With `hash` = hash_of (parent, tokens).
  BlockId find (BlockId parent, std::span<const TokenId> tokens, const BlockHash &hash) const;
  BlockHash hash_of (BlockId parent, std::span<const TokenId> tokens) const;

  struct Closest {
    BlockId node = kNoBlock;
    int tokens = 0; ///< that agree
  };
  /// The child of `parent` that agrees with most leading `tokens`.
  Closest closest (BlockId parent, std::span<const TokenId> tokens) const;

  /// Adds block `id` of group 0, unpinned and most recently used. 1 … kBlockTokens tokens that no sibling has.
  void insert (BlockId id, BlockId parent, std::span<const TokenId> tokens);
  /// Removes an unpinned node without children and without blocks of other groups.
  void erase (BlockId node);

  /// The block of a group that holds the node's tokens; kNoBlock: none (any more). Group 0: the node itself.
  BlockId block (int group, BlockId node) const { return at (node).blocks[index (group)]; }
  /// Hangs a block on a node that has none of this group, unpinned and most recently used.
  void add_block (int group, BlockId node, BlockId block);
  /// Takes an unpinned block of a group other than 0 off its node.
  BlockId remove_block (int group, BlockId node);

  int pins (int group, BlockId node) const { return at (node).uses[index (group)].pins; }
  void pin (int group, BlockId node);
  void unpin (int group, BlockId node);
  /// The node whose unpinned block of this group was used longest ago, or kNoBlock. Of group 0: without children.
  BlockId oldest (int group) const { return lists_[index (group)].oldest; }
  /// Nodes with an unpinned block of this group.
  int unpinned (int group) const { return lists_[index (group)].count; }

  const DiskId &disk_id (BlockId node) const { return at (node).disk_id; }
  /// The groups (one bit each) whose blocks the file holds.
  uint32_t disk_groups (BlockId node) const { return at (node).disk_groups; }
  void set_disk_id (BlockId node, const DiskId &id, uint32_t groups)
  {
    at (node).disk_id = id;
    at (node).disk_groups = groups;
  }

  /// All nodes, parents before their children. Allocates.
  std::vector<BlockId> nodes_by_depth () const;

private:
  struct Use { // of a node's block of one group
    int pins = 0;
    BlockId older = kNoBlock, newer = kNoBlock; // while unpinned
  };
  struct Node {
    BlockId parent = kNoBlock;
    int depth = 0; // 0: not in the tree
    int count = 0;
    int children = 0;
    std::array<TokenId, kBlockTokens> tokens;
    BlockHash hash;
    std::array<BlockId, kMaxKvGroups> blocks;
    std::array<Use, kMaxKvGroups> uses;
    DiskId disk_id{};
    uint32_t disk_groups = 0;
  };
  struct List {
    BlockId oldest = kNoBlock, newest = kNoBlock;
    int count = 0;
  };
  struct Key {
    BlockId parent;
    std::span<const TokenId> tokens;
  };
  struct BySiblings { // by parent, then tokens in lexicographic order
    using is_transparent = void;
    const PrefixTree *tree;
    Key key (BlockId node) const { return {tree->at (node).parent, tree->tokens (node)}; }
    static bool less (const Key &a, const Key &b);
    bool operator() (BlockId a, BlockId b) const { return less (key (a), key (b)); }
    bool operator() (const Key &a, BlockId b) const { return less (a, key (b)); }
    bool operator() (BlockId a, const Key &b) const { return less (key (a), b); }
  };

  static size_t index (int i) { return static_cast<size_t> (i); }
  const Node &at (BlockId node) const { return nodes_[static_cast<size_t> (node)]; }
  Node &at (BlockId node) { return nodes_[static_cast<size_t> (node)]; }
  void list_append (int group, BlockId node);
  void list_remove (int group, BlockId node);
  size_t home (const BlockHash &hash) const { return hash.low & (table_.size () - 1); }
  void table_insert (BlockId node);
  void table_erase (BlockId node);

  int groups_;
  std::vector<Node> nodes_;    // by block id
  std::vector<BlockId> table_; // full nodes by hash; linear probing, at most half full
  std::array<List, kMaxKvGroups> lists_;
  std::pmr::monotonic_buffer_resource arena_; // all that siblings_ can need
  std::pmr::unsynchronized_pool_resource memory_;
  std::pmr::set<BlockId, BySiblings> siblings_;
};

} // namespace millrace
