// What a model computes, as values: the decoder is assembled from this and from nothing else.
//
// A family (families/*.cpp) turns a checkpoint's config.json, or the metadata of a GGUF file in its words
// (gguf_config.cpp), into an ArchitectureSpec. There is one decoder for all of them, never a class per model.
//
// A layer is two sub-layers, a token mixer and a channel mixer, each a variant: what is new in a family is an alternative
// with its tensors' names, and a decoder_*.cpp that writes its operations. Tensors have the checkpoint's names; an empty
// name means that there is no such tensor. Matrices of one mixer that have the same name are rows of one tensor, one after
// the other in the order of their names here (phi3's qkv_proj), and so are their biases.
#pragma once

#include "engine/model/latent_attention_spec.hpp"
#include "engine/model/mlp_spec.hpp"
#include "engine/model/moe_spec.hpp"
#include "engine/model/rope_spec.hpp"
#include "engine/tensor/tensor_view.hpp"

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace millrace
{

struct AttentionTensors {
  std::string q, k, v, o; ///< no v: values are keys before their norm and rotation (gemma4)
  std::string q_bias, k_bias, v_bias, o_bias;
  std::string q_norm, k_norm;
  std::string sinks; ///< a score for each head that is in the softmax and has no value (gpt_oss)
};

/// RMSNorm of q and k before RoPE, where the tensors have names for their weights.
enum class QkNorm : uint8_t {
  kHead,  ///< of each head
  kWhole, ///< of all heads together (olmo2)
};

/// Grouped-query attention.
struct AttentionSpec {
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  double scale = 0;   ///< multiplies q·k, usually 1/sqrt(head_dim)
  double softcap = 0; ///< scores become softcap · tanh (score / softcap); 0: they stay
  int window = 0;     ///< positions a query sees, itself included; 0: all of them
  QkNorm qk_norm = QkNorm::kHead;
  /// q's tensor has for each head the rows of q and then as many of a gate, whose sigmoid multiplies what is attended.
  bool output_gate = false;
  bool value_norm = false;  ///< RMSNorm of each head of v, without a weight (gemma4)
  int kv_of_layer = -1;     ///< an earlier layer whose keys and values are used, no own k and v; -1: own ones
  bool paired_rows = false; ///< the file has the rows of q and k in the order that WeightRef::paired says
  RopeSpec rope;
  AttentionTensors tensors;
};

struct GatedDeltaTensors {
  std::string q, k, v, gate; ///< one tensor, or q, k and v one and the gate another
  std::string beta, step;    ///< one tensor, or two
  std::string convolution, a_log, step_bias, norm, output;
};

/// Gated DeltaNet (arXiv 2412.06464): projections of q, k and v go through a short causal convolution with SiLU; heads keep
/// a matrix that the delta rule updates and that decays, and what q reads of it is normed and gated.
struct GatedDeltaSpec {
  int key_heads = 0;
  int value_heads = 0; ///< a multiple of key_heads
  int key_dim = 0;
  int value_dim = 0;
  int taps = 0; ///< of the convolution, the present position included
  /// Rows of a tensor that several share are sorted by key head (qwen3_next), not by whose they are: that of q, k, v and
  /// the gate, that of beta and step.
  bool by_key_head = false;
  bool steps_by_key_head = false;
  bool turns = false; ///< value heads take turns at key heads (GGUF's qwen35); otherwise neighbours share one
  bool is_rate = false; ///< a_log holds -e^a_log (GGUF)
  GatedDeltaTensors tensors;
};

struct Mamba2Tensors {
  std::string input, input_bias; ///< rows of gate, x, B, C and time steps
  std::string convolution, convolution_bias, a_log, step_bias, skip, norm, output, output_bias;
};

/// Mamba-2 (arXiv 2405.21060): x, B and C go through a short causal convolution with SiLU; heads keep a matrix that decays,
/// to which B · x is added and which C reads; the result is gated, and then normed in as many parts as there are groups.
struct Mamba2Spec {
  int heads = 0;
  int head_dim = 0;
  int groups = 0; ///< heads of B and C
  int state = 0;  ///< elements of a head of B and C
  int taps = 0;
  double least_step = 0, most_step = 0;
  bool is_rate = false; ///< a_log holds -e^a_log (GGUF)
  Mamba2Tensors tensors;
};

/// std::monostate: the layer has no such sub-layer.
using TokenMixer =
    std::variant<std::monostate, AttentionSpec, LatentAttentionSpec, GatedDeltaSpec, Mamba2Spec>;
using ChannelMixer = std::variant<std::monostate, MlpSpec, MoeSpec>;

/// RMSNorm before and after a sub-layer's mixer: residual += post (mixer (pre (residual))).
struct SublayerNorms {
  std::string pre, post; ///< tensors
};

/// What a layer gets of its token's own embedding (gemma4's per-layer embeddings):
/// residual += norm (projection · (activation (gate · residual) × input)).
struct LayerInputTensors {
  std::string gate, projection, norm;
};

struct LayerSpec {
  SublayerNorms mixer_norms;
  TokenMixer mixer;
  SublayerNorms channel_norms;
  ChannelMixer channel;
  LayerInputTensors input; ///< all empty: none
  std::string scalar;      ///< tensor of one element that multiplies the layer's result
};

/// Inputs of all layers for a token: (norm (projection · embedding / sqrt (hidden)) + own embedding · sqrt (width)) / sqrt (2),
/// `width` elements for each layer, which are normed each.
struct LayerInputSpec {
  int width = 0; ///< 0: no such inputs
  int vocab = 0;
  Activation activation = Activation::kGeluTanh; ///< of the layers' gates
  std::string embedding, projection, norm;       ///< tensors
};

struct ArchitectureSpec {
  std::string family; ///< config.json's model_type, a GGUF file's general.architecture
  int vocab = 0;      ///< rows of embedding and head; may exceed the tokenizer's
  int hidden = 0;
  int max_positions = 0;
  double norm_epsilon = 1e-6;
  double norm_offset = 0;         ///< added to the weights of norms (gemma: 1)
  double embedding_scale = 1;     ///< multiplies what is embedded
  double residual_multiplier = 1; ///< of what a sub-layer adds
  double logit_scale = 1;         ///< multiplies logits
  double logit_softcap = 0;       ///< logits become softcap · tanh (logit / softcap); 0: they stay
  bool tied_head = false;
  std::vector<LayerSpec> layers;
  LayerInputSpec layer_inputs;
  std::string embedding_tensor, final_norm_tensor, head_tensor; ///< head_tensor is the embedding's when tied
  /// What names of tensors begin with, as the names here have it, and what they may begin with instead: wrappers of
  /// several modalities were stored in more than one way. Empty: one way only.
  std::vector<std::string> tensor_prefixes;
  std::vector<std::string> unread_tensors; ///< that checkpoints may hold though nothing is computed with them
  std::vector<int32_t>
      eos_token_ids; ///< from config.json, which generation_config.json overrides, or GGUF metadata
  int bos_token_id = -1;
};

/// Sequences of another variant have other KV for equal tokens: with kLongRope those that never have more positions than
/// original_max_positions are 1, others 0. `positions`: the most that the sequence will have.
int kv_variant (const ArchitectureSpec &spec, int positions);

} // namespace millrace
