// Which bytes of a file have been downloaded, and what is written beside it so that another process can go on.
//
// Ranges are kept merged and in order. The text, NAME.part.ranges:
//   millrace-part 1
//   size 1234
//   digest sha256:…            what the whole will have, or blob:… or none
//   tag "…"                    the server's strong ETag, for If-Range; may be missing
//   have 0 512                 [begin, end), any number of them
// A text that is not exactly so, or of another size or digest, is none: the download begins anew. Values; one thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace millrace
{

struct ByteRange {
  uint64_t begin = 0, end = 0;

  uint64_t bytes () const { return end - begin; }
  bool operator== (const ByteRange &) const = default;
};

class PartRanges
{
public:
  PartRanges (uint64_t size, std::string digest)
      : size_ (size)
      , digest_ (std::move (digest))
  {
  }

  uint64_t size () const { return size_; }
  const std::string &digest () const { return digest_; }
  std::string tag; ///< empty: none

  /// `range` lies within the file.
  void add (const ByteRange &range);
  void clear () { have_.clear (); }
  uint64_t bytes () const; ///< that are there
  bool is_complete () const { return bytes () == size_; }
  /// What is missing, in pieces of at most `most` bytes.
  std::vector<ByteRange> missing (uint64_t most) const;

  std::string text () const;
  /// Of a file of this size and digest.
  static std::optional<PartRanges> parse (std::string_view text, uint64_t size, const std::string &digest);

private:
  uint64_t size_;
  std::string digest_;
  std::vector<ByteRange> have_; ///< in order, with gaps between
};

} // namespace millrace
