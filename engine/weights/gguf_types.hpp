// The numbers of the GGUF format: types of metadata and of tensors, as reader and writer share them.
//
// Source: GGUF specification, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
#pragma once

#include "engine/tensor/dtype.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace millrace
{

constexpr uint32_t kGgufMagic = 0x46554747; // "GGUF", read as little-endian
constexpr uint64_t kGgufDefaultAlignment = 32;
constexpr size_t kGgufMaxRank = 4;

enum class GgufType : uint32_t {
  kUint8,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kUint64,
  kInt64,
  kFloat64,
};
constexpr uint32_t kGgufTypes = 13;

std::string_view gguf_type_name (GgufType type); ///< "uint32"
size_t gguf_type_bytes (GgufType type); ///< of a scalar; of a string and an array the least they can have

struct GgufTensorType {
  uint32_t id;
  std::string_view name; ///< "Q5_K"
  DTypeBlock block;
  std::optional<DType> dtype; ///< none: this engine cannot compute with it
};

/// Null for an id that the format did not have when this was written.
const GgufTensorType *gguf_tensor_type (uint32_t id);
/// Null for a type that GGUF files do not have.
const GgufTensorType *gguf_tensor_type (DType dtype);

} // namespace millrace
