#include "engine/backend/cpu/stored_rows.hpp"

#include "engine/error.hpp"
#include "engine/weights/weight_files.hpp"

namespace millrace::cpu
{

CodedMatrix::Form
StoredRows::form (DType stored) const
{
  CodedMatrix::Form form{{}, stored};
  if (affine)
    form = {affine->codes, affine->scale_type};
  else if (coded)
    form = coded->form ();
  if (transposed && (form.codes || is_block_type (form.type)))
    form = {{}, DType::kF32};
  return form;
}

StoredRows
stored_rows (const WeightFiles &files, const TensorView &tensor, const WeightRef &ref)
{
  const TensorPart &part = ref.part;
  const bool transposed = !part.shape.empty () && part.input_step != 1;
  StoredRows rows;
  rows.affine = files.affine (ref.name);
  rows.coded = files.coded (ref.name);
  if (!ref.is_matrix () || (!rows.affine && !rows.coded && !(transposed && is_block_type (tensor.dtype))))
    return {};
  rows.values = float_rows (files, ref.name);
  rows.first = ref.first_output;
  if (part.shape.empty ())
    return rows;
  rows.transposed = transposed;
  const int64_t columns = tensor.shape.back (), step = transposed ? part.input_step : part.output_step;
  rows.first = part.first / columns;
  rows.step = step / columns;
  rows.first_column = part.first % columns;
  rows.column_step = transposed ? part.output_step : 1;
  const int64_t last_column =
      rows.first_column + ((transposed ? ref.outputs : ref.inputs) - 1) * rows.column_step;
  if (step % columns != 0 || last_column >= columns || (!transposed && ref.inputs != columns))
    throw LoadError (
        files.file_of (ref.name), ref.name,
        "is quantized, and is needed in parts that are not its rows, which is not supported; use "
        "the BF16, F16 or F32 checkpoint");
  return rows;
}

} // namespace millrace::cpu
