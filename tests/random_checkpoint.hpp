// Checkpoints of any family: random weights of the names and shapes that the program of a configuration asks for.
#pragma once

#include "engine/model/config.hpp"
#include "engine/model/decoder.hpp"
#include "tests/synthetic_model.hpp"

#include <cmath>
#include <filesystem>
#include <random>
#include <set>
#include <string>
#include <vector>

namespace millrace::testing
{

/// Random values for whatever tensors the program asks for.
inline void
write_random_model (const std::filesystem::path &folder, const std::string &config, uint32_t seed)
{
  write_file (folder / "config.json", config);
  std::mt19937 random (seed);
  std::normal_distribution<float> normal;
  std::set<std::string> written;
  std::vector<SyntheticTensor> tensors;
  for (const WeightRef &weight : build_program (load_architecture (folder / "config.json")).weights) {
    if (!written.insert (weight.name).second)
      continue;
    SyntheticTensor tensor{weight.name, weight.shape (), DType::kBF16, {}};
    const bool is_factor = weight.name.find ("norm") != std::string::npos || weight.outputs == 1;
    const float mean = is_factor ? 1 - weight.offset : 0;
    const float deviation = weight.is_matrix () ? 1 / std::sqrt (static_cast<float> (weight.inputs)) : 0.2f;
    int64_t count = 1;
    for (const int64_t size : tensor.shape)
      count *= size;
    for (int64_t i = 0; i < count; ++i)
      tensor.values.push_back (mean + deviation * normal (random));
    tensors.push_back (std::move (tensor));
  }
  write_safetensors (folder / "model.safetensors", tensors);
}

} // namespace millrace::testing
