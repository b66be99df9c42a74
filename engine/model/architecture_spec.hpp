// What a model computes, as values: the decoder is assembled from this and from nothing else.
//
// A family (families/*.cpp) turns a checkpoint's config.json, or the metadata of a GGUF file in its words
// (gguf_config.cpp), into an ArchitectureSpec. There is one decoder for all of them, never a class per model.
#pragma once

#include "engine/tensor/tensor_view.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace millrace
{

enum class Activation : uint8_t { kSilu, kGeluTanh, kGelu };

/// Rotary position embedding; rotates the first `dimensions` of each head, halves paired (i, i + d/2).
/// Source: RoFormer, arXiv 2104.09864; scalings as in transformers' modeling_rope_utils.
struct RopeSpec {
  enum class Scaling : uint8_t { kNone, kLinear, kLlama3, kYarn };

  int dimensions = 0;
  double theta = 10000.0;
  Scaling scaling = Scaling::kNone;
  double factor = 1.0;
  double low_freq_factor = 1.0;  ///< llama3
  double high_freq_factor = 4.0; ///< llama3
  double beta_fast = 32.0;       ///< yarn
  double beta_slow = 1.0;        ///< yarn
  bool truncate = true;          ///< yarn: correction range rounded to whole dimensions
  double attention_factor = 1.0; ///< multiplies cos and sin (yarn)
  int original_max_positions = 0;
  /// Divide the inverse frequencies one by one, after any scaling; empty: none. So do GGUF files of Llama 3 say what
  /// kLlama3 computes.
  std::vector<float> frequency_factors = {};
};

/// Inverse frequencies, float32 as the reference computes them; size dimensions / 2.
std::vector<float> rope_inverse_frequencies (const RopeSpec &rope);

struct AttentionSpec {
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  double scale = 0; ///< multiplies q·k, usually 1/sqrt(head_dim)
  int window = 0;   ///< positions a query sees, itself included; 0: all of them
  bool qkv_bias = false;
  bool output_bias = false;
  bool qk_norm = false;     ///< RMSNorm over each head of q and k before RoPE (qwen3)
  bool paired_rows = false; ///< the file has the rows of q and k in the order that WeightRef::paired says
  RopeSpec rope;
};

struct MlpSpec {
  int intermediate = 0;
  Activation activation = Activation::kSilu; ///< of the gate
  bool bias = false;
};

/// Names of one layer's tensors in the checkpoint; unused ones are empty.
struct LayerTensors {
  std::string attention_norm, mlp_norm;
  std::string q, k, v, o;
  std::string q_bias, k_bias, v_bias, o_bias;
  std::string q_norm, k_norm;
  std::string gate, up, down;
  std::string gate_bias, up_bias, down_bias;
};

struct LayerSpec {
  AttentionSpec attention;
  MlpSpec mlp;
  LayerTensors tensors;
};

struct ArchitectureSpec {
  std::string family; ///< config.json's model_type, a GGUF file's general.architecture
  int vocab = 0;      ///< rows of embedding and head; may exceed the tokenizer's
  int hidden = 0;
  int max_positions = 0;
  double norm_epsilon = 1e-6;
  bool tied_head = false;
  std::vector<LayerSpec> layers;
  std::string embedding_tensor, final_norm_tensor, head_tensor; ///< head_tensor is the embedding's when tied
  std::vector<int32_t>
      eos_token_ids; ///< from config.json, which generation_config.json overrides, or GGUF metadata
  int bos_token_id = -1;
};

} // namespace millrace
