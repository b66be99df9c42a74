// Header of a cached block's file, to bytes and back.
#include "engine/kv/disk_format.hpp"

#include <algorithm>
#include <string_view>
#include <xxhash.h>

namespace millrace
{

namespace
{

constexpr std::string_view kMagic ("\x93MRKV\r\n\x1a", 8); // damaged by every program that takes it for text
constexpr size_t kFixedBytes = 100;                        ///< before the tokens
constexpr size_t kChecksumBytes = 16;
constexpr size_t kMinHeaderBytes = kFixedBytes + sizeof (TokenId) + kChecksumBytes;
constexpr size_t kMaxHeaderBytes =
    kFixedBytes + kBlockTokens * sizeof (TokenId) + kMaxIdentityBytes + kChecksumBytes;

class Writer
{
public:
  template <typename T>
  void integer (T value)
  {
    for (size_t i = 0; i < sizeof (T); ++i)
      bytes_.push_back (static_cast<std::byte> (value >> (8 * i)));
  }
  void pair (uint64_t first, uint64_t second)
  {
    integer (first);
    integer (second);
  }
  void text (std::string_view text)
  {
    const auto bytes = std::as_bytes (std::span (text));
    bytes_.insert (bytes_.end (), bytes.begin (), bytes.end ());
  }
  std::vector<std::byte> &bytes () { return bytes_; }

private:
  std::vector<std::byte> bytes_;
};

/// Reads beyond the end give zeros and are remembered.
class Reader
{
public:
  explicit Reader (std::span<const std::byte> bytes)
      : rest_ (bytes)
  {
  }

  template <typename T>
  T integer ()
  {
    T value = 0;
    const auto bytes = take (sizeof (T));
    for (size_t i = 0; i < bytes.size (); ++i)
      value |= static_cast<T> (std::to_integer<T> (bytes[i]) << (8 * i));
    return value;
  }
  std::array<uint64_t, 2> pair ()
  {
    const auto first = integer<uint64_t> ();
    return {first, integer<uint64_t> ()};
  }
  std::string_view text (size_t size)
  {
    const auto bytes = take (size);
    return {reinterpret_cast<const char *> (bytes.data ()), bytes.size ()};
  }
  /// Nothing was read beyond the end and nothing is left.
  bool complete () const { return !failed_ && rest_.empty (); }

private:
  std::span<const std::byte> take (size_t size)
  {
    if (size > rest_.size ()) {
      failed_ = true;
      rest_ = {};
      return {};
    }
    const auto taken = rest_.first (size);
    rest_ = rest_.subspan (size);
    return taken;
  }

  std::span<const std::byte> rest_;
  bool failed_ = false;
};

} // namespace

DiskDigest
disk_digest (std::span<const std::byte> bytes)
{
  const XXH128_hash_t digest = XXH3_128bits (bytes.data (), bytes.size ());
  return {digest.low64, digest.high64};
}

std::vector<std::byte>
encode_disk_header (const DiskHeader &header)
{
  const size_t size =
      kFixedBytes + header.tokens.size () * sizeof (TokenId) + header.identity.size () + kChecksumBytes;
  Writer out;
  out.bytes ().reserve (size);
  out.text (kMagic);
  out.integer (kDiskVersion);
  out.integer (static_cast<uint32_t> (size));
  out.integer (header.payload_bytes);
  out.pair (header.hash.low, header.hash.high);
  out.pair (header.id[0], header.id[1]);
  out.pair (header.parent[0], header.parent[1]);
  out.pair (header.payload_checksum[0], header.payload_checksum[1]);
  out.integer (header.tag);
  out.integer (static_cast<uint32_t> (header.tokens.size ()));
  out.integer (static_cast<uint32_t> (header.identity.size ()));
  for (const TokenId token : header.tokens)
    out.integer (static_cast<uint32_t> (token));
  out.text (header.identity);
  const DiskDigest checksum = disk_digest (out.bytes ());
  out.pair (checksum[0], checksum[1]);
  return std::move (out.bytes ());
}

DiskVerdict
decode_disk_prefix (std::span<const std::byte> bytes, size_t &header_bytes)
{
  Reader in (bytes);
  if (in.text (kMagic.size ()) != kMagic)
    return DiskVerdict::kBroken;
  const auto version = in.integer<uint32_t> ();
  header_bytes = in.integer<uint32_t> ();
  if (!in.complete ())
    return DiskVerdict::kBroken;
  if (version != kDiskVersion)
    return DiskVerdict::kForeign;
  return header_bytes >= kMinHeaderBytes && header_bytes <= kMaxHeaderBytes ? DiskVerdict::kSound
                                                                            : DiskVerdict::kBroken;
}

bool
decode_disk_header (std::span<const std::byte> bytes, DiskHeader &header)
{
  if (bytes.size () < kMinHeaderBytes)
    return false;
  const auto checked = bytes.first (bytes.size () - kChecksumBytes);
  if (Reader (bytes.last (kChecksumBytes)).pair () != disk_digest (checked))
    return false;

  Reader in (checked.subspan (kDiskPrefixBytes));
  header.payload_bytes = in.integer<uint64_t> ();
  const auto hash = in.pair ();
  header.hash = {hash[0], hash[1]};
  header.id = in.pair ();
  header.parent = in.pair ();
  header.payload_checksum = in.pair ();
  header.tag = in.integer<uint32_t> ();
  const auto tokens = in.integer<uint32_t> ();
  const auto identity_bytes = in.integer<uint32_t> ();
  if (tokens < 1 || tokens > kBlockTokens || identity_bytes > kMaxIdentityBytes || header.id == DiskId{})
    return false;
  header.tokens.resize (tokens);
  for (TokenId &token : header.tokens)
    token = static_cast<TokenId> (in.integer<uint32_t> ());
  header.identity = in.text (identity_bytes);
  return in.complete ();
}

} // namespace millrace
