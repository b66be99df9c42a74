// The inputs that a fuzz target starts from, for the tests that run them in every build.
#pragma once

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace millrace::fuzz
{

/// The files of tests/data/fuzz/`target`, by their names.
inline std::vector<std::string>
corpus (const char *target)
{
  std::vector<std::filesystem::path> files;
  for (const auto &entry :
       std::filesystem::directory_iterator (std::string (MILLRACE_SOURCE_DIR "/tests/data/fuzz/") + target))
    files.push_back (entry.path ());
  std::sort (files.begin (), files.end ());
  std::vector<std::string> inputs;
  for (const auto &path : files) {
    std::ifstream file (path, std::ios::binary);
    inputs.emplace_back (std::istreambuf_iterator<char> (file), std::istreambuf_iterator<char> ());
  }
  return inputs;
}

} // namespace millrace::fuzz
