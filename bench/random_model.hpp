// Checkpoints of real shapes with random weights, for measuring speed where no real weights are at hand.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace millrace::bench
{

/// A Qwen3 shape; the defaults are those of the 0.6 B model.
struct RandomModel {
  int hidden = 1024, layers = 28, heads = 16, kv_heads = 8, head_dim = 128, intermediate = 3072,
      vocab = 151936;
  int max_positions = 8192;
};

/// Writes config.json and model.safetensors (bf16, values of about ±0.02) into `folder`.
inline void
write_random_model (const std::filesystem::path &folder, const RandomModel &shape)
{
  std::filesystem::create_directories (folder);
  std::ofstream config (folder / "config.json");
  config << R"({"model_type":"qwen3","hidden_size":)" << shape.hidden << R"(,"num_hidden_layers":)"
         << shape.layers << R"(,"num_attention_heads":)" << shape.heads << R"(,"num_key_value_heads":)"
         << shape.kv_heads << R"(,"head_dim":)" << shape.head_dim << R"(,"intermediate_size":)"
         << shape.intermediate << R"(,"vocab_size":)" << shape.vocab << R"(,"max_position_embeddings":)"
         << shape.max_positions
         << R"(,"rms_norm_eps":1e-6,"rope_theta":1000000,"tie_word_embeddings":true,"hidden_act":"silu")"
         << R"(,"attention_bias":false,"eos_token_id":0})";

  std::vector<std::pair<std::string, std::vector<int64_t>>> tensors;
  const auto add = [&] (const std::string &name, std::vector<int64_t> dims) {
    tensors.emplace_back (name, dims);
  };
  const int64_t hidden = shape.hidden, q = int64_t{shape.heads} * shape.head_dim,
                kv = int64_t{shape.kv_heads} * shape.head_dim;
  add ("model.embed_tokens.weight", {shape.vocab, hidden});
  add ("model.norm.weight", {hidden});
  for (int i = 0; i < shape.layers; i++) {
    const std::string layer = "model.layers." + std::to_string (i) + ".";
    add (layer + "input_layernorm.weight", {hidden});
    add (layer + "post_attention_layernorm.weight", {hidden});
    add (layer + "self_attn.q_proj.weight", {q, hidden});
    add (layer + "self_attn.k_proj.weight", {kv, hidden});
    add (layer + "self_attn.v_proj.weight", {kv, hidden});
    add (layer + "self_attn.o_proj.weight", {hidden, q});
    add (layer + "self_attn.q_norm.weight", {shape.head_dim});
    add (layer + "self_attn.k_norm.weight", {shape.head_dim});
    add (layer + "mlp.gate_proj.weight", {shape.intermediate, hidden});
    add (layer + "mlp.up_proj.weight", {shape.intermediate, hidden});
    add (layer + "mlp.down_proj.weight", {hidden, shape.intermediate});
  }

  std::string header;
  uint64_t offset = 0;
  for (const auto &[name, dims] : tensors) {
    uint64_t elements = 1;
    std::string list;
    for (const int64_t size : dims) {
      elements *= static_cast<uint64_t> (size);
      list += (list.empty () ? "" : ",") + std::to_string (size);
    }
    header += std::string (header.empty () ? "{" : ",") + "\"" + name + R"(":{"dtype":"BF16","shape":[)" +
              list + R"(],"data_offsets":[)" + std::to_string (offset) + "," +
              std::to_string (offset + 2 * elements) + "]}";
    offset += 2 * elements;
  }
  header += "}";
  header.resize ((header.size () + 7) / 8 * 8, ' ');
  std::ofstream file (folder / "model.safetensors", std::ios::binary);
  const uint64_t header_size = header.size ();
  file.write (reinterpret_cast<const char *> (&header_size), sizeof header_size);
  file << header;

  // A megabyte of random values, repeated: speed does not depend on more.
  std::vector<uint16_t> values (1 << 19);
  uint64_t state = 1;
  for (uint16_t &value : values) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const float number = (static_cast<float> (state >> 40) / (1 << 24) - 0.5f) * 0.07f;
    uint32_t bits;
    std::memcpy (&bits, &number, sizeof bits);
    value = static_cast<uint16_t> (bits >> 16);
  }
  for (uint64_t left = offset; left > 0;) {
    const uint64_t size = std::min<uint64_t> (left, values.size () * 2);
    file.write (reinterpret_cast<const char *> (values.data ()), static_cast<std::streamsize> (size));
    left -= size;
  }
  if (!file.flush ())
    throw std::runtime_error ("cannot write " + folder.string ());
}

} // namespace millrace::bench
