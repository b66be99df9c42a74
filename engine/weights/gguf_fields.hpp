// Typed, range-checked access to the metadata of a GGUF file, with errors that name file and key.
//
// A value of another type or out of its range is a LoadError, never a silent default; integers of all widths are
// integers. A GgufFields points into the header it is made from, which must live longer. Any thread.
#pragma once

#include "engine/weights/gguf.hpp"

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace millrace
{

class GgufFields
{
public:
  GgufFields (std::filesystem::path file, const GgufMetadata &metadata)
      : file_ (std::move (file))
      , metadata_ (&metadata)
  {
  }

  const std::filesystem::path &file () const { return file_; }
  const GgufValue *find (std::string_view key) const; ///< null when absent
  bool has (std::string_view key) const { return find (key); }

  int64_t integer (std::string_view key, int64_t least, int64_t most) const;
  int64_t integer_or (std::string_view key, int64_t least, int64_t most, int64_t fallback) const;
  /// least ≤ value ≤ most; integers are taken too.
  double number (std::string_view key, double least, double most) const;
  double number_or (std::string_view key, double least, double most, double fallback) const;
  bool boolean_or (std::string_view key, bool fallback) const;
  std::string_view text (std::string_view key) const;
  std::string_view text_or (std::string_view key, std::string_view fallback) const;
  const std::vector<std::string_view> &texts (std::string_view key) const;
  /// Empty when absent; each within 32 bits, true is 1.
  std::vector<int32_t> integers (std::string_view key) const;
  /// Empty when absent; integers are taken too.
  std::vector<float> numbers (std::string_view key) const;

  /// The value as people may read it: "7", "\"yarn\"", "an array".
  static std::string shown (const GgufValue &value);

  [[noreturn]] void fail (std::string_view key, const std::string &problem) const;

private:
  const GgufValue &require (std::string_view key) const;

  std::filesystem::path file_;
  const GgufMetadata *metadata_;
};

/// A scalar number of whatever type; false for other types and for unsigned numbers beyond int64.
bool gguf_integer (GgufType type, std::span<const std::byte> bytes, int64_t &value);
bool gguf_number (GgufType type, std::span<const std::byte> bytes, double &value);

} // namespace millrace
