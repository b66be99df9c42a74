// Models of real shapes with random weights, for measuring speed where no real weights are at hand.
#pragma once

#include "bench/model_shape.hpp"

#include <filesystem>

namespace millrace::bench
{

/// config.json and model.safetensors; `type` is F32, F16 or BF16. Throws std::runtime_error when it cannot be written.
void write_safetensors_model (const std::filesystem::path &folder, const ModelShape &shape,
                              DType type = DType::kBF16);

/// One file with a vocabulary, which other programs load too. Every matrix has `type`, norms are F32. Throws
/// std::invalid_argument when rows are not whole blocks of it.
void write_gguf_model (const std::filesystem::path &file, const ModelShape &shape, DType type);

} // namespace millrace::bench
