// A typed, shaped view of bytes that somebody else owns.
#include "engine/tensor/tensor_view.hpp"

namespace millrace
{

std::string
to_string (const Shape &shape)
{
  std::string text = "[";
  for (size_t i = 0; i < shape.size (); ++i)
    text += (i ? ", " : "") + std::to_string (shape[i]);
  return text + "]";
}

int64_t
TensorView::element_count () const
{
  int64_t count = 1;
  for (const int64_t dimension : shape)
    count *= dimension;
  return count;
}

} // namespace millrace
