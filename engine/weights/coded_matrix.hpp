// Matrices of safetensors files whose elements are codes that other programs' quantizers wrote: 8-bit floats with scales, MXFP4,
// GPTQ, AWQ. Several tensors make up one matrix, whose rows (outputs) are put together when they are asked for.
//
// What is in which tensor stands in fp8_matrix.hpp, mxfp4_matrix.hpp and integer_matrix.hpp; which of them a checkpoint has is in
// config.json (engine/model/quantization.hpp). Matrices of MLX's codes are affine_tensor.hpp's. Immutable; any thread.
#pragma once

#include "engine/tensor/dtype.hpp"
#include "engine/weights/affine_codes.hpp"
#include "engine/weights/float_rows.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace millrace
{

class CodedMatrix : public FloatRows
{
public:
  /// What rows can be kept as.
  struct Form {
    /// Codes with a scale and a bias, both of `type`, for each group; exactly what the row means.
    std::optional<AffineCodes> codes;
    /// Otherwise: blocks, exactly too; or floats, to which elements are rounded (to nearest, ties to even).
    DType type = DType::kBF16;
  };
  virtual Form form () const = 0;
  /// A row in that form, but not for floats: codes one after the other from the lowest bit of the first byte on, then scales,
  /// then biases; or blocks. `out` has row_bytes ().
  virtual void encode (int64_t row, std::byte *out) const = 0;
  size_t row_bytes () const;

  /// "GPTQ 4 bits, groups of 128", for people.
  virtual std::string description () const = 0;
  /// Bytes of files, and the mapping that they lie in.
  struct Part {
    std::span<const std::byte> data, mapping;
  };
  /// All that rows are made of.
  virtual std::vector<Part> parts () const = 0;
  /// Of the largest part; empty where a row's bytes are no neighbours.
  std::span<const std::byte> source (int64_t, int64_t) const override { return {}; }
};

} // namespace millrace
