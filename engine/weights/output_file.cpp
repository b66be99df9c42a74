#include "engine/weights/output_file.hpp"

#include <atomic>
#include <cerrno>
#include <fcntl.h>
#include <string>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace fs = std::filesystem;

namespace millrace
{

namespace
{

[[noreturn]] void
fail (const fs::path &path, int error)
{
  throw std::system_error (error, std::generic_category (), path.string () + ": cannot be written");
}

} // namespace

OutputFile::OutputFile (const fs::path &path)
    : path_ (path)
{
  static std::atomic<int> made = 0;
  do {
    temporary_ = path.string () + ".tmp-" + std::to_string (getpid ()) + "-" + std::to_string (made++);
    fd_ = open (temporary_.c_str (), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  } while (fd_ < 0 && errno == EEXIST); // of a process that had this number and was killed
  if (fd_ < 0)
    fail (path, errno);
}

OutputFile::OutputFile (OutputFile &&other) noexcept
    : path_ (std::move (other.path_))
    , temporary_ (std::move (other.temporary_))
    , fd_ (std::exchange (other.fd_, -1))
{
}

OutputFile::~OutputFile ()
{
  if (fd_ < 0)
    return;
  close (fd_);
  unlink (temporary_.c_str ());
}

int
OutputFile::write_at (uint64_t offset, std::span<const std::byte> bytes) const noexcept
{
  while (!bytes.empty ()) {
    const ssize_t count = pwrite (fd_, bytes.data (), bytes.size (), static_cast<off_t> (offset));
    if (count < 0 && errno == EINTR)
      continue;
    if (count <= 0)
      return count < 0 ? errno : ENOSPC;
    offset += static_cast<uint64_t> (count);
    bytes = bytes.subspan (static_cast<size_t> (count));
  }
  return 0;
}

void
OutputFile::write (uint64_t offset, std::span<const std::byte> bytes) const
{
  if (const int error = write_at (offset, bytes); error != 0)
    fail (path_, error);
}

void
OutputFile::resize (uint64_t bytes) const
{
  if (ftruncate (fd_, static_cast<off_t> (bytes)) != 0)
    fail (path_, errno);
}

void
OutputFile::commit ()
{
  if (fsync (fd_) != 0 || rename (temporary_.c_str (), path_.c_str ()) != 0)
    fail (path_, errno);
  close (std::exchange (fd_, -1));
}

} // namespace millrace
