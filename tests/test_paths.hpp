// Where tests find their data. The big suites need MILLRACE_ORACLES (default: ../shared beside the
// checkout) and skip, saying so, when a folder of it is absent.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

inline std::filesystem::path
source_path (const std::string &relative)
{
  return std::filesystem::path (MILLRACE_SOURCE_DIR) / relative;
}

inline std::filesystem::path
oracle_path (const std::string &relative)
{
  const char *root = std::getenv ("MILLRACE_ORACLES");
  const auto base = root && *root ? std::filesystem::path (root) : source_path ("../shared");
  return base / relative;
}

/// Skips the running test when the oracle folder is not there.
#define REQUIRE_ORACLES(relative)                                                                            \
  do {                                                                                                       \
    if (!std::filesystem::exists (oracle_path (relative)))                                                   \
      GTEST_SKIP () << "no " << oracle_path (relative) << ": set MILLRACE_ORACLES to the oracle folder";     \
  } while (0)

/// A fresh folder that goes away with the object.
class TemporaryFolder
{
public:
  TemporaryFolder ()
  {
    std::string pattern = (std::filesystem::temp_directory_path () / "millrace-XXXXXX").string ();
    if (!mkdtemp (pattern.data ()))
      std::abort ();
    path_ = pattern;
  }
  ~TemporaryFolder ()
  {
    std::error_code ignored;
    std::filesystem::remove_all (path_, ignored);
  }
  const std::filesystem::path &path () const { return path_; }

private:
  std::filesystem::path path_;
};
