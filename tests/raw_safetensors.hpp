// Safetensors files of whatever bytes, as tools write them that quantize.
#pragma once

#include "tests/synthetic_model.hpp"

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

namespace millrace::testing
{

struct RawTensor {
  std::string name, dtype;
  std::vector<int64_t> shape;
  std::string bytes;
};

inline void
write_raw_safetensors (const std::filesystem::path &path, const std::vector<RawTensor> &tensors)
{
  std::string header, data;
  for (const RawTensor &tensor : tensors) {
    std::string shape;
    for (const int64_t size : tensor.shape)
      shape += (shape.empty () ? "" : ",") + std::to_string (size);
    const size_t begin = data.size ();
    data += tensor.bytes;
    header += (header.empty () ? "{\"" : ",\"") + tensor.name + "\":{\"dtype\":\"" + tensor.dtype +
              "\",\"shape\":[" + shape + "],\"data_offsets\":[" + std::to_string (begin) + "," +
              std::to_string (data.size ()) + "]}";
  }
  header += "}";
  const uint64_t length = header.size ();
  write_file (path, std::string (reinterpret_cast<const char *> (&length), sizeof length) + header + data);
}

template <typename T>
std::string
bytes_of (const std::vector<T> &values)
{
  return {reinterpret_cast<const char *> (values.data ()), values.size () * sizeof (T)};
}

} // namespace millrace::testing
