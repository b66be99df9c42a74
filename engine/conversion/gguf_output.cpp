#include "engine/conversion/conversions.hpp"

#include <stdexcept>

namespace millrace
{

namespace
{

constexpr uint32_t kQuantizationVersion = 2; ///< of the block types' layouts

void
count (ConversionSummary &summary, const std::string &type, const Shape &shape, uint64_t bytes)
{
  ConversionSummary::OfType &of_type = summary.types[type];
  uint64_t elements = 1;
  for (const int64_t size : shape)
    elements *= static_cast<uint64_t> (size);
  ++of_type.tensors;
  of_type.elements += elements;
  of_type.bytes += bytes;
}

} // namespace

GgufOutput::GgufOutput (const ConversionRequest &request)
    : request_ (request)
    , layout_ (request.to)
{
  if (request.type.is_affine ())
    throw std::invalid_argument (request.type.name +
                                 " is no type of GGUF files; name a folder, or one of the types " +
                                 wanted_type_names ());
  for (const TypeOverride &override : request.overrides)
    if (override.type.is_affine ())
      throw std::invalid_argument (override.type.name + " is no type of GGUF files");
  layout_.set ("general.file_type", gguf_file_type (request.type.encoding.type, request.type.mix));
  if (request.type.is_blocks ())
    layout_.set ("general.quantization_version", kQuantizationVersion);
}

DType
GgufOutput::chosen_type (const GgufTypes &types, const GgufTensorFacts &tensor,
                         std::optional<DType> stored) const
{
  if (const WantedType *type = overridden_type (request_.overrides, tensor.name))
    return fitting_gguf_type (type->encoding.type, tensor.shape.empty () ? 1 : tensor.shape.back ());
  if (is_quantizable_gguf (tensor))
    return types.type_of (tensor, request_.type.encoding.type, request_.type.mix);
  return stored.value_or (DType::kF32);
}

void
GgufOutput::add (const std::string &name, DType type, const Shape &shape,
                 std::shared_ptr<const FloatRows> values)
{
  layout_.add_tensor (name, type, shape);
  TensorOutput tensor;
  tensor.name = name;
  tensor.encoding.type = type;
  const uint64_t bytes =
      tensor.encoding.row_bytes (values->columns ()) * static_cast<uint64_t> (values->rows ());
  tensor.values = std::move (values);
  tensors_.push_back (std::move (tensor));
  count (summary_, std::string (dtype_name (type)), shape, bytes);
}

void
GgufOutput::copy (const std::string &name, DType type, const Shape &shape, std::span<const std::byte> bytes)
{
  layout_.add_tensor (name, type, shape);
  TensorOutput tensor;
  tensor.name = name;
  tensor.stored = bytes;
  tensors_.push_back (std::move (tensor));
  count (summary_, std::string (dtype_name (type)), shape, bytes.size ());
}

ConversionSummary
GgufOutput::write ()
{
  OutputFile file (request_.to);
  const std::string header = layout_.header ();
  file.write (0, std::as_bytes (std::span (header)));
  for (TensorOutput &tensor : tensors_)
    tensor.data = {&file, layout_.offset (tensor.name)};
  ThreadPool pool (request_.threads);
  write_tensors (tensors_, pool, request_.progress);
  file.resize (layout_.file_bytes ()); // zeros behind the last tensor
  file.commit ();
  return std::move (summary_);
}

} // namespace millrace
