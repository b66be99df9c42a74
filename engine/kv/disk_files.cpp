// Files of cached KV blocks. Everything found in the directory is taken for hostile: other kinds of files, names that
// are not ours, contents of any length.
#include "engine/kv/disk_files.hpp"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <string_view>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace fs = std::filesystem;

namespace millrace
{

namespace
{

constexpr std::string_view kBlockSuffix = ".kv";
constexpr std::string_view kTemporarySuffix = ".tmp";
constexpr int64_t kTemporarySeconds = 3600; ///< one that is older has been left behind
constexpr int64_t kMaxDepthSeconds = 1800;  ///< less than kTemporarySeconds
constexpr uint64_t kDepthMask = 0xffff;     ///< of the last half of an id: the block's depth

std::string
hexadecimal (const DiskName &name)
{
  std::string text;
  for (const uint64_t half : name) {
    for (int shift = 60; shift >= 0; shift -= 4)
      text += "0123456789abcdef"[half >> shift & 15];
  }
  return text;
}

/// The reverse of hexadecimal () + suffix.
bool
parse_name (std::string_view text, std::string_view suffix, DiskName &name)
{
  if (text.size () != 32 + suffix.size () || !text.ends_with (suffix))
    return false;
  name = {};
  for (size_t i = 0; i < 32; ++i) {
    const size_t digit = std::string_view ("0123456789abcdef").find (text[i]);
    if (digit == std::string_view::npos)
      return false;
    name[i / 16] = name[i / 16] << 4 | digit;
  }
  return true;
}

/// Says that a block was used just now. A block is useless without those before it, which are read and written
/// earlier and would be removed first; so each counts as used one second before its parent.
void
set_used (int file, const DiskId &id)
{
  timespec now;
  clock_gettime (CLOCK_REALTIME, &now);
  now.tv_sec -= std::min (static_cast<int64_t> (id[1] & kDepthMask), kMaxDepthSeconds);
  const timespec times[2] = {now, now};
  futimens (file, times); // another user's file: it keeps its age
}

bool
read_at (int file, std::span<std::byte> out, uint64_t offset)
{
  while (!out.empty ()) {
    const ssize_t got = pread (file, out.data (), out.size (), static_cast<off_t> (offset));
    if (got < 0 && errno == EINTR)
      continue;
    if (got <= 0)
      return false;
    out = out.subspan (static_cast<size_t> (got));
    offset += static_cast<uint64_t> (got);
  }
  return true;
}

/// 0 or errno.
int
write_all (int file, std::span<const std::byte> bytes)
{
  while (!bytes.empty ()) {
    const ssize_t put = write (file, bytes.data (), bytes.size ());
    if (put < 0 && errno == EINTR)
      continue;
    if (put <= 0)
      return put < 0 ? errno : EIO;
    bytes = bytes.subspan (static_cast<size_t> (put));
  }
  return 0;
}

} // namespace

fs::path
block_path (const fs::path &directory, const DiskName &name)
{
  const std::string text = hexadecimal (name);
  return directory / text.substr (0, 2) / (text + std::string (kBlockSuffix));
}

std::optional<DiskId>
new_disk_id (const DiskId &parent)
{
  DiskId id;
  if (getentropy (id.data (), sizeof id) != 0)
    return std::nullopt;
  id[1] = (id[1] & ~kDepthMask) | std::min ((parent[1] & kDepthMask) + 1, kDepthMask);
  return id;
}

bool
Descriptor::close ()
{
  return value < 0 || ::close (std::exchange (value, -1)) == 0;
}

void
open_block (const fs::path &path, BlockFile &block)
{
  // O_NONBLOCK: a pipe under a block's name must not hang; regular files ignore it.
  block.file.value = open (path.c_str (), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY);
  struct stat info;
  if (block.file.value < 0 || fstat (block.file.value, &info) != 0)
    return;
  block.found = Found::kBroken;
  block.regular = S_ISREG (info.st_mode);
  std::array<std::byte, kDiskPrefixBytes> prefix;
  if (!block.regular || !read_at (block.file.value, prefix, 0))
    return;
  size_t header_bytes = 0;
  const DiskVerdict verdict = decode_disk_prefix (prefix, header_bytes);
  if (verdict == DiskVerdict::kForeign)
    block.found = Found::kForeign;
  if (verdict != DiskVerdict::kSound || header_bytes > static_cast<uint64_t> (info.st_size))
    return;
  std::vector<std::byte> bytes (header_bytes);
  if (!read_at (block.file.value, bytes, 0) || !decode_disk_header (bytes, block.header) ||
      block.header.payload_bytes != static_cast<uint64_t> (info.st_size) - header_bytes)
    return;
  block.payload_at = header_bytes;
  block.found = Found::kSound;
}

bool
read_payload (const BlockFile &block, std::vector<std::byte> &payload)
{
  payload.resize (block.header.payload_bytes);
  return read_at (block.file.value, payload, block.payload_at) &&
         disk_digest (payload) == block.header.payload_checksum;
}

void
mark_used (const BlockFile &block)
{
  set_used (block.file.value, block.header.id);
}

// No fsync (): what a crash tears does not fit its checksums.
int
write_block (const fs::path &directory, const DiskName &name, DiskHeader header,
             std::span<const std::byte> payload, uint64_t &file_bytes)
{
  header.payload_bytes = payload.size ();
  header.payload_checksum = disk_digest (payload);
  const std::vector<std::byte> head = encode_disk_header (header);
  file_bytes = head.size () + payload.size ();

  // A random name instead of the process id: containers that share a directory have equal process ids.
  const std::optional<DiskId> random = new_disk_id ({});
  if (!random)
    return errno;
  const fs::path target = block_path (directory, name);
  const fs::path folder = target.parent_path ();
  const fs::path temporary = folder / (hexadecimal (*random) + std::string (kTemporarySuffix));
  const int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW;
  Descriptor file;
  file.value = open (temporary.c_str (), flags, 0600);
  if (file.value < 0 && errno == ENOENT) {
    if (mkdir (folder.c_str (), 0700) != 0 && errno != EEXIST)
      return errno;
    file.value = open (temporary.c_str (), flags, 0600);
  }
  if (file.value < 0)
    return errno;
  int error = write_all (file.value, head);
  if (error == 0)
    error = write_all (file.value, payload);
  set_used (file.value, header.id);
  if (!file.close () && error == 0)
    error = errno;
  if (error == 0 && rename (temporary.c_str (), target.c_str ()) != 0)
    error = errno;
  if (error != 0)
    unlink (temporary.c_str ());
  return error;
}

std::vector<DiskEntry>
list_blocks (const fs::path &directory)
{
  std::vector<DiskEntry> entries;
  std::error_code error;
  const int64_t left_behind = time (nullptr) - kTemporarySeconds;
  for (fs::directory_iterator folder (directory, error), end; !error && folder != end;
       folder.increment (error)) {
    const std::string digits = folder->path ().filename ().string ();
    if (digits.size () != 2 || digits.find_first_not_of ("0123456789abcdef") != std::string::npos)
      continue;
    std::error_code inner; // an unreadable folder does not end the scan
    for (fs::directory_iterator file (folder->path (), inner); !inner && file != end;
         file.increment (inner)) {
      const std::string text = file->path ().filename ().string ();
      DiskEntry entry;
      const bool temporary = parse_name (text, kTemporarySuffix, entry.name);
      struct stat info;
      if ((!temporary && (!text.starts_with (digits) || !parse_name (text, kBlockSuffix, entry.name))) ||
          lstat (file->path ().c_str (), &info) != 0 || !S_ISREG (info.st_mode))
        continue;
      entry.bytes = static_cast<uint64_t> (info.st_size);
      entry.used = {info.st_mtim.tv_sec, info.st_mtim.tv_nsec};
      if (!temporary)
        entries.push_back (entry);
      else if (entry.used[0] < left_behind)
        unlink (file->path ().c_str ());
    }
  }
  return entries;
}

} // namespace millrace
