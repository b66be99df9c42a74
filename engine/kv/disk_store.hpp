// Cached KV blocks on disk: what one run has computed, the next need not.
//
// A directory holds one file for each block. The file's name is made of the hash of all tokens up to the block's
// end, but no hash is ever trusted: a block is taken only when the identity (model, layout, version), its own tokens
// and the unique id of the file that holds the block before it are equal, and the checksums fit. Unique ids are
// random, so equal chains of them mean equal tokens. Files are written beside and renamed, so a torn write is
// never seen under a block's name; whatever does not fit is a miss. Trouble while writing is a warning and
// costs only the saving. Checksums find accidents, not forgery: who may write to the directory is trusted.
//
// load (), save (), flush () and take_warning () from one thread; statistics () from any. A thread of the store's
// own writes and removes, with all signals blocked. Several processes and several stores may share a directory; two
// that compute the same block at the same time both write it, the last one stays, and what the other saved after
// its own is a miss later.
#pragma once

#include "engine/backend/backend.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace millrace
{

/// Of all tokens from the start of a sequence to the end of a block.
struct BlockHash {
  uint64_t low = 0, high = 0;
  bool operator== (const BlockHash &) const = default;
};

/// Of a block in a file; all zero: none, the parent of a first block. Random but for 16 bits that count its depth.
using DiskId = std::array<uint64_t, 2>;

struct DiskStoreSettings {
  std::filesystem::path directory; ///< made when it is missing
  std::string identity;            ///< of model and layout; compared whole, at most 64 KiB
  uint64_t max_bytes =
      uint64_t{8} << 30; ///< of all files; the ones used longest ago go first, of a chain the last
  size_t max_queue_bytes = 64u << 20; ///< payload that waits to be written or is; more is dropped and counted
  size_t max_payload_bytes = 0;       ///< of one block; larger ones are neither saved nor loaded
};

struct DiskStoreStatistics {
  uint64_t hits = 0, misses = 0;
  uint64_t damaged = 0; ///< of the misses: the file was broken (and has been removed)
  uint64_t written = 0, dropped = 0, failed = 0;
  uint64_t bytes =
      0; ///< on disk, of this identity or any other; what others wrote since the last look is not in it
};

class DiskStore
{
public:
  /// Throws LoadError when the directory cannot be made or read. One that cannot be written to is of use for reading.
  explicit DiskStore (const DiskStoreSettings &settings);
  /// Writes what is queued, then returns.
  ~DiskStore ();

  struct Loaded {
    DiskId id;
    uint32_t tag = 0; ///< as given to save ()
  };
  /// Reads a block into `payload` (resized), from the queue if it is still there. Nothing: compute it; `payload` is
  /// empty then.
  std::optional<Loaded> load (const BlockHash &hash, const DiskId &parent, std::span<const TokenId> tokens,
                              std::vector<std::byte> &payload);
  /// Queues a block for writing; the payload is copied. The id by which blocks after it name it, whether this block
  /// is new or was there (it is written again under the same id if this payload is larger); nothing when the queue is
  /// full (then saving its successors is pointless too).
  std::optional<DiskId> save (const BlockHash &hash, const DiskId &parent, std::span<const TokenId> tokens,
                              uint32_t tag, std::span<const std::byte> payload);
  /// Waits until the queue is written and old files are removed.
  void flush ();

  DiskStoreStatistics statistics () const;
  /// What went wrong since the last call, for the user; empty mostly. The same trouble is told once.
  std::string take_warning ();

private:
  struct State;
  std::unique_ptr<State> state_;
};

} // namespace millrace
