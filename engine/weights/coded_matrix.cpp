#include "engine/weights/coded_matrix.hpp"

namespace millrace
{

size_t
CodedMatrix::row_bytes () const
{
  const Form kept = form ();
  const auto count = static_cast<size_t> (columns ());
  if (kept.codes) {
    const auto bits = static_cast<size_t> (kept.codes->bits), group = static_cast<size_t> (kept.codes->group);
    return count * bits / 8 + 2 * (count / group) * dtype_bytes (kept.type);
  }
  const DTypeBlock block = dtype_block (kept.type);
  return count / block.elements * block.bytes;
}

} // namespace millrace
