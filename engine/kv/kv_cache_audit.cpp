// The books of the KV cache, checked from all sides. For tests: linear in the size of the cache.
#include "engine/kv/kv_cache.hpp"

#include <map>

namespace millrace
{

std::string
KvCache::inconsistency (std::span<const SequenceKv *const> sequences) const
{
  const auto text = [] (const char *what, int group, BlockId block) {
    return std::string (what) + ": group " + std::to_string (group) + ", block " + std::to_string (block);
  };
  const std::vector<BlockId> nodes = tree_.nodes_by_depth ();

  for (int group = 0; group < groups (); group++) {
    const auto g = static_cast<size_t> (group);
    std::vector<int> owners (static_cast<size_t> (size (group)));
    std::map<BlockId, int> pins; // by node
    for (const SequenceKv *sequence : sequences) {
      const auto &blocks = sequence->tables[g];
      const int shared = is_recurrent (group) ? 0 : sequence->shared;
      for (int i = 0; i < static_cast<int> (blocks.size ()); i++) {
        const BlockId block = blocks[static_cast<size_t> (i)];
        if (block == kNoBlock) {
          if (i >= sequence->window_begin[g])
            return text ("a sequence lacks a block it reads", group, i);
        } else if (i >= shared) {
          owners[static_cast<size_t> (block)]++;
        } else {
          const BlockId node = sequence->tables[0][static_cast<size_t> (i)];
          if (!tree_.contains (node) || tree_.block (group, node) != block)
            return text ("a sequence reads a block that is not its node's", group, block);
          pins[node]++;
        }
      }
    }
    int unpinned = 0;
    for (const BlockId node : nodes) {
      const BlockId block = tree_.block (group, node);
      if (block == kNoBlock)
        continue;
      owners[static_cast<size_t> (block)]++;
      unpinned += tree_.pins (group, node) == 0;
      if (tree_.pins (group, node) != pins[node])
        return text ("pins without sequences", group, block);
      const BlockId parent = tree_.parent (node);
      if (group == 0 && !is_root (parent) && tree_.pins (0, parent) < tree_.pins (0, node))
        return text ("a parent with fewer pins than its child", group, node);
    }
    if (unpinned != cached (group))
      return text ("unpinned blocks not counted", group, unpinned);
    for (BlockId block = 0; block < size (group); block++)
      owners[static_cast<size_t> (block)] += pool (group).is_free (block);
    for (BlockId block = 0; block < size (group); block++) {
      if (owners[static_cast<size_t> (block)] != 1)
        return text (owners[static_cast<size_t> (block)] ? "more than one owner" : "no owner", group, block);
    }
  }
  return {};
}

} // namespace millrace
