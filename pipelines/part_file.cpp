#include "pipelines/part_file.hpp"

#include "engine/hub/target.hpp"

#include <gio/gio.h>

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <iterator>
#include <sys/file.h>
#include <system_error>
#include <unistd.h>

namespace fs = std::filesystem;

namespace millrace
{

namespace
{

constexpr uint64_t kSaveBytes = 32 << 20; ///< written before the ranges are saved again
constexpr size_t kReadBytes = 1 << 20;
constexpr uintmax_t kMostStateBytes = 16 << 20;

fs::path
with_suffix (const fs::path &path, std::string_view suffix)
{
  return path.string () + std::string (suffix);
}

std::string
problem_text (const fs::path &path, const char *what, int error)
{
  return path.string () + ": " + what + ": " + std::generic_category ().message (error);
}

std::string
read_state (const fs::path &path)
{
  std::error_code error;
  if (fs::file_size (path, error) > kMostStateBytes || error)
    return {};
  std::ifstream stream (path, std::ios::binary);
  return {std::istreambuf_iterator<char> (stream), {}};
}

} // namespace

PartFile::PartFile (HubFile file, const fs::path &folder)
    : file_ (std::move (file))
    , destination_ (folder / file_.path)
    , part_ (with_suffix (destination_, kPartSuffix))
    , state_ (with_suffix (destination_, kRangesSuffix))
    , ranges_ (file_.size.value_or (0), digest_text ())
{
}

PartFile::~PartFile ()
{
  if (fd_ >= 0)
    close (fd_);
}

std::string
PartFile::digest_text () const
{
  return !file_.sha256.empty ()      ? "sha256:" + file_.sha256
         : !file_.blob_sha1.empty () ? "blob:" + file_.blob_sha1
                                     : "none";
}

uint64_t
PartFile::bytes_to_come () const
{
  std::error_code error;
  if (fs::file_size (destination_, error) == ranges_.size () && !error)
    return 0;
  const auto left = fs::exists (part_, error)
                        ? PartRanges::parse (read_state (state_), ranges_.size (), ranges_.digest ())
                        : std::nullopt;
  return ranges_.size () - (left ? left->bytes () : 0);
}

/// In the words of digest_text (); empty when it cannot be read.
std::string
PartFile::found_digest (const fs::path &path) const
{
  const bool large = !file_.sha256.empty ();
  std::ifstream stream (path, std::ios::binary);
  GChecksum *checksum = g_checksum_new (large ? G_CHECKSUM_SHA256 : G_CHECKSUM_SHA1);
  if (!large) { // git's header of a blob, with its 0
    const std::string header = "blob " + std::to_string (ranges_.size ());
    g_checksum_update (checksum, reinterpret_cast<const guchar *> (header.c_str ()),
                       static_cast<gssize> (header.size () + 1));
  }
  std::vector<char> buffer (kReadBytes);
  while (stream.read (buffer.data (), static_cast<std::streamsize> (buffer.size ())), stream.gcount () > 0)
    g_checksum_update (checksum, reinterpret_cast<const guchar *> (buffer.data ()), stream.gcount ());
  const std::string digest = std::string (large ? "sha256:" : "blob:") + g_checksum_get_string (checksum);
  g_checksum_free (checksum);
  return stream.eof () ? digest : std::string ();
}

bool
PartFile::is_there () const
{
  std::error_code error;
  if (fs::file_size (destination_, error) != ranges_.size () || error)
    return false;
  return ranges_.digest () == "none" || found_digest (destination_) == ranges_.digest ();
}

std::string
PartFile::open ()
{
  const std::lock_guard lock (mutex_);
  std::error_code error;
  fs::create_directories (destination_.parent_path (), error);
  if (error)
    return problem_text (destination_.parent_path (), "cannot be made", error.value ());
  const bool was_there = fs::exists (part_, error);
  fd_ = ::open (part_.c_str (), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (fd_ < 0)
    return problem_text (part_, "cannot be written", errno);
  if (flock (fd_, LOCK_EX | LOCK_NB) != 0)
    return part_.string () + ": another process is downloading it";
  const auto left =
      was_there ? PartRanges::parse (read_state (state_), ranges_.size (), ranges_.digest ()) : std::nullopt;
  if (left)
    ranges_ = *left;
  if (ftruncate (fd_, static_cast<off_t> (ranges_.size ())) != 0)
    return problem_text (part_, "cannot have its length", errno);
  return {};
}

unsigned
PartFile::generation () const
{
  const std::lock_guard lock (mutex_);
  return generation_;
}

std::vector<ByteRange>
PartFile::missing (uint64_t most) const
{
  const std::lock_guard lock (mutex_);
  return ranges_.missing (most);
}

uint64_t
PartFile::bytes () const
{
  const std::lock_guard lock (mutex_);
  return ranges_.bytes ();
}

std::string
PartFile::tag () const
{
  const std::lock_guard lock (mutex_);
  return ranges_.tag;
}

PartFile::Written
PartFile::write (unsigned generation, uint64_t offset, std::span<const std::byte> bytes, std::string &problem)
{
  const std::lock_guard lock (mutex_);
  if (generation != generation_)
    return Written::kStale;
  while (!bytes.empty ()) {
    const ssize_t count = pwrite (fd_, bytes.data (), bytes.size (), static_cast<off_t> (offset));
    if (count < 0 && errno == EINTR)
      continue;
    if (count <= 0) {
      problem = problem_text (part_, "cannot be written", count < 0 ? errno : ENOSPC);
      return Written::kFailed;
    }
    const auto written = static_cast<size_t> (count);
    ranges_.add ({offset, offset + written});
    offset += written;
    unsaved_bytes_ += written;
    bytes = bytes.subspan (written);
  }
  if (unsaved_bytes_ >= kSaveBytes)
    save_locked ();
  return Written::kYes;
}

void
PartFile::set_tag (unsigned generation, const std::string &tag)
{
  const std::lock_guard lock (mutex_);
  if (generation == generation_)
    ranges_.tag = tag;
}

bool
PartFile::restart (unsigned generation)
{
  const std::lock_guard lock (mutex_);
  if (generation != generation_)
    return false;
  ++generation_;
  finishing_ = false;
  ranges_.clear ();
  ranges_.tag.clear ();
  save_locked ();
  return true;
}

void
PartFile::save ()
{
  const std::lock_guard lock (mutex_);
  if (fd_ >= 0)
    save_locked ();
}

/// Trouble with it costs a later process time, nothing else.
void
PartFile::save_locked ()
{
  const fs::path temporary = with_suffix (state_, ".new");
  std::ofstream stream (temporary, std::ios::binary | std::ios::trunc);
  stream << ranges_.text ();
  stream.close ();
  std::error_code error;
  if (stream)
    fs::rename (temporary, state_, error);
  unsaved_bytes_ = 0;
}

PartFile::Finished
PartFile::finish (std::string &problem)
{
  {
    const std::lock_guard lock (mutex_);
    if (finishing_ || !ranges_.is_complete ())
      return Finished::kNotYet;
    finishing_ = true;
    save_locked ();
  }
  // Nobody writes any more: all is there, and only the caller could begin anew.
  if (ranges_.digest () != "none") {
    const std::string found = found_digest (part_);
    if (found != ranges_.digest ()) {
      problem = destination_.string () + ": what came has the digest " +
                (found.empty () ? "of nothing" : found) + ", the hub says " + ranges_.digest ();
      return Finished::kWrongDigest;
    }
  }
  std::error_code error;
  if (fdatasync (fd_) != 0 || rename (part_.c_str (), destination_.c_str ()) != 0) {
    problem = problem_text (destination_, "cannot be written", errno);
    return Finished::kFailed;
  }
  fs::remove (state_, error);
  return Finished::kYes;
}

} // namespace millrace
