// Sources: the config.json of Qwen/Qwen3-0.6B, -1.7B, -4B and meta-llama/Llama-3.2-1B; tensor names of GGUF: the
// specification, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
#include "bench/model_shape.hpp"

#include <array>
#include <charconv>
#include <cmath>
#include <numbers>
#include <stdexcept>
#include <utility>

namespace millrace::bench
{

namespace
{

constexpr int kMostOfAny = 1 << 24;
constexpr int kLeastVocab = 512; ///< bytes, a few merges and what ends a text must fit

// What scales Llama 3.2's frequencies.
constexpr double kRopeFactor = 32, kLowFrequency = 1, kHighFrequency = 4, kOriginalPositions = 8192;

const std::vector<ModelShape> &
shapes ()
{
  static const std::vector<ModelShape> all{
      {"qwen3-0.6b", "qwen3", 1024, 28, 16, 8, 128, 3072, 151936, 40960, 1e6, 1e-6},
      {"qwen3-1.7b", "qwen3", 2048, 28, 16, 8, 128, 6144, 151936, 40960, 1e6, 1e-6},
      {"qwen3-4b", "qwen3", 2560, 36, 32, 8, 128, 9728, 151936, 40960, 1e6, 1e-6},
      {"llama-3.2-1b", "llama", 2048, 16, 32, 8, 64, 8192, 128256, 131072, 5e5, 1e-5, true}};
  return all;
}

int
parse_size (std::string_view key, std::string_view text)
{
  int value = 0;
  const auto [end, error] = std::from_chars (text.data (), text.data () + text.size (), value);
  if (error != std::errc () || end != text.data () + text.size () || value < 1 || value > kMostOfAny)
    throw std::invalid_argument (std::string (key) + " must be a number from 1 to " +
                                 std::to_string (kMostOfAny) + ", not \"" + std::string (text) + "\"");
  return value;
}

void
check (const ModelShape &shape)
{
  if (shape.heads % shape.kv_heads != 0)
    throw std::invalid_argument ("kv_heads must divide heads");
  if (shape.head_dim % 2 != 0)
    throw std::invalid_argument ("head_dim must be even");
  if (shape.vocab < kLeastVocab)
    throw std::invalid_argument ("vocab must be at least " + std::to_string (kLeastVocab));
}

} // namespace

ModelShape
named_shape (std::string_view name)
{
  for (const ModelShape &shape : shapes ())
    if (shape.name == name)
      return shape;
  throw std::invalid_argument ("unknown shape \"" + std::string (name) + "\"; known are " + shape_names ());
}

std::string
shape_names ()
{
  std::string names;
  for (const ModelShape &shape : shapes ())
    names += (names.empty () ? "" : ", ") + shape.name;
  return names;
}

void
change_shape (ModelShape &shape, std::string_view changes)
{
  const std::array<std::pair<std::string_view, int *>, 8> fields{{{"hidden", &shape.hidden},
                                                                  {"layers", &shape.layers},
                                                                  {"heads", &shape.heads},
                                                                  {"kv_heads", &shape.kv_heads},
                                                                  {"head_dim", &shape.head_dim},
                                                                  {"ffn", &shape.intermediate},
                                                                  {"vocab", &shape.vocab},
                                                                  {"ctx", &shape.max_positions}}};
  while (!changes.empty ()) {
    const std::string_view change = changes.substr (0, changes.find (','));
    changes.remove_prefix (std::min (changes.size (), change.size () + 1));
    const size_t equals = change.find ('=');
    const std::string_view key = change.substr (0, equals);
    int *field = nullptr;
    for (const auto &[name, place] : fields)
      if (name == key)
        field = place;
    if (!field || equals == change.npos)
      throw std::invalid_argument ("\"" + std::string (change) +
                                   "\" is none of hidden, layers, heads, kv_heads, head_dim, ffn, vocab, ctx "
                                   "with = and a number");
    *field = parse_size (key, change.substr (equals + 1));
  }
  check (shape);
}

std::vector<TensorShape>
tensors_of (const ModelShape &shape)
{
  const int64_t hidden = shape.hidden, intermediate = shape.intermediate,
                q = int64_t{shape.heads} * shape.head_dim, kv = int64_t{shape.kv_heads} * shape.head_dim;
  std::vector<TensorShape> tensors{{"token_embd.weight", "model.embed_tokens.weight", {shape.vocab, hidden}}};
  for (int layer = 0; layer < shape.layers; layer++) {
    const std::string gguf = "blk." + std::to_string (layer) + ".",
                      safetensors = "model.layers." + std::to_string (layer) + ".";
    const auto add = [&] (const char *gguf_name, const char *safetensors_name, Shape sizes) {
      tensors.push_back (
          {gguf + gguf_name + ".weight", safetensors + safetensors_name + ".weight", std::move (sizes)});
    };
    add ("attn_norm", "input_layernorm", {hidden});
    add ("attn_q", "self_attn.q_proj", {q, hidden});
    add ("attn_k", "self_attn.k_proj", {kv, hidden});
    add ("attn_v", "self_attn.v_proj", {kv, hidden});
    add ("attn_output", "self_attn.o_proj", {hidden, q});
    if (shape.family == "qwen3") {
      add ("attn_q_norm", "self_attn.q_norm", {shape.head_dim});
      add ("attn_k_norm", "self_attn.k_norm", {shape.head_dim});
    }
    add ("ffn_norm", "post_attention_layernorm", {hidden});
    add ("ffn_gate", "mlp.gate_proj", {intermediate, hidden});
    add ("ffn_up", "mlp.up_proj", {intermediate, hidden});
    add ("ffn_down", "mlp.down_proj", {hidden, intermediate});
  }
  tensors.push_back ({"output_norm.weight", "model.norm.weight", {hidden}});
  return tensors;
}

std::vector<float>
rope_factors (const ModelShape &shape)
{
  std::vector<float> factors;
  for (int i = 0; shape.llama3_rope && i < shape.head_dim / 2; i++) {
    const double wavelength = 2 * std::numbers::pi * std::pow (shape.rope_theta, 2.0 * i / shape.head_dim);
    double factor = kRopeFactor; // of waves longer than the original context
    if (wavelength < kOriginalPositions / kHighFrequency) {
      factor = 1;
    } else if (wavelength <= kOriginalPositions / kLowFrequency) {
      const double smooth =
          (kOriginalPositions / wavelength - kLowFrequency) / (kHighFrequency - kLowFrequency);
      factor = 1 / ((1 - smooth) / kRopeFactor + smooth);
    }
    factors.push_back (static_cast<float> (factor));
  }
  return factors;
}

} // namespace millrace::bench
