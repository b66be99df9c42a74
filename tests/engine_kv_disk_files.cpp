// labels: unit
// Files under a block's name that are not that block: damaged, hostile, of another model, or no files at all. All are a
// miss; none is a crash, a hang or a wrong payload.
#include "engine/kv/disk_format.hpp"
#include "tests/disk_blocks.hpp"
#include "tests/seed.hpp"

#include <functional>
#include <sys/stat.h>

using namespace disk_test;
namespace fs = std::filesystem;

namespace
{

TEST (DiskFiles, what_belongs_to_something_else_is_a_plain_miss)
{
  const SavedBlock saved;
  const Block &one = saved.content;
  const DiskId parent{1, 2};
  DiskStore store (in (saved.folder));
  EXPECT_FALSE (has (store, one, parent));
  Block other = one;
  other.tokens[1] ^= 1;
  EXPECT_FALSE (has (store, other)) << "other tokens of the same hash";
  other.tokens = {one.tokens[0], one.tokens[1]};
  EXPECT_FALSE (has (store, other)) << "fewer tokens";
  other.tokens = {one.tokens[0], one.tokens[1], one.tokens[2], 0};
  EXPECT_FALSE (has (store, other)) << "more tokens";
  other = one;
  other.hash.low ^= 1;
  std::string name = saved.path.filename ().string ();
  name[15] = "1032547698badcfe"[std::string ("0123456789abcdef").find (name[15])]; // low ^ 1
  fs::copy_file (saved.path, saved.path.parent_path () / name);
  EXPECT_FALSE (has (store, other)) << "another hash";
  EXPECT_TRUE (fs::remove (saved.path.parent_path () / name));
  EXPECT_FALSE (store.load (one.hash, {}, {}, other.payload)) << "no tokens";

  // The same bytes under the name that the block has for another identity.
  DiskStore stranger (in (saved.folder, "other"));
  EXPECT_FALSE (has (stranger, one));
  ASSERT_TRUE (save (stranger, one));
  stranger.flush ();
  ASSERT_EQ (files (saved.folder.path ()).size (), 2u) << "both models keep theirs";
  for (const fs::path &path : files (saved.folder.path ())) {
    if (path != saved.path)
      write_file (path, saved.bytes);
  }
  EXPECT_FALSE (has (stranger, one));
  EXPECT_TRUE (has (store, one));

  DiskStoreSettings smaller = in (saved.folder);
  smaller.max_payload_bytes = one.payload.size () - 1;
  DiskStore small (smaller);
  EXPECT_FALSE (has (small, one)) << "a payload that is too large";
  EXPECT_FALSE (save (small, one));

  Bytes newer = saved.bytes;
  newer[8] = std::byte{2};
  write_file (saved.path, newer);
  EXPECT_FALSE (has (store, one)) << "another version";
  EXPECT_TRUE (fs::exists (saved.path));
  EXPECT_EQ (store.statistics ().damaged + stranger.statistics ().damaged + small.statistics ().damaged, 0u);
  EXPECT_TRUE (save (store, one, parent)) << "takes the place of what does not fit";
  store.flush ();
  EXPECT_TRUE (has (store, one, parent));
}

TEST (DiskFiles, every_flipped_bit_is_a_miss)
{
  const SavedBlock saved;
  DiskStore store (in (saved.folder));
  for (size_t bit = 0; bit < saved.bytes.size () * 8; ++bit) {
    Bytes flipped = saved.bytes;
    flipped[bit / 8] ^= static_cast<std::byte> (1 << bit % 8);
    write_file (saved.path, flipped);
    ASSERT_FALSE (has (store, saved.content)) << "bit " << bit;
  }
  const auto statistics = store.statistics ();
  EXPECT_EQ (statistics.misses, saved.bytes.size () * 8);
  EXPECT_EQ (statistics.damaged, saved.bytes.size () * 8 - 32) << "all but the version's";
  write_file (saved.path, saved.bytes);
  EXPECT_TRUE (has (store, saved.content));
}

TEST (DiskFiles, every_other_length_is_a_miss)
{
  const SavedBlock saved;
  DiskStore store (in (saved.folder));
  Bytes longer = saved.bytes;
  longer.resize (saved.bytes.size () + 300);
  for (size_t length = 0; length <= longer.size (); ++length) {
    if (length == saved.bytes.size ())
      continue;
    write_file (saved.path, std::span (longer).first (length));
    ASSERT_FALSE (has (store, saved.content)) << length << " of " << saved.bytes.size () << " bytes";
    ASSERT_FALSE (fs::exists (saved.path)) << "damaged files are removed";
  }
  EXPECT_EQ (store.statistics ().damaged, longer.size ());
}

TEST (DiskFiles, hostile_headers_with_right_checksums_never_give_a_wrong_payload)
{
  const SavedBlock saved;
  DiskStore store (in (saved.folder));
  const auto seed = static_cast<uint32_t> (test_seed ());
  SCOPED_TRACE ("seed " + std::to_string (seed));
  std::mt19937 random (seed);
  const size_t header_bytes = saved.bytes.size () - saved.content.payload.size ();
  const auto store_sealed = [&] (Bytes bytes, size_t checked) {
    const DiskDigest sum = disk_digest (std::span (bytes).first (checked));
    for (size_t i = 0; i < 16; ++i)
      bytes[checked + i] = static_cast<std::byte> (sum[i / 8] >> (8 * (i % 8)));
    write_file (saved.path, bytes);
  };
  // Every integer of the fixed part at its extremes, then random ones.
  for (size_t at = 8; at + 4 <= 100; at += 4) {
    for (const uint32_t value : {0u, 1u, 2u, 4u, 15u, 16u, 17u, 0x7fffffffu, 0x80000000u, 0xffffffffu}) {
      Bytes bytes = saved.bytes;
      for (size_t i = 0; i < 4; ++i)
        bytes[at + i] = static_cast<std::byte> (value >> (8 * i));
      store_sealed (bytes, header_bytes - 16);
      has (store, saved.content);
    }
  }
  for (int round = 0; round < 3000; ++round) {
    Bytes bytes = saved.bytes;
    for (unsigned changes = 1 + random () % 4; changes > 0; --changes)
      bytes[8 + random () % (header_bytes - 24)] = static_cast<std::byte> (random ());
    store_sealed (bytes, header_bytes - 16);
    has (store, saved.content);
  }
  EXPECT_GT (store.statistics ().damaged, 1000u);
}

TEST (DiskFiles, garbage_is_a_miss)
{
  const SavedBlock saved;
  DiskStore store (in (saved.folder));
  const auto seed = static_cast<uint32_t> (test_seed ());
  SCOPED_TRACE ("seed " + std::to_string (seed));
  std::mt19937 random (seed);
  for (int round = 0; round < 2000; ++round) {
    Bytes bytes (random () % 500);
    for (std::byte &byte : bytes)
      byte = static_cast<std::byte> (random ());
    std::copy_n (saved.bytes.begin (), std::min (bytes.size (), random () % 120), bytes.begin ());
    write_file (saved.path, bytes);
    ASSERT_FALSE (has (store, saved.content)) << "round " << round;
  }
}

TEST (DiskFiles, other_kinds_of_files_are_a_miss_and_never_hang)
{
  const SavedBlock saved;
  DiskStore store (in (saved.folder));
  const auto replace = [&] (const std::function<void ()> &make) {
    fs::remove_all (saved.path);
    make ();
    EXPECT_FALSE (has (store, saved.content));
    EXPECT_TRUE (save (store, saved.content));
    store.flush ();
  };
  replace ([&] { write_file (saved.path, {}); });
  EXPECT_TRUE (has (store, saved.content)) << "an empty file is replaced";
  replace ([&] { ASSERT_EQ (mkfifo (saved.path.c_str (), 0600), 0); });
  EXPECT_TRUE (has (store, saved.content)) << "a pipe is replaced";
  replace ([&] { fs::create_symlink ("/dev/zero", saved.path); });
  EXPECT_TRUE (has (store, saved.content)) << "a link is replaced";
  replace ([&] { fs::create_directory (saved.path); });
  EXPECT_FALSE (has (store, saved.content)) << "a folder stays";
  EXPECT_EQ (store.statistics ().failed, 1u);
  EXPECT_NE (store.take_warning ().find ("Is a directory"), std::string::npos);
  EXPECT_TRUE (files (saved.folder.path (), ".tmp").empty ());
}

} // namespace
