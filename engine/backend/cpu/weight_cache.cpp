#include "engine/backend/cpu/weight_cache.hpp"

#include "engine/backend/cpu/formats.hpp"
#include "engine/error.hpp"
#include "engine/weights/coded_matrix.hpp"
#include "engine/weights/weight_files.hpp"

#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <string_view>
#include <sys/resource.h>
#include <sys/stat.h>
#include <system_error>
#include <type_traits>
#include <unistd.h>

namespace fs = std::filesystem;

namespace millrace::cpu
{

namespace
{

constexpr char kMagic[8] = {'M', 'I', 'L', 'L', 'P', 'A', 'C', 'K'};
constexpr size_t kFixedBytes = 72, kEntryBytes = 24, kDigestBytes = 16;
constexpr size_t kDataDigestAt = 48, kWrittenAt = 64;
constexpr size_t kPage = 4096;
constexpr size_t kSampleBytes = 256; ///< of each tensor: another training's weights differ everywhere
constexpr size_t kMaxNameBytes = 100;
constexpr size_t kMaxWrite = size_t{64} << 20;
constexpr std::string_view kSuffix = ".packed", kTemporarySuffix = ".tmp";
constexpr int64_t kTemporarySeconds = 3600; ///< one that is older has been left behind
constexpr int64_t kNanoseconds = 1000000000;

class Bytes
{
public:
  template <typename... Values>
  void add (const Values &...values)
  {
    (add_one (values), ...);
  }
  void add_text (std::string_view text)
  {
    add (text.size ());
    append (text.data (), text.size ());
  }
  void append (const void *data, size_t size) { bytes_.append (static_cast<const char *> (data), size); }
  const std::string &get () const { return bytes_; }

private:
  template <typename T>
  void add_one (const T &value)
  {
    static_assert (std::has_unique_object_representations_v<T>, "no padding");
    append (&value, sizeof value);
  }

