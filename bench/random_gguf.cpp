// Random models as GGUF files. The keys are those that llama.cpp and ik_llama.cpp ask for.
// Source: GGUF specification, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
#include "bench/random_model.hpp"

#include "bench/random_vocabulary.hpp"
#include "bench/random_weights.hpp"
#include "engine/weights/gguf_writer.hpp"

#include <stdexcept>

namespace millrace::bench
{

namespace
{

/// general.file_type: what most matrices are.
uint32_t
file_type (DType type)
{
  switch (type) {
  case DType::kF32:
    return 0;
  case DType::kF16:
    return 1;
  case DType::kQ4_0:
    return 2;
  case DType::kQ4_1:
    return 3;
  case DType::kQ8_0:
    return 7;
  case DType::kQ5_0:
    return 8;
  case DType::kQ5_1:
    return 9;
  case DType::kQ2K:
    return 10;
  case DType::kQ3K:
    return 11;
  case DType::kQ4K:
    return 14;
  case DType::kQ5K:
    return 16;
  case DType::kQ6K:
    return 18;
  case DType::kIQ4NL:
    return 25;
  case DType::kBF16:
    return 32;
  case DType::kMXFP4:
    return 38;
  default:
    throw std::invalid_argument ("no GGUF files of type " + std::string (dtype_name (type)));
  }
}

void
set_metadata (GgufWriter &writer, const ModelShape &shape, DType type)
{
  const auto number = [&] (const std::string &key, int value) {
    writer.set (shape.family + "." + key, static_cast<uint32_t> (value));
  };
  writer.set ("general.architecture", shape.family);
  writer.set ("general.name", "random weights, shape of " + shape.name);
  writer.set ("general.file_type", file_type (type));
  writer.set ("general.quantization_version", uint32_t{2});
  number ("context_length", shape.max_positions);
  number ("embedding_length", shape.hidden);
  number ("block_count", shape.layers);
  number ("feed_forward_length", shape.intermediate);
  number ("vocab_size", shape.vocab);
  number ("attention.head_count", shape.heads);
  number ("attention.head_count_kv", shape.kv_heads);
  number ("attention.key_length", shape.head_dim);
  number ("attention.value_length", shape.head_dim);
  number ("rope.dimension_count", shape.head_dim);
  writer.set (shape.family + ".rope.freq_base", static_cast<float> (shape.rope_theta));
  writer.set (shape.family + ".attention.layer_norm_rms_epsilon", static_cast<float> (shape.norm_epsilon));
}

uint64_t
bytes_of (const TensorShape &tensor, DType type)
{
  const DTypeBlock block = dtype_block (type);
  const auto row = static_cast<uint64_t> (tensor.shape.back ());
  if (row % block.elements != 0)
    throw std::invalid_argument (tensor.gguf + ": rows of " + std::to_string (row) +
                                 " are not whole blocks of " + std::string (dtype_name (type)));
  return static_cast<uint64_t> (tensor.shape.front ()) * (row / block.elements) * block.bytes;
}

} // namespace

void
write_gguf_model (const std::filesystem::path &file, const ModelShape &shape, DType type)
{
  const auto tensors = tensors_of (shape);
  const auto factors = rope_factors (shape);
  for (const TensorShape &tensor : tensors)
    if (tensor.shape.size () > 1)
      bytes_of (tensor, type); // refuses before anything is written

  GgufWriter writer (file);
  set_metadata (writer, shape, type);
  set_vocabulary (writer, shape);
  for (const TensorShape &tensor : tensors)
    writer.add_tensor (tensor.gguf, tensor.shape.size () > 1 ? type : DType::kF32, tensor.shape);
  if (!factors.empty ())
    writer.add_tensor ("rope_freqs.weight", DType::kF32, {static_cast<int64_t> (factors.size ())});
  writer.begin_data ();
  RandomWeights weights (type);
  uint64_t seed = 0;
  for (const TensorShape &tensor : tensors) {
    if (tensor.shape.size () == 1) {
      const auto norm = random_norm (tensor.shape[0], ++seed);
      writer.write (std::as_bytes (std::span (norm)));
      continue;
    }
    for (uint64_t left = bytes_of (tensor, type); left > 0;) {
      const auto part = weights.next (left);
      writer.write (part);
      left -= part.size ();
    }
  }
  if (!factors.empty ())
    writer.write (std::as_bytes (std::span (factors)));
  writer.finish ();
}

} // namespace millrace::bench
