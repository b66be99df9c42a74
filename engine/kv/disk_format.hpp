// The file of one cached KV block: a header, then the payload as it is.
//
// All integers are little-endian:
//   0  magic, 8 bytes       8  version u32          12  bytes of the header u32   16  bytes of the payload u64
//  24  hash 2 × u64        40  id 2 × u64           56  parent's id 2 × u64       72  payload's checksum 2 × u64
//  88  tag u32             92  number of tokens u32 96  bytes of the identity u32
// 100  the tokens, i32 each; the identity; the checksum 2 × u64 of all of the header before it.
// Checksums are XXH3-128: they find accidents, not forgery. Whoever may write to the directory is trusted with
// the payload, but not with this process: every read is checked against the bytes that are there.
#pragma once

#include "engine/kv/disk_store.hpp"

namespace millrace
{

constexpr uint32_t kDiskVersion = 1;
constexpr size_t kDiskPrefixBytes = 16; ///< enough to know how long the header is
constexpr size_t kMaxIdentityBytes = size_t{64} << 10;

using DiskDigest = std::array<uint64_t, 2>;

DiskDigest disk_digest (std::span<const std::byte> bytes);

struct DiskHeader {
  BlockHash hash;
  DiskId id{}, parent{};
  uint32_t tag = 0;
  std::vector<TokenId> tokens; ///< 1 … kBlockTokens
  std::string identity;        ///< at most kMaxIdentityBytes
  uint64_t payload_bytes = 0;
  DiskDigest payload_checksum{};
};

enum class DiskVerdict : uint8_t {
  kSound,
  kBroken,  ///< no program ever wrote this
  kForeign, ///< may be sound, for somebody else
};

std::vector<std::byte> encode_disk_header (const DiskHeader &header);
/// Looks at the first kDiskPrefixBytes of a file. When sound, `header_bytes` is within the limits of a header.
DiskVerdict decode_disk_prefix (std::span<const std::byte> bytes, size_t &header_bytes);
/// `bytes` is the whole header. False when it is broken.
bool decode_disk_header (std::span<const std::byte> bytes, DiskHeader &header);

} // namespace millrace