  std::string bytes_;
};

std::array<uint64_t, 2>
digest_of (std::span<const std::byte> bytes)
{
  const XXH128_hash_t hash = XXH3_128bits (bytes.data (), bytes.size ());
  return {hash.low64, hash.high64};
}

std::string
hexadecimal (std::span<const uint64_t> numbers)
{
  std::string text;
  for (const uint64_t number : numbers) {
    char digits[17];
    std::snprintf (digits, sizeof digits, "%016llx", static_cast<unsigned long long> (number));
    text += digits;
  }
  return text;
}

/// For people: the last part of the path, or the one before it when that says nothing.
std::string
name_of (const fs::path &checkpoint)
{
  std::error_code error;
  const fs::path whole = fs::absolute (checkpoint, error).lexically_normal ();
  const fs::path last = whole.has_filename () ? whole : whole.parent_path ();
  std::string name =
      (last.extension () == ".gguf" || last.extension () == ".safetensors" ? last.stem () : last.filename ())
          .string ();
  name.resize (std::min (name.size (), kMaxNameBytes));
  return name.empty () ? "model" : name;
}

std::string
message_of (int error)
{
  return std::generic_category ().message (error);
}

/// 0 or errno.
int
write_all (int file, std::span<const std::byte> bytes, size_t offset)
{
  while (!bytes.empty ()) {
    const ssize_t put =
        pwrite (file, bytes.data (), std::min (bytes.size (), kMaxWrite), static_cast<off_t> (offset));
    if (put < 0 && errno == EINTR)
      continue;
    if (put <= 0)
      return put < 0 ? errno : EIO;
    bytes = bytes.subspan (static_cast<size_t> (put));
    offset += static_cast<size_t> (put);
  }
  return 0;
}

/// 0 or errno. Asks for the room at once: what does not fit is known before it is written. A write beyond RLIMIT_FSIZE
/// would raise SIGXFSZ.
int
reserve (int file, size_t bytes)
{
  rlimit limit = {};
  if (getrlimit (RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && bytes > limit.rlim_cur)
    return EFBIG;
  int result;
  do {
    result = fallocate (file, 0, 0, static_cast<off_t> (bytes)) == 0 ? 0 : errno;
  } while (result == EINTR);
  return result == EOPNOTSUPP || result == ENOSYS ? 0 : result;
}

/// Sets the time of change to now, as precisely as the file system keeps it. 0 or errno.
int
stamp (int file, int64_t &written_ns)
{
  timespec now = {};
  clock_gettime (CLOCK_REALTIME, &now);
  const timespec times[2] = {now, now};
  struct stat info;
  if (futimens (file, times) != 0 || fstat (file, &info) != 0)
    return errno;
  written_ns = info.st_mtim.tv_sec * kNanoseconds + info.st_mtim.tv_nsec;
  return 0;
}

int
set_time (int file, int64_t ns)
{
  const timespec time = {static_cast<time_t> (ns / kNanoseconds), static_cast<long> (ns % kNanoseconds)};
  const timespec times[2] = {time, time};
  return futimens (file, times) == 0 ? 0 : errno;
}

} // namespace

WeightCache::WeightCache (const fs::path &folder, const Program &program, const WeightFiles &files,
                          std::span<const PackedWeight> weights, size_t bytes)
    : weights_ (weights.begin (), weights.end ())
    , bytes_ (bytes)
{
  Bytes identity;
  identity.add (kLayoutVersion, files.files ().size (), weights.size (), bytes);
  for (const MappedFile &file : files.files ()) {
    identity.add (file.bytes ().size (), file.modified_ns ());
    permissions_ &= file.permissions ();
  }
  for (size_t i = 0; i < weights.size (); ++i) {
    const auto &[name, outputs, inputs, paired, first_output, tensor_outputs, offset, part, run, stride,
                 taps] = program.weights[i];
    const TensorView &tensor = *files.find (name);
    const size_t sample = std::min (kSampleBytes, tensor.data.size ());
    identity.add_text (name);
    identity.add (outputs, inputs, paired, first_output, tensor_outputs, std::bit_cast<uint32_t> (offset),
                  run, stride, taps, tensor.dtype, weights[i].format, weights[i].columns, weights[i].offset,
                  tensor.data.size ());
    identity.add (part.first, part.output_step, part.input_step);
    identity.append (tensor.data.data () + (tensor.data.size () - sample) / 2, sample);
    if (const AffineTensor *affine = files.affine (name)) {
      identity.add (affine->codes.bits, affine->codes.group, affine->scale_type);
      for (const auto part : {affine->scales, affine->biases}) {
        const size_t size = std::min (kSampleBytes, part.size ());
        identity.append (part.data () + (part.size () - size) / 2, size);
      }
    }
    if (const CodedMatrix *coded = files.coded (name)) {
      identity.add_text (coded->description ());
      for (const CodedMatrix::Part &part : coded->parts ()) {
        const size_t size = std::min (kSampleBytes, part.data.size ());
        identity.add (part.data.size ());
        identity.append (part.data.data () + (part.data.size () - size) / 2, size);
      }
    }
  }
  identity_ = digest_of (std::as_bytes (std::span (identity.get ())));
  file_ = folder / (name_of (files.path ()) + "-" + hexadecimal (identity_) + std::string (kSuffix));
}

size_t
WeightCache::header_bytes () const
{
  return kFixedBytes + weights_.size () * kEntryBytes + kDigestBytes;
}

size_t
WeightCache::data_at () const
{
  return round_up (header_bytes (), kPage);
}

std::string
WeightCache::header (const Digest &data_digest, int64_t written_ns) const
{
  Bytes bytes;
  bytes.append (kMagic, sizeof kMagic);
  bytes.add (kLayoutVersion, static_cast<uint32_t> (weights_.size ()), identity_);
  bytes.add (static_cast<uint64_t> (data_at ()), static_cast<uint64_t> (bytes_), data_digest, written_ns);
  for (const PackedWeight &weight : weights_)
    bytes.add (static_cast<uint64_t> (weight.offset), static_cast<uint32_t> (weight.outputs),
               static_cast<uint32_t> (weight.inputs), static_cast<uint32_t> (weight.columns),
               static_cast<uint32_t> (weight.format));
  bytes.add (digest_of (std::as_bytes (std::span (bytes.get ()))));
  std::string result = bytes.get ();
  result.resize (data_at ());
  return result;
}

/// Null when it can be used.
const char *
WeightCache::problem_of (const MappedFile &opened) const
{
  const std::span<const std::byte> bytes = opened.bytes ();
  if (bytes.size () < data_at () || bytes.size () - data_at () != bytes_)
    return "is too short or too long";
  Digest digest;
  int64_t written_ns;
  std::memcpy (&digest, bytes.data () + kDataDigestAt, sizeof digest);
  std::memcpy (&written_ns, bytes.data () + kWrittenAt, sizeof written_ns);
  const std::string expected = header (digest, written_ns);
  if (std::memcmp (bytes.data (), expected.data (), expected.size ()) != 0)
    return "is damaged, or of other weights";
  if (opened.modified_ns () != written_ns && digest_of (bytes.subspan (data_at ())) != digest)
    return "is damaged";
  return nullptr;
}

std::optional<MappedFile>
WeightCache::open (std::string &note) const
{
  // Another process may remove the file or put one there between our failing and our looking whether it exists: what is
  // there still fails again.
  constexpr int kAttempts = 3;
  for (int attempt = 1;; ++attempt) {
    try {
      MappedFile opened (file_);
      const char *problem = problem_of (opened);
      if (!problem)
        return opened;
      note = file_.string () + ": " + problem + "; the weights are packed again";
      return std::nullopt;
    } catch (const LoadError &failure) {
      std::error_code error;
      if (!fs::exists (file_, error) && !error)
        return std::nullopt;
      if (attempt < kAttempts)
        continue;
      note = std::string (failure.what ()) + "; the weights are packed again";
      return std::nullopt;
    }
  }
}

void
WeightCache::save (std::span<const std::byte> data, std::string &note) const
{
  std::error_code failure;
  fs::create_directories (file_.parent_path (), failure);
  int error = failure.value ();
  if (error == 0) {
    remove_left_behind ();
    // A random name instead of the process id: containers that share a folder have equal process ids.
    uint64_t random = 0;
    if (getentropy (&random, sizeof random) != 0)
      error = errno;
    fs::path temporary = file_;
    temporary += "." + hexadecimal ({&random, 1}) + std::string (kTemporarySuffix);
    if (error == 0)
      error = write (temporary, data);
  }
  if (error != 0)
    note += (note.empty () ? "" : "; ") + file_.string () +
            ": packed weights cannot be kept there: " + message_of (error) +
            "; the next start packs them again";
}

/// 0 or errno. The header, which makes the file valid, is written last.
int
WeightCache::write (const fs::path &temporary, std::span<const std::byte> data) const
{
  const int file =
      ::open (temporary.c_str (), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, permissions_ | 0600);
  if (file < 0)
    return errno;
  int64_t written_ns = 0;
  int error = reserve (file, data_at () + data.size ());
  if (error == 0)
    error = write_all (file, data, data_at ());
  if (error == 0)
    error = stamp (file, written_ns);
  if (error == 0) {
    const std::string head = header (digest_of (data), written_ns);
    error = write_all (file, std::as_bytes (std::span (head)), 0);
  }
  if (error == 0)
    error = set_time (file, written_ns);
  if (error == 0 && fsync (file) != 0) // data before the name: a crash may not leave a file of holes behind
    error = errno;
  if (close (file) != 0 && error == 0)
    error = errno;
  if (error == 0 && rename (temporary.c_str (), file_.c_str ()) != 0)
    error = errno;
  if (error != 0)
    unlink (temporary.c_str ());
  return error;
}

/// Temporary files of this cache file that no living process can still be writing.
void
WeightCache::remove_left_behind () const
{
  const std::string begin = file_.filename ().string () + ".";
  const int64_t oldest = time (nullptr) - kTemporarySeconds;
  std::error_code error;
  for (fs::directory_iterator entry (file_.parent_path (), error), end; !error && entry != end;
       entry.increment (error)) {
    const std::string name = entry->path ().filename ().string ();
    struct stat info;
    if (name.starts_with (begin) && name.ends_with (kTemporarySuffix) &&
        lstat (entry->path ().c_str (), &info) == 0 && S_ISREG (info.st_mode) && info.st_mtim.tv_sec < oldest)
      unlink (entry->path ().c_str ());
  }
}

} // namespace millrace::cpu
