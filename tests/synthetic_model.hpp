// Small random checkpoints, written like published ones, for tests that need shapes or number formats which
// the models in the repository do not have.
#pragma once

#include "engine/tensor/dtype.hpp"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

namespace millrace::testing
{

struct SyntheticTensor {
  std::string name;
  std::vector<int64_t> shape;
  DType dtype = DType::kF32;
  std::vector<float> values;
};

inline std::string
encode_values (const SyntheticTensor &tensor)
{
  std::string bytes;
  for (const float value : tensor.values) {
    const uint16_t half = tensor.dtype == DType::kF16 ? f32_to_f16 (value) : f32_to_bf16 (value);
    if (tensor.dtype == DType::kF32)
      bytes.append (reinterpret_cast<const char *> (&value), sizeof value);
    else
      bytes.append (reinterpret_cast<const char *> (&half), sizeof half);
  }
  return bytes;
}

inline void
write_file (const std::filesystem::path &path, const std::string &bytes)
{
  std::ofstream out (path, std::ios::binary);
  out.write (bytes.data (), static_cast<std::streamsize> (bytes.size ()));
  if (!out.flush ())
    throw std::runtime_error ("cannot write " + path.string ());
}

inline void
write_safetensors (const std::filesystem::path &path, const std::vector<SyntheticTensor> &tensors)
{
  std::string header, data;
  for (const SyntheticTensor &tensor : tensors) {
    std::string shape;
    for (const int64_t size : tensor.shape)
      shape += (shape.empty () ? "" : ",") + std::to_string (size);
    const size_t begin = data.size ();
    data += encode_values (tensor);
    header += std::string (header.empty () ? "{" : ",") + "\"" + tensor.name + "\":{\"dtype\":\"" +
              std::string (dtype_name (tensor.dtype)) + "\",\"shape\":[" + shape + "],\"data_offsets\":[" +
              std::to_string (begin) + "," + std::to_string (data.size ()) + "]}";
  }
  header += "}";
  header.resize ((header.size () + 7) / 8 * 8, ' ');
  const uint64_t length = header.size ();
  write_file (path, std::string (reinterpret_cast<const char *> (&length), sizeof length) + header + data);
}

struct SyntheticModel {
  std::string family = "llama"; ///< or qwen3
  int vocab = 101;
  int hidden = 40;
  int layers = 2;
  int heads = 3;
  int kv_heads = 1;
  int head_dim = 20;
  int intermediate = 72;
  int max_positions = 256;
  bool biases = true; ///< llama only
  bool tied = false;
  DType dtype = DType::kF32;
};

inline std::vector<SyntheticTensor>
random_tensors (const SyntheticModel &model, std::mt19937 &random)
{
  std::vector<SyntheticTensor> tensors;
  std::normal_distribution<float> normal;
  const auto add = [&] (const std::string &name, std::vector<int64_t> shape, float mean, float deviation) {
    SyntheticTensor tensor{name, shape, model.dtype, {}};
    int64_t count = 1;
    for (const int64_t size : shape)
      count *= size;
    for (int64_t i = 0; i < count; ++i)
      tensor.values.push_back (mean + deviation * normal (random));
    tensors.push_back (std::move (tensor));
  };
  const auto project = [&] (const std::string &name, int outputs, int inputs) {
    add (name + ".weight", {outputs, inputs}, 0, 1.0f / std::sqrt (static_cast<float> (inputs)));
    if (model.biases && model.family == "llama")
      add (name + ".bias", {outputs}, 0, 0.3f);
  };
  const int q = model.heads * model.head_dim, kv = model.kv_heads * model.head_dim;
  add ("model.embed_tokens.weight", {model.vocab, model.hidden}, 0, 1);
  for (int i = 0; i < model.layers; ++i) {
    const std::string layer = "model.layers." + std::to_string (i) + ".";
    add (layer + "input_layernorm.weight", {model.hidden}, 1, 0.2f);
    add (layer + "post_attention_layernorm.weight", {model.hidden}, 1, 0.2f);
    project (layer + "self_attn.q_proj", q, model.hidden);
    project (layer + "self_attn.k_proj", kv, model.hidden);
    project (layer + "self_attn.v_proj", kv, model.hidden);
    project (layer + "self_attn.o_proj", model.hidden, q);
    if (model.family == "qwen3") {
      add (layer + "self_attn.q_norm.weight", {model.head_dim}, 1, 0.2f);
      add (layer + "self_attn.k_norm.weight", {model.head_dim}, 1, 0.2f);
    }
    project (layer + "mlp.gate_proj", model.intermediate, model.hidden);
    project (layer + "mlp.up_proj", model.intermediate, model.hidden);
    project (layer + "mlp.down_proj", model.hidden, model.intermediate);
  }
  add ("model.norm.weight", {model.hidden}, 1, 0.2f);
  if (!model.tied)
    add ("lm_head.weight", {model.vocab, model.hidden}, 0,
         1.0f / std::sqrt (static_cast<float> (model.hidden)));
  return tensors;
}

inline std::string
synthetic_config (const SyntheticModel &model)
{
  const auto field = [] (const char *name, int value) {
    return ",\"" + std::string (name) + "\":" + std::to_string (value);
  };
  const std::string bias = model.biases && model.family == "llama" ? "true" : "false";
  return "{\"model_type\":\"" + model.family + "\"" + field ("vocab_size", model.vocab) +
         field ("hidden_size", model.hidden) + field ("num_hidden_layers", model.layers) +
         field ("num_attention_heads", model.heads) + field ("num_key_value_heads", model.kv_heads) +
         field ("head_dim", model.head_dim) + field ("intermediate_size", model.intermediate) +
         field ("max_position_embeddings", model.max_positions) + field ("eos_token_id", 2) +
         ",\"hidden_act\":\"silu\",\"rms_norm_eps\":1e-6,\"rope_theta\":10000.0,\"attention_bias\":" + bias +
         ",\"mlp_bias\":" + bias + ",\"tie_word_embeddings\":" + (model.tied ? "true" : "false") + "}";
}

/// Writes config.json and model.safetensors.
inline void
write_model (const std::filesystem::path &folder, const SyntheticModel &model, uint32_t seed)
{
  std::mt19937 random (seed);
  write_file (folder / "config.json", synthetic_config (model));
  write_safetensors (folder / "model.safetensors", random_tensors (model, random));
}

} // namespace millrace::testing
