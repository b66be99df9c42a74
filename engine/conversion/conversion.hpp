// Models written again in other types: `millrace quantize`.
//
// From whatever can be read, a folder of safetensors or a GGUF file, to a folder with affine codes as MLX writes them (or
// floats), or to a GGUF file of block types (or floats). Tensor by tensor, in bounded memory, by all threads; the bytes
// do not depend on how many. What is written gets its name when it is whole.
#pragma once

#include "engine/conversion/wanted_type.hpp"
#include "engine/weights/tensor_output.hpp"

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace millrace
{

struct ConversionRequest {
  std::filesystem::path from,
      to; ///< a GGUF file when it is called .gguf, otherwise a folder that is not there yet
  WantedType type;
  std::vector<TypeOverride> overrides;
  int threads = 0; ///< 0: usable_cores ()
  OutputProgress progress;
};

/// What was written.
struct ConversionSummary {
  struct OfType {
    int tensors = 0;
    uint64_t elements = 0, bytes = 0;
  };
  std::map<std::string, OfType> types; ///< by encoding_name (), or the name of a type that was copied
  std::vector<std::string> notes;      ///< for people: what is not as it was asked for, and why
};

/// Throws LoadError for what is wrong with the model, std::invalid_argument for what cannot be written so,
/// std::system_error, and Cancelled.
ConversionSummary convert_model (const ConversionRequest &request);

} // namespace millrace
