// Affine matrices: what their rows mean, and which tensors they are made of.
//
// Everything is checked here, before a size is used for anything: that the three tensors belong together, and that bits and
// group divide a row.
#include "engine/weights/affine_tensor.hpp"

#include "engine/error.hpp"
#include "engine/weights/mxfp4_matrix.hpp"
#include "engine/weights/tensor_entry.hpp"
#include "engine/weights/weight_files.hpp"

#include <algorithm>
#include <cstring>

namespace millrace
{

namespace
{

constexpr std::string_view kWeight = ".weight", kScales = ".scales", kBiases = ".biases";
constexpr int kWordBits = 32;
constexpr int64_t kMostWords = int64_t{1} << 32; ///< of a row: far above any

bool
is_float (DType dtype)
{
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
}

float
float_at (DType dtype, const std::byte *data, size_t index)
{
  data += index * dtype_bytes (dtype);
  if (dtype == DType::kF32) {
    float value;
    std::memcpy (&value, data, sizeof value);
    return value;
  }
  uint16_t bits;
  std::memcpy (&bits, data, sizeof bits);
  return dtype == DType::kF16 ? f16_to_f32 (bits) : bf16_to_f32 (bits);
}

} // namespace

std::optional<AffineSettings::Codes>
AffineSettings::of (std::string_view module) const
{
  const auto found = modules.find (module);
  return found == modules.end () ? std::optional (common) : found->second;
}

void
dequantize_affine_row (const AffineTensor &tensor, size_t row, float *out)
{
  const std::byte *codes = tensor.data.data () + row * tensor.row_bytes ();
  const std::byte *scales = tensor.scales.data () + row * tensor.scale_row_bytes ();
  const std::byte *biases = tensor.biases.data () + row * tensor.scale_row_bytes ();
  const int bits = tensor.codes.bits, group = tensor.codes.group;
  const uint32_t mask = (1u << bits) - 1;
  uint32_t held = 0; // codes to come, and how many bits of them
  int held_bits = 0;
  for (int64_t begin = 0; begin < tensor.inputs; begin += group) {
    const auto index = static_cast<size_t> (begin / group);
    const float scale = float_at (tensor.scale_type, scales, index);
    const float bias = float_at (tensor.scale_type, biases, index);
    for (int64_t i = begin; i < begin + group; ++i) {
      if (held_bits < bits) {
        held |= std::to_integer<uint32_t> (*codes++) << held_bits;
        held_bits += 8;
      }
      out[i] = scale * static_cast<float> (held & mask) + bias;
      held >>= bits;
      held_bits -= bits;
    }
  }
}

/// Makes of the words of NAME.weight the matrix that they stand for.
void
WeightFiles::add_affine (const std::string &name, TensorView &words, const AffineCodes &codes)
{
  const std::string module = name.substr (0, name.size () - kWeight.size ());
  const auto fail = [&] (const std::string &tensor, const std::string &problem) {
    throw LoadError (file_of (contains (tensor) ? tensor : name), printable (tensor),
                     problem + "; use the config.json that belongs to these weights");
  };
  const std::string quantized = "quantized matrix of " + std::to_string (codes.bits) + " bits in groups of " +
                                std::to_string (codes.group);
  const int64_t row_words = words.shape.size () < 2 ? 0 : words.shape.back ();
  if (row_words <= 0 || row_words > kMostWords || row_words * kWordBits % codes.bits != 0 ||
      row_words * kWordBits / codes.bits % codes.group != 0)
    fail (name, "has shape " + to_string (words.shape) + ", whose rows cannot be those of a " + quantized);

  AffineTensor tensor;
  tensor.codes = codes;
  tensor.inputs = row_words * kWordBits / codes.bits;
  tensor.data = words.data;
  Shape expected = words.shape;
  expected.back () = tensor.inputs / codes.group;
  const auto part = [&] (std::string_view suffix) -> const TensorView & {
    const std::string part_name = module + std::string (suffix);
    const TensorView *found = find (part_name);
    if (!found)
      fail (part_name, "is missing, but " + printable (name) + " is a " + quantized);
    if (!is_float (found->dtype))
      fail (part_name, "has elements of type " + std::string (dtype_name (found->dtype)) +
                           "; scales and biases must be F32, F16 or BF16");
    if (found->shape != expected)
      fail (part_name, "has shape " + to_string (found->shape) + ", expected " + to_string (expected) +
                           " for a " + quantized);
    return *found;
  };
  const TensorView &scales = part (kScales), &biases = part (kBiases);
  if (scales.dtype != biases.dtype)
    fail (module + std::string (kBiases), "is of another type than " + printable (module) + ".scales");
  tensor.scale_type = scales.dtype;
  tensor.scales = scales.data;
  tensor.biases = biases.data;
  tensor.scales_mapping = mapping_of (module + std::string (kScales));
  tensor.biases_mapping = mapping_of (module + std::string (kBiases));
  words.shape.back () = tensor.inputs;
  affine_.emplace (name, tensor);
  for (const std::string_view suffix : {kScales, kBiases})
    tensors_.erase (module + std::string (suffix));
}

void
WeightFiles::apply (const AffineSettings &settings)
{
  std::vector<std::string> words;
  for (const auto &[name, tensor] : tensors_)
    if (tensor.dtype == DType::kU32 && name.ends_with (kWeight) && !affine_.contains (name) && !coded (name))
      words.push_back (name);
  for (const std::string &name : words) {
    const auto codes = settings.of (std::string_view (name).substr (0, name.size () - kWeight.size ()));
    if (codes && codes->mxfp4)
      put_mxfp4_together (*this, name);
    else if (codes)
      add_affine (name, tensors_.at (name), *codes);
  }
}

const AffineTensor *
WeightFiles::affine (std::string_view name) const
{
  const auto found = affine_.find (name);
  return found == affine_.end () ? nullptr : &found->second;
}

} // namespace millrace
