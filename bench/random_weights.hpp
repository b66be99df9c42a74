// Random weights in any type that model files store, as fast as a disk takes them.
#pragma once

#include "engine/tensor/dtype.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace millrace::bench
{

/// About a megabyte of random blocks of one type, repeated: speed does not depend on more. Weights are about ±0.05,
/// so that logits stay finite. The number of blocks is prime, so that the rows of a matrix begin at different ones. The
/// same on every machine. Types: F32, F16, BF16 and the block types of GGUF; others throw std::invalid_argument.
class RandomWeights
{
public:
  explicit RandomWeights (DType type);

  /// The next bytes, at most `bytes`, and not all of them in one piece.
  std::span<const std::byte> next (uint64_t bytes);

private:
  std::vector<std::byte> bytes_;
  size_t at_ = 0;
};

/// Values of about 1, as norms have them.
std::vector<float> random_norm (int64_t count, uint64_t seed);

} // namespace millrace::bench
