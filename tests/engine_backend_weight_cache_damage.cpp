// labels: unit
// timeout: 300
// Packed weights on disk: whatever stands in their file is refused or right.
#include "tests/sanitized.hpp"
#include "tests/weight_cache.hpp"

#include <xxhash.h>

#include <cstring>

using namespace millrace;
using namespace millrace::testing;
namespace fs = std::filesystem;

namespace
{

constexpr size_t kPage = 4096;

using WeightCacheDamage = WeightCacheTest;

TEST_F (WeightCacheDamage, a_file_that_somebody_has_touched_is_read_and_compared)
{
  const fs::path path = fill ();
  fs::last_write_time (path, fs::file_time_type::clock::now ());
  const auto touched = compile (cache ());
  EXPECT_EQ (touched->load_warning (), "");
  EXPECT_EQ (result_of (*touched), expected ());

  std::string bytes = bytes_of (path);
  bytes[bytes.size () / 2] ^= 4;
  write_file (path, bytes);
  const auto damaged = compile (cache ());
  EXPECT_NE (damaged->load_warning ().find ("damaged"), std::string::npos) << damaged->load_warning ();
  EXPECT_EQ (result_of (*damaged), expected ());
  EXPECT_EQ (compile (cache ())->load_warning (), "") << "replaced";
}

TEST_F (WeightCacheDamage, every_flipped_bit_of_the_header_is_refused)
{
  const fs::path path = fill ();
  const std::string sound = bytes_of (path);
  // Beyond the digest at its end the header is zeros.
  const size_t header = 72 + program ().weights.size () * 24 + 16;
  const size_t step = kSanitized ? 7 : 1;
  for (size_t bit = 0; bit < header * 8; bit += step) {
    std::string flipped = sound;
    flipped[bit / 8] = static_cast<char> (flipped[bit / 8] ^ 1 << bit % 8);
    expect_refused (path, flipped, "bit " + std::to_string (bit));
    if (HasFatalFailure ())
      return;
  }
  EXPECT_NE (compile (cache ())->load_warning (), "");
  EXPECT_EQ (compile (cache ())->load_warning (), "") << "replaced by a sound one";
  for (const size_t at : {header, kPage - 1}) {
    std::string flipped = sound;
    flipped[at] ^= 1;
    expect_refused (path, flipped, "byte " + std::to_string (at));
  }
}

TEST_F (WeightCacheDamage, every_other_length_is_refused)
{
  const fs::path path = fill ();
  const std::string sound = bytes_of (path);
  std::vector<size_t> lengths = {
      sound.size () - 1, sound.size () - 64, sound.size () - kPage, kPage + 1, kPage,
      kPage - 1,         sound.size () + 1,  sound.size () + kPage};
  for (size_t length = 0; length < 72 + program ().weights.size () * 24 + 16 + 2;
       length += kSanitized ? 5 : 1)
    lengths.push_back (length);
  for (size_t length = kPage; length < sound.size (); length += sound.size () / 50)
    lengths.push_back (length);
  for (const size_t length : lengths) {
    std::string bytes = sound;
    bytes.resize (length);
    expect_refused (path, bytes,
                    std::to_string (length) + " of " + std::to_string (sound.size ()) + " bytes");
    if (HasFatalFailure ())
      return;
  }
}

// A header that fits its own checksum says nothing true about this model.
TEST_F (WeightCacheDamage, hostile_headers_with_right_digests_are_refused)
{
  const fs::path path = fill ();
  const std::string sound = bytes_of (path);
  const size_t header = 72 + program ().weights.size () * 24;
  for (size_t at = 8; at < header; at += 4) {
    if (at >= 48 && at < 72) // the data's digest and the time of writing are the file's to say
      continue;
    for (const uint32_t value : {0u, 1u, 0x7fffffffu, 0x80000000u, 0xffffffffu}) {
      std::string bytes = sound;
      if (std::memcmp (bytes.data () + at, &value, sizeof value) == 0)
        continue;
      std::memcpy (bytes.data () + at, &value, sizeof value);
      const XXH128_hash_t digest = XXH3_128bits (bytes.data (), header);
      std::memcpy (bytes.data () + header, &digest.low64, 8);
      std::memcpy (bytes.data () + header + 8, &digest.high64, 8);
      expect_refused (path, bytes, "word " + std::to_string (at) + " is " + std::to_string (value));
      if (HasFatalFailure ())
        return;
    }
  }
}

TEST_F (WeightCacheDamage, what_is_no_file_is_refused)
{
  const fs::path path = fill ();
  fs::remove (path);
  ASSERT_EQ (mkfifo (path.c_str (), 0600), 0);
  const auto pipe = compile (cache ());
  EXPECT_NE (pipe->load_warning ().find ("not a regular file"), std::string::npos) << pipe->load_warning ();
  EXPECT_EQ (result_of (*pipe), expected ());
  EXPECT_EQ (compile (cache ())->load_warning (), "") << "replaced";
  fs::remove (path);
  fs::create_directory (path);
  const auto directory = compile (cache ());
  EXPECT_NE (directory->load_warning ().find ("Is a directory"), std::string::npos)
      << directory->load_warning ();
  EXPECT_EQ (result_of (*directory), expected ());
  EXPECT_TRUE (files (".tmp").empty ());
}

} // namespace
