// Where the outputs of a weight are in a tensor of codes: affine ones, matrices of several tensors, blocks that are needed
// transposed.
//
// Output i is row first + i · step of the tensor; or, transposed, its input k is in row first + k · step, column first_column +
// i · column_step. Values that refer to their WeightFiles; any thread.
#pragma once

#include "engine/backend/program.hpp"
#include "engine/weights/affine_tensor.hpp"
#include "engine/weights/coded_matrix.hpp"

#include <memory>

namespace millrace
{

class WeightFiles;

namespace cpu
{

struct StoredRows {
  std::shared_ptr<const FloatRows>
      values; ///< of the whole tensor; null: elements are read from the tensor's data
  const AffineTensor *affine = nullptr; ///< of the tensor, or null
  const CodedMatrix *coded = nullptr;   ///< likewise
  int64_t first = 0, step = 1;
  bool transposed = false;
  int64_t first_column = 0, column_step = 1;

  /// As what outputs can be kept; `stored`: the tensor's type. Codes are of rows: transposed, they are 32-bit floats.
  CodedMatrix::Form form (DType stored) const;
};

/// None (no values) of floats, of vectors, and of blocks whose rows are outputs. Throws LoadError for parts of codes that are not
/// rows.
StoredRows stored_rows (const WeightFiles &files, const TensorView &tensor, const WeightRef &ref);

} // namespace cpu

} // namespace millrace
