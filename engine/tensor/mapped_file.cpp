// A file mapped read-only into memory.
//
// The mapping is private and read-only, so nothing here can change the file; a file that another process
// truncates while it is mapped raises SIGBUS on access, as with every mapping. The descriptor is closed at
// once: the mapping keeps the file.
#include "engine/tensor/mapped_file.hpp"

#include "engine/error.hpp"

#include <cerrno>
#include <cstdint>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace millrace
{

namespace
{

struct Descriptor {
  int value = -1;
  explicit Descriptor (int value)
      : value (value)
  {
  }
  Descriptor (const Descriptor &) = delete;
  Descriptor &operator= (const Descriptor &) = delete;
  ~Descriptor ()
  {
    if (value >= 0)
      close (value);
  }
};

std::string
reason (int error)
{
  return std::generic_category ().message (error);
}

void
unmap (std::span<const std::byte> bytes)
{
  if (!bytes.empty ())
    munmap (const_cast<std::byte *> (bytes.data ()), bytes.size ());
}

} // namespace

MappedFile::MappedFile (const std::filesystem::path &path)
    : path_ (path)
{
  // O_NONBLOCK: opening a pipe by mistake must not hang; regular files ignore it.
  const Descriptor file (open (path.c_str (), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.value < 0)
    throw LoadError (path, "",
                     "cannot be opened: " + reason (errno) + "; check the path and its permissions");
  struct stat info;
  if (fstat (file.value, &info) != 0)
    throw LoadError (path, "", "cannot be examined: " + reason (errno));
  if (!S_ISREG (info.st_mode))
    throw LoadError (path, "", "is not a regular file; give the path of a file");
  modified_ns_ = info.st_mtim.tv_sec * INT64_C (1000000000) + info.st_mtim.tv_nsec;
  permissions_ = info.st_mode & 0777;
  if (info.st_size == 0)
    return;
  if (static_cast<uint64_t> (info.st_size) > SIZE_MAX)
    throw LoadError (path, "", "is larger than this process can address");
  const auto size = static_cast<size_t> (info.st_size);
  void *address = mmap (nullptr, size, PROT_READ, MAP_PRIVATE, file.value, 0);
  if (address == MAP_FAILED)
    throw LoadError (path, "", "cannot be mapped into memory: " + reason (errno));
  bytes_ = {static_cast<const std::byte *> (address), size};
}

MappedFile::MappedFile (MappedFile &&other) noexcept
    : path_ (std::move (other.path_))
    , bytes_ (std::exchange (other.bytes_, {}))
    , modified_ns_ (other.modified_ns_)
    , permissions_ (other.permissions_)
{
}

MappedFile &
MappedFile::operator= (MappedFile &&other) noexcept
{
  if (this != &other) {
    unmap (bytes_);
    path_ = std::move (other.path_);
    bytes_ = std::exchange (other.bytes_, {});
    modified_ns_ = other.modified_ns_;
    permissions_ = other.permissions_;
  }
  return *this;
}

MappedFile::~MappedFile ()
{
  unmap (bytes_);
}

void
MappedFile::release_pages (std::span<const std::byte> part)
{
  const auto page = static_cast<uintptr_t> (sysconf (_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t> (part.data ());
  const uintptr_t first = (begin + page - 1) / page * page, last = (begin + part.size ()) / page * page;
  if (first < last)
    madvise (reinterpret_cast<void *> (first), last - first, MADV_DONTNEED); // advice: nothing depends on it
}

} // namespace millrace
