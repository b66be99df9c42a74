// Blocks to save and load, and the files they become: for tests of DiskStore.
#pragma once

#include "engine/kv/disk_store.hpp"
#include "tests/test_paths.hpp"

#include <algorithm>
#include <fstream>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

namespace disk_test
{

using namespace millrace;

using Bytes = std::vector<std::byte>;

struct Block {
  BlockHash hash;
  std::vector<TokenId> tokens;
  Bytes payload;
};

/// Different numbers, different blocks; equal ones, equal blocks.
inline Block
block (uint64_t number, size_t payload_bytes = 1000, size_t tokens = kBlockTokens)
{
  std::mt19937_64 random (number);
  Block result{{random (), random ()}, {}, Bytes (payload_bytes)};
  for (size_t i = 0; i < tokens; ++i)
    result.tokens.push_back (static_cast<TokenId> (random () % 300000));
  for (std::byte &byte : result.payload)
    byte = static_cast<std::byte> (random ());
  return result;
}

inline DiskStoreSettings
in (const TemporaryFolder &folder, const std::string &identity = "model")
{
  return {.directory = folder.path (),
          .identity = identity,
          .max_bytes = 1u << 30,
          .max_queue_bytes = 64u << 20,
          .max_payload_bytes = 1u << 20};
}

inline std::optional<DiskId>
save (DiskStore &store, const Block &block, const DiskId &parent = {}, uint32_t tag = 7)
{
  return store.save (block.hash, parent, block.tokens, tag, block.payload);
}

/// Whether the block is there; a payload that is not the block's is a failure, and so is any payload of a miss.
inline bool
has (DiskStore &store, const Block &block, const DiskId &parent = {})
{
  Bytes payload (3);
  const auto loaded = store.load (block.hash, parent, block.tokens, payload);
  EXPECT_EQ (payload, loaded ? block.payload : Bytes ());
  return loaded.has_value ();
}

inline std::vector<std::filesystem::path>
files (const std::filesystem::path &directory, const std::string &suffix = ".kv")
{
  std::vector<std::filesystem::path> found;
  for (const auto &entry : std::filesystem::recursive_directory_iterator (directory)) {
    if (entry.path ().extension () == suffix)
      found.push_back (entry.path ());
  }
  std::ranges::sort (found);
  return found;
}

inline uint64_t
bytes_in (const std::filesystem::path &directory)
{
  uint64_t sum = 0;
  for (const std::filesystem::path &path : files (directory))
    sum += std::filesystem::file_size (path);
  return sum;
}

inline Bytes
read_file (const std::filesystem::path &path)
{
  Bytes bytes (std::filesystem::file_size (path));
  std::ifstream (path, std::ios::binary)
      .read (reinterpret_cast<char *> (bytes.data ()), static_cast<std::streamsize> (bytes.size ()));
  return bytes;
}

inline void
write_file (const std::filesystem::path &path, std::span<const std::byte> bytes)
{
  std::filesystem::remove (path); // file systems flush a file that is truncated and written again
  std::ofstream (path, std::ios::binary | std::ios::trunc)
      .write (reinterpret_cast<const char *> (bytes.data ()), static_cast<std::streamsize> (bytes.size ()));
}

/// The one file of a folder that holds one saved block.
struct SavedBlock {
  TemporaryFolder folder;
  Block content = block (1, 24, 3);
  std::filesystem::path path;
  Bytes bytes;

  SavedBlock ()
  {
    {
      DiskStore store (in (folder));
      save (store, content);
    }
    path = files (folder.path ()).at (0);
    bytes = read_file (path);
  }
};

} // namespace disk_test
