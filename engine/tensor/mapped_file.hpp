// A file mapped read-only into memory for as long as the object lives.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

namespace millrace
{

/// Move-only. Any thread may read bytes (). Throws LoadError when the file cannot be opened or mapped;
/// an empty file gives an empty span.
class MappedFile
{
public:
  explicit MappedFile (const std::filesystem::path &path);
  MappedFile (MappedFile &&other) noexcept;
  MappedFile &operator= (MappedFile &&other) noexcept;
  MappedFile (const MappedFile &) = delete;
  MappedFile &operator= (const MappedFile &) = delete;
  ~MappedFile ();

  const std::filesystem::path &path () const { return path_; }
  std::span<const std::byte> bytes () const { return bytes_; }
  /// When its contents last changed, and who may read it, when it was opened.
  int64_t modified_ns () const { return modified_ns_; }
  uint32_t permissions () const { return permissions_; } ///< the bits of chmod ()

  /// Takes the whole pages within `part` of some mapped file out of this process's memory; reading them again brings them
  /// back. For big parts that have been used up.
  static void release_pages (std::span<const std::byte> part);

private:
  std::filesystem::path path_;
  std::span<const std::byte> bytes_;
  int64_t modified_ns_ = 0;
  uint32_t permissions_ = 0;
};

} // namespace millrace
