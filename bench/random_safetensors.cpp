// Random models as folders in the layout of a Hugging Face checkpoint.
#include "bench/random_model.hpp"

#include "bench/random_weights.hpp"

#include <fstream>
#include <stdexcept>

namespace millrace::bench
{

namespace
{

std::string
config_json (const ModelShape &shape, DType type)
{
  const auto number = [] (const char *key, auto value) {
    return ",\"" + std::string (key) + "\":" + std::to_string (value);
  };
  std::string json = "{\"model_type\":\"" + shape.family + "\"";
  json += number ("hidden_size", shape.hidden) + number ("num_hidden_layers", shape.layers) +
          number ("num_attention_heads", shape.heads) + number ("num_key_value_heads", shape.kv_heads) +
          number ("head_dim", shape.head_dim) + number ("intermediate_size", shape.intermediate) +
          number ("vocab_size", shape.vocab) + number ("max_position_embeddings", shape.max_positions) +
          number ("rope_theta", shape.rope_theta) + number ("eos_token_id", shape.vocab - 1);
  json += shape.norm_epsilon == 1e-5 ? ",\"rms_norm_eps\":1e-5" : ",\"rms_norm_eps\":1e-6";
  if (shape.llama3_rope)
    json += R"(,"rope_scaling":{"rope_type":"llama3","factor":32.0,"low_freq_factor":1.0,)"
            R"("high_freq_factor":4.0,"original_max_position_embeddings":8192})";
  const char *name = type == DType::kF32 ? "float32" : type == DType::kF16 ? "float16" : "bfloat16";
  return json + R"(,"tie_word_embeddings":true,"hidden_act":"silu","attention_bias":false,"torch_dtype":")" +
         name + "\"}\n";
}

uint64_t
element_count (const Shape &shape)
{
  uint64_t count = 1;
  for (const int64_t size : shape)
    count *= static_cast<uint64_t> (size);
  return count;
}

std::string
header_json (const std::vector<TensorShape> &tensors, DType type)
{
  std::string header;
  uint64_t offset = 0;
  for (const TensorShape &tensor : tensors) {
    std::string sizes;
    for (const int64_t size : tensor.shape)
      sizes += (sizes.empty () ? "" : ",") + std::to_string (size);
    const uint64_t end = offset + element_count (tensor.shape) * dtype_bytes (type);
    header += std::string (header.empty () ? "{" : ",") + "\"" + tensor.safetensors + R"(":{"dtype":")" +
              std::string (dtype_name (type)) + R"(","shape":[)" + sizes + R"(],"data_offsets":[)" +
              std::to_string (offset) + "," + std::to_string (end) + "]}";
    offset = end;
  }
  header += "}";
  header.resize ((header.size () + 7) / 8 * 8, ' ');
  return header;
}

void
write_bytes (std::ofstream &file, const void *bytes, size_t count)
{
  file.write (static_cast<const char *> (bytes), static_cast<std::streamsize> (count));
}

void
write_norm (std::ofstream &file, const std::vector<float> &values, DType type)
{
  for (const float value : values) {
    const uint16_t narrow = type == DType::kF16 ? f32_to_f16 (value) : f32_to_bf16 (value);
    if (type == DType::kF32)
      write_bytes (file, &value, sizeof value);
    else
      write_bytes (file, &narrow, sizeof narrow);
  }
}

} // namespace

void
write_safetensors_model (const std::filesystem::path &folder, const ModelShape &shape, DType type)
{
  if (type != DType::kF32 && type != DType::kF16 && type != DType::kBF16)
    throw std::invalid_argument ("safetensors files have no type " + std::string (dtype_name (type)) +
                                 "; use f32, f16 or bf16");
  std::filesystem::create_directories (folder);
  std::ofstream config (folder / "config.json");
  config << config_json (shape, type);

  const auto tensors = tensors_of (shape);
  const std::string header = header_json (tensors, type);
  const uint64_t header_size = header.size ();
  std::ofstream file (folder / "model.safetensors", std::ios::binary);
  write_bytes (file, &header_size, sizeof header_size);
  file << header;
  RandomWeights weights (type);
  uint64_t seed = 0;
  for (const TensorShape &tensor : tensors) {
    if (tensor.shape.size () == 1) {
      write_norm (file, random_norm (tensor.shape[0], ++seed), type);
      continue;
    }
    for (uint64_t left = element_count (tensor.shape) * dtype_bytes (type); left > 0;) {
      const auto part = weights.next (left);
      write_bytes (file, part.data (), part.size ());
      left -= part.size ();
    }
  }
  if (!config.flush () || !file.flush ())
    throw std::runtime_error ("cannot write " + folder.string ());
}

} // namespace millrace::bench
