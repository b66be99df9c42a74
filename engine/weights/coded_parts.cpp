#include "engine/weights/coded_parts.hpp"

#include "engine/error.hpp"
#include "engine/weights/tensor_entry.hpp"

#include <cstring>

namespace millrace
{

namespace
{

const TensorView &
found_view (const WeightFiles &files, const std::string &name, const std::string &beside)
{
  const TensorView *view = files.find (name);
  if (!view)
    throw LoadError (files.file_of (files.contains (name) || beside.empty () ? name : beside),
                     printable (name),
                     files.contains (name) ? "is of a type that such a matrix cannot have"
                                           : "is missing, but " + printable (beside) +
                                                 " is quantized and needs it; fetch the whole checkpoint");
  return *view;
}

} // namespace

CodedPart::CodedPart (const WeightFiles &files, const std::string &name)
    : name (name)
    , view (found_view (files, name, name))
    , mapping (files.mapping_of (name))
    , file (files.file_of (name))
{
}

CodedPart::CodedPart (const WeightFiles &files, const std::string &name, const CodedPart &beside)
    : name (name)
    , view (found_view (files, name, beside.name))
    , mapping (files.mapping_of (name))
    , file (files.file_of (name))
{
}

void
CodedPart::fail (const std::string &problem) const
{
  throw LoadError (file, printable (name), problem + "; use the config.json that belongs to these weights");
}

void
CodedPart::require (const Shape &shape) const
{
  if (view.shape != shape)
    fail ("has shape " + to_string (view.shape) + ", expected " + to_string (shape));
}

void
CodedPart::require (DType type) const
{
  if (view.dtype != type)
    fail ("has elements of type " + std::string (dtype_name (view.dtype)) + ", expected " +
          std::string (dtype_name (type)));
}

void
CodedPart::require_floats () const
{
  if (view.dtype != DType::kF32 && view.dtype != DType::kF16 && view.dtype != DType::kBF16)
    fail ("has elements of type " + std::string (dtype_name (view.dtype)) +
          "; scales must be F32, F16 or BF16");
}

float
CodedPart::number (int64_t index) const
{
  float value;
  read_floats (view.dtype, view.data.data () + static_cast<size_t> (index) * dtype_bytes (view.dtype), 1,
               &value);
  return value;
}

uint32_t
CodedPart::word (int64_t index) const
{
  uint32_t value;
  std::memcpy (&value, view.data.data () + static_cast<size_t> (index) * sizeof value, sizeof value);
  return value;
}

std::vector<std::string>
names_of_type (const WeightFiles &files, DType type)
{
  std::vector<std::string> names;
  for (const auto &[name, tensor] : files.tensors ())
    if (tensor.dtype == type && !files.coded (name))
      names.push_back (name);
  return names;
}

std::vector<std::string>
names_that_end (const WeightFiles &files, std::string_view end)
{
  std::vector<std::string> names;
  for (const auto &[name, tensor] : files.tensors ())
    if (name.ends_with (end))
      names.push_back (name.substr (0, name.size () - end.size ()));
  return names;
}

} // namespace millrace
