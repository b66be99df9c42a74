// Files of cached KV blocks in their directory: opening, reading, writing, listing. No state, no threads.
//
// DIRECTORY/AB/ABCD….kv is a block, DIRECTORY/AB/….tmp one that is being written. Other names are never touched.
// Files and folders are the user's own (0600, 0700): they hold what was said.
#pragma once

#include "engine/kv/disk_format.hpp"

namespace millrace
{

/// The 32 hexadecimal digits of a file's name.
using DiskName = std::array<uint64_t, 2>;

std::filesystem::path block_path (const std::filesystem::path &directory, const DiskName &name);

/// Random but for the block's depth, one more than the parent's. Nothing when the system has no random numbers.
std::optional<DiskId> new_disk_id (const DiskId &parent);

/// A file descriptor.
class Descriptor
{
public:
  Descriptor () = default;
  Descriptor (const Descriptor &) = delete;
  Descriptor &operator= (const Descriptor &) = delete;
  ~Descriptor () { close (); }

  /// False, with errno, when the system could not keep what was written (a network's or a quota's late answer).
  bool close ();

  int value = -1;
};

enum class Found : uint8_t { kNothing, kBroken, kForeign, kSound };

/// A block's file, opened for reading.
struct BlockFile {
  Descriptor file;
  Found found = Found::kNothing; ///< by its header and its size
  bool regular = false;
  DiskHeader header; ///< when sound
  uint64_t payload_at = 0;
};

void open_block (const std::filesystem::path &path, BlockFile &block);
/// False when the payload is broken.
bool read_payload (const BlockFile &block, std::vector<std::byte> &payload);
/// Says that the block was used just now.
void mark_used (const BlockFile &block);

/// Sets the header's payload_bytes and payload_checksum, and `file_bytes`. Returns 0 or errno.
int write_block (const std::filesystem::path &directory, const DiskName &name, DiskHeader header,
                 std::span<const std::byte> payload, uint64_t &file_bytes);

struct DiskEntry {
  DiskName name;
  uint64_t bytes = 0;
  std::array<int64_t, 2> used{}; ///< seconds, nanoseconds
};

/// All blocks' files; what cannot be read or goes away meanwhile is left out. Removes temporary files that no living
/// process can still be writing.
std::vector<DiskEntry> list_blocks (const std::filesystem::path &directory);

} // namespace millrace
