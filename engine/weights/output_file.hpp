// A file that is written beside its name and gets it when it is whole.
//
// Any thread may write, at any place. Until commit () nobody sees it under its name; without one it goes away with the object.
// Throws std::system_error that names the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

namespace millrace
{

class OutputFile
{
public:
  explicit OutputFile (const std::filesystem::path &path);
  OutputFile (OutputFile &&other) noexcept;
  OutputFile &operator= (OutputFile &&) = delete;
  ~OutputFile ();

  const std::filesystem::path &path () const { return path_; }
  /// 0, or the number of the error; for threads that must not throw.
  int write_at (uint64_t offset, std::span<const std::byte> bytes) const noexcept;
  void write (uint64_t offset, std::span<const std::byte> bytes) const;
  /// Cuts it off, or puts zeros behind it.
  void resize (uint64_t bytes) const;
  /// On the disk, under its name; replaces what has it.
  void commit ();

private:
  std::filesystem::path path_, temporary_;
  int fd_ = -1;
};

} // namespace millrace
