// Tensors on their way into files: rows of floats are read, encoded and written, by all threads of a pool.
//
// Where everything goes is known before (headers of safetensors and GGUF files say it), so that parts of about kPartElements
// elements are independent: memory is bounded by a few parts, and which thread does which part changes no byte. Pages of source
// files that have been used up are let go of.
#pragma once

#include "engine/tensor/thread_pool.hpp"
#include "engine/weights/affine_codes.hpp"
#include "engine/weights/float_rows.hpp"
#include "engine/weights/output_file.hpp"

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace millrace
{

/// How the values of a tensor are stored.
struct TensorEncoding {
  DType type = DType::kF32;           ///< floats or blocks; of affine codes the type of scales and biases
  std::optional<AffineCodes> codes{}; ///< affine
  bool scales_apart = false; ///< of MXFP4, in a tensor of their own, as MLX has them (mxfp4_matrix.hpp)

  bool is_codes () const { return codes || scales_apart; }
  /// Of `columns` elements, whole blocks or groups; without scales and biases that are tensors of their own.
  size_t row_bytes (int64_t columns) const;
  /// Of a row's scales that are, and of affine codes its biases; 0 where there are none.
  size_t scale_row_bytes (int64_t columns) const;
  /// Whether rows of so many elements are whole blocks or groups.
  bool fits (int64_t columns) const;
};

/// One tensor to be written.
struct TensorOutput {
  struct Place {
    const OutputFile *file = nullptr;
    uint64_t offset = 0;
  };

  std::string name; ///< for progress
  /// What is written: rows, encoded; or bytes as they are.
  std::shared_ptr<const FloatRows> values;
  TensorEncoding encoding;
  std::span<const std::byte> stored;
  Place data, scales, biases; ///< the latter two where there are such tensors
};

struct OutputProgress {
  /// Called by any thread, several at a time: elements that are done, and the tensor of some of them.
  std::function<void (uint64_t done, uint64_t total, const std::string &name)> report = {};
  const std::atomic<bool> *cancelled = nullptr; ///< when it becomes true there is an end soon
};

/// Thrown when it was cancelled.
struct Cancelled {
};

/// Throws std::system_error when a file cannot be written, and Cancelled.
void write_tensors (std::span<const TensorOutput> tensors, ThreadPool &pool, const OutputProgress &progress);

} // namespace millrace
