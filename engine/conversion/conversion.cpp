#include "engine/conversion/conversion.hpp"

#include "engine/conversion/conversions.hpp"
#include "engine/model/model_place.hpp"

#include <stdexcept>

namespace fs = std::filesystem;

namespace millrace
{

ConversionSummary
convert_model (const ConversionRequest &request)
{
  const fs::path gguf = gguf_file_of (request.from);
  const bool to_gguf = request.to.extension () == ".gguf";
  if (!gguf.empty () && to_gguf)
    return requantize_gguf (gguf, request);
  if (gguf.empty () && !to_gguf)
    return requantize_folder (request.from, request);
  throw std::invalid_argument (to_gguf ? "folders are written as folders"
                                       : "GGUF files are written as GGUF files");
}

} // namespace millrace
