// Shapes of public models: sizes and tensor names, for files of random weights (make_model) that load wherever the real
// ones do. Values; any thread.
#pragma once

#include "engine/tensor/tensor_view.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace millrace::bench
{

/// A dense decoder, of the family "qwen3" or "llama"; the head is the embedding.
struct ModelShape {
  std::string name;
  std::string family;
  int hidden = 0, layers = 0, heads = 0, kv_heads = 0, head_dim = 0, intermediate = 0, vocab = 0;
  int max_positions = 0;
  double rope_theta = 0;
  double norm_epsilon = 0;
  bool llama3_rope = false; ///< frequencies scaled as Llama 3.2 does
};

/// "qwen3-0.6b", "qwen3-1.7b", "qwen3-4b", "llama-3.2-1b"; anything else throws std::invalid_argument.
ModelShape named_shape (std::string_view name);
std::string shape_names (); ///< "qwen3-0.6b, …"

/// Changes sizes: "hidden=256,layers=2"; keys are hidden, layers, heads, kv_heads, head_dim, ffn, vocab and ctx.
/// Throws std::invalid_argument for other keys, and for sizes that no model has.
void change_shape (ModelShape &shape, std::string_view changes);

/// A tensor and what the two kinds of files call it.
struct TensorShape {
  std::string gguf, safetensors;
  Shape shape; ///< outermost first; one dimension: a norm
};

/// In the order of the file: embedding, layers, final norm.
std::vector<TensorShape> tensors_of (const ModelShape &shape);

/// What rope frequencies are divided by, one for each pair of a head; empty without scaling.
std::vector<float> rope_factors (const ModelShape &shape);

} // namespace millrace::bench
