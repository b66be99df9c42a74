// Packed weights in a file, so that the next start maps them and packs nothing.
//
// One file for each way that a checkpoint can be packed: FOLDER/NAME-DIGEST.packed. NAME is the checkpoint's, for people;
// the digest is of whatever decides the contents: kLayoutVersion, of each of the checkpoint's files size and time of
// change, of each weight name, shape, format and a sample of its bytes. Where the checkpoint lies is not in it.
//
// The file, in the byte order of the machine:
//   0  magic, 8 bytes       8  kLayoutVersion u32     12  weights u32              16  the digest above 2 × u64
//  32  bytes before the data u64                      40  bytes of the data u64    48  digest of the data 2 × u64
//  64  when it was written i64, ns; the file's time of change is set to it
//  72  of each weight: offset u64, outputs u32, inputs u32, columns u32, format u32; then a digest 2 × u64 of all before
//      it, zeros up to a multiple of 4096, the data
// Digests are XXH3-128.
//
// A file is taken for hostile: its header has to be, byte by byte, the one that would be written now, so nothing in it is
// ever used as a size or an offset. The data are trusted, unless the file's time of change shows that somebody else has
// touched it (copied it without its times, too): then they are read and compared with their digest. Digests find accidents,
// not forgery: who may write to the folder is trusted with what the model says. A file that is cut short while it is
// mapped ends the process with SIGBUS, as a checkpoint does.
//
// Files are written beside and renamed, so a torn one is never seen; of several writers the last one's file stays.
// Whatever goes wrong is a note for the user, and the weights are packed. Nothing is ever removed but temporary files of
// writers that died. Not for several threads at once; any number of objects and processes.
#pragma once

#include "engine/backend/cpu/weights.hpp"

#include <array>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace millrace::cpu
{

class WeightCache
{
public:
  /// `weights` are planned, with their offsets into `bytes` bytes of data.
  WeightCache (const std::filesystem::path &folder, const Program &program, const WeightFiles &files,
               std::span<const PackedWeight> weights, size_t bytes);

  const std::filesystem::path &file () const { return file_; }
  /// The file when it is there and sound.
  std::optional<MappedFile> open (std::string &note) const;
  /// The packed weights in it.
  const std::byte *data (const MappedFile &opened) const { return opened.bytes ().data () + data_at (); }
  void save (std::span<const std::byte> data, std::string &note) const;

private:
  using Digest = std::array<uint64_t, 2>;

  size_t header_bytes () const;
  size_t data_at () const;
  std::string header (const Digest &data_digest, int64_t written_ns) const;
  const char *problem_of (const MappedFile &opened) const;
  int write (const std::filesystem::path &temporary, std::span<const std::byte> data) const;
  void remove_left_behind () const;

  std::filesystem::path file_;
  Digest identity_{};
  std::vector<PackedWeight> weights_;
  size_t bytes_;
  uint32_t permissions_ = 0666; ///< of those who may read the checkpoint
};

} // namespace millrace::cpu
