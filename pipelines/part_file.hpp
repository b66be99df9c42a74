// A file that is being downloaded: NAME.part, and beside it NAME.part.ranges with what is there of it.
//
// Several threads write different ranges. A restart (the server sent something else, or cannot send ranges) begins a new
// generation; what threads of an older one bring is dropped. finish () compares the digest and renames. Another process that
// downloads the same file is noticed (flock). Problems are sentences for people, empty when there is none.
#pragma once

#include "engine/hub/listing.hpp"
#include "engine/hub/part_ranges.hpp"

#include <cstddef>
#include <filesystem>
#include <mutex>
#include <span>
#include <string>
#include <vector>

namespace millrace
{

class PartFile
{
public:
  /// `file.size` is known.
  PartFile (HubFile file, const std::filesystem::path &folder);
  ~PartFile ();
  PartFile (const PartFile &) = delete;
  PartFile &operator= (const PartFile &) = delete;

  const HubFile &file () const { return file_; }
  const std::filesystem::path &destination () const { return destination_; }

  /// Bytes that are still to come by what stands on the disk; nothing is opened or created.
  uint64_t bytes_to_come () const;
  /// Whether the destination is there and has the digest; reads it. Where the hub has none, its size decides.
  bool is_there () const;
  /// Takes up what an earlier process has left, or begins.
  std::string open ();

  unsigned generation () const;
  std::vector<ByteRange> missing (uint64_t most) const;
  uint64_t bytes () const; ///< that are there
  std::string tag () const;

  enum class Written { kYes, kStale, kFailed };
  /// kFailed: `problem` says why.
  Written write (unsigned generation, uint64_t offset, std::span<const std::byte> bytes,
                 std::string &problem);
  void set_tag (unsigned generation, const std::string &tag);
  /// Forgets what is there; false when `generation` is not the present one.
  bool restart (unsigned generation);
  void save ();

  enum class Finished { kNotYet, kYes, kWrongDigest, kFailed };
  /// When all is there; only one of several callers gets another answer than kNotYet.
  Finished finish (std::string &problem);

private:
  std::string digest_text () const;
  std::string found_digest (const std::filesystem::path &path) const;
  void save_locked ();

  const HubFile file_;
  const std::filesystem::path destination_, part_, state_;
  mutable std::mutex mutex_; ///< of what follows
  PartRanges ranges_;
  unsigned generation_ = 0;
  uint64_t unsaved_bytes_ = 0;
  bool finishing_ = false;
  int fd_ = -1;
};

} // namespace millrace
