// Blocks of the KV cache to and from the disk. A payload is the node's blocks of all groups that it has, in order of
// the groups; the tag says which.
#include "engine/kv/kv_cache.hpp"

namespace millrace
{

/// The child of `parent` with these tokens from the disk, unpinned, or kNoBlock.
BlockId
KvCache::load (BlockId parent, std::span<const TokenId> tokens)
{
  const DiskId parent_id = is_root (parent) ? DiskId{} : tree_.disk_id (parent);
  if (!settings_.disk || (!is_root (parent) && parent_id == DiskId{}) || available (0) == 0)
    return kNoBlock;
  const auto loaded = settings_.disk->load (tree_.hash_of (parent, tokens), parent_id, tokens, payload_);
  if (!loaded)
    return kNoBlock;
  size_t expected = 0;
  for (int group = 0; group < groups (); group++)
    expected += loaded->tag >> group & 1 ? group_of (group).block_bytes : 0;
  if (payload_.size () != expected || !(loaded->tag & 1) || loaded->tag >> groups () != 0)
    return kNoBlock;

  const BlockId node = allocate (0);
  tree_.insert (node, parent, tokens);
  tree_.set_disk_id (node, loaded->id, loaded->tag);
  tree_.pin (0, node); // room for its other blocks must not come from itself
  std::span<const std::byte> rest = payload_;
  for (int group = 0; group < groups (); group++) {
    if (!(loaded->tag >> group & 1))
      continue;
    const auto bytes = rest.first (group_of (group).block_bytes);
    rest = rest.subspan (bytes.size ());
    const BlockId block = group == 0 ? node : allocate (group);
    if (block == kNoBlock)
      continue;
    context_.write_block (group, block, bytes);
    if (group > 0)
      tree_.add_block (group, node, block);
  }
  tree_.unpin (0, node);
  return node;
}

/// True when all the node has is on disk or in the queue.
bool
KvCache::save_node (BlockId node)
{
  uint32_t tag = 0;
  for (int group = 0; group < groups (); group++)
    tag |= static_cast<uint32_t> (tree_.block (group, node) != kNoBlock) << group;
  if (tree_.disk_id (node) != DiskId{} && (tag & ~tree_.disk_groups (node)) == 0)
    return true;
  const BlockId parent = tree_.parent (node);
  const DiskId parent_id = is_root (parent) ? DiskId{} : tree_.disk_id (parent);
  if (!is_root (parent) && parent_id == DiskId{})
    return false;
  payload_.clear ();
  for (int group = 0; group < groups (); group++) {
    const BlockId block = tree_.block (group, node);
    if (block == kNoBlock)
      continue;
    const size_t begin = payload_.size ();
    payload_.resize (begin + group_of (group).block_bytes);
    context_.read_block (group, block, std::span (payload_).subspan (begin));
  }
  const auto id = settings_.disk->save (tree_.hash (node), parent_id, tree_.tokens (node), tag, payload_);
  if (id)
    tree_.set_disk_id (node, *id, tag);
  return id.has_value ();
}

void
KvCache::save (const SequenceKv &sequence)
{
  if (!settings_.disk)
    return;
  for (int i = 0; i < sequence.shared; i++) {
    if (!save_node (sequence.tables[0][static_cast<size_t> (i)]))
      return;
  }
}

void
KvCache::save_all ()
{
  if (!settings_.disk)
    return;
  for (const BlockId node : tree_.nodes_by_depth ()) {
    if (tree_.tokens (node).size () < kBlockTokens)
      continue; // partial blocks are never looked for by hash
    if (!save_node (node)) {
      settings_.disk->flush (); // the queue was full
      save_node (node);
    }
  }
  settings_.disk->flush ();
}

} // namespace millrace
