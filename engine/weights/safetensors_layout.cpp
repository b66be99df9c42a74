#include "engine/weights/safetensors_layout.hpp"

#include "engine/json_text.hpp"

#include <algorithm>
#include <cstring>

namespace millrace
{

namespace
{

constexpr size_t kLengthBytes = 8;

} // namespace

void
SafetensorsLayout::add (const std::string &name, std::string_view dtype, size_t element_bytes,
                        const Shape &shape, uint64_t bytes)
{
  tensors_.push_back ({name, std::string (dtype), element_bytes, shape, bytes});
  bytes_ += bytes;
}

std::string
SafetensorsLayout::header (std::string_view format)
{
  std::ranges::sort (tensors_, [] (const Tensor &a, const Tensor &b) {
    return a.element_bytes != b.element_bytes ? a.element_bytes > b.element_bytes : a.name < b.name;
  });
  std::string json = "{\"__metadata__\":{\"format\":";
  append_json_string (json, format);
  json += "}";
  uint64_t at = 0;
  for (const Tensor &tensor : tensors_) {
    json += ",";
    append_json_string (json, tensor.name);
    json += ":{\"dtype\":\"" + tensor.dtype + "\",\"shape\":[";
    for (size_t i = 0; i < tensor.shape.size (); ++i)
      json += (i > 0 ? "," : "") + std::to_string (tensor.shape[i]);
    offsets_[tensor.name] = at;
    at += tensor.bytes;
    json +=
        "],\"data_offsets\":[" + std::to_string (offsets_[tensor.name]) + "," + std::to_string (at) + "]}";
  }
  json += "}";
  json.append ((kLengthBytes - json.size () % kLengthBytes) % kLengthBytes, ' ');
  const uint64_t length = json.size ();
  for (auto &[name, offset] : offsets_)
    offset += kLengthBytes + length;
  std::string header (kLengthBytes, '\0');
  std::memcpy (header.data (), &length, sizeof length); // little-endian, as the machine
  return header + json;
}

} // namespace millrace
