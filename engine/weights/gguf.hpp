// The header of a GGUF file: bytes in, checked metadata and list of tensors out. No tensor data is read.
//
// Little-endian, versions 2 and 3. Every count is held against the bytes that are left before anything is reserved for
// it, every offset against the file: tensors are aligned, inside the data section and do not overlap, their rows are
// whole blocks. Keys and tensor names are distinct; arrays of arrays are refused. Strings are bytes as they stand, not
// necessarily UTF-8. Errors name file and field.
// Source: GGUF specification, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
#pragma once

#include "engine/weights/gguf_types.hpp"
#include "engine/weights/tensor_entry.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string_view>
#include <vector>

namespace millrace
{

/// A value of the metadata, a view of the file's bytes.
struct GgufValue {
  GgufType type = GgufType::kUint8;
  std::span<const std::byte> bytes; ///< of a scalar, or of all elements of an array of scalars; little-endian
  std::string_view text;            ///< kString
  GgufType element = GgufType::kUint8;      ///< kArray: the type of its elements
  uint64_t count = 0;                       ///< kArray: how many
  std::vector<std::string_view> texts = {}; ///< kArray of kString
};

using GgufMetadata = std::map<std::string_view, GgufValue, std::less<>>;

struct GgufHeader {
  uint32_t version = 0;
  GgufMetadata metadata;
  std::vector<TensorEntry> tensors; ///< in the order of the file; of types that nobody knows, `data` is empty
};

/// Whether a file begins as GGUF files do.
bool is_gguf (std::span<const std::byte> bytes);

/// `file` is for messages; what is returned points into `bytes`. Throws LoadError.
GgufHeader parse_gguf (const std::filesystem::path &file, std::span<const std::byte> bytes);

} // namespace millrace
