// What a model computes, as a flat list of operations over named weights and activation buffers.
//
// The decoder (engine/model/decoder.hpp) writes a Program once from an ArchitectureSpec; every backend runs
// the same list. It says what, never how: no layout, no number format, no thread, no device. Operations run
// in order; each reads and writes whole buffers, one row per token of the pass (or per wanted output row).
// A family that needs something new adds an Op here and a case in each backend. Values; any thread.
#pragma once

#include "engine/tensor/tensor_view.hpp"

#include <string>
#include <variant>
#include <vector>

namespace millrace
{

/// Indices into the Program's tables.
using WeightId = int;
using BufferId = int;
using KvLayerId = int;
using RopeId = int;

constexpr int kNone = -1; ///< an id that is not given

/// A tensor of the checkpoint. A matrix is [outputs, inputs]; a vector (norm, bias) has inputs 0.
struct WeightRef {
  std::string name;
  int outputs = 0;
  int inputs = 0;
  /// The file has the outputs of each `paired` (a head) in the order 0, paired / 2, 1, paired / 2 + 1, … (as GGUF
  /// files of llama do, whose rotation is of neighbours); they are put back when the weight is loaded. 0: in order.
  int paired = 0;
  /// The weight is `outputs` rows of a tensor that has `tensor_outputs`, from this one on.
  int first_output = 0;
  int tensor_outputs = 0; ///< 0: it is the whole tensor
  float offset = 0;       ///< of a vector: added to each element

  bool is_matrix () const { return inputs > 0; }
  /// Of the tensor.
  Shape shape () const
  {
    const int rows = tensor_outputs > 0 ? tensor_outputs : outputs;
    return is_matrix () ? Shape{rows, inputs} : Shape{rows};
  }
};

/// Activations: one row of `width` floats per row of its kind. An operation may use the first part of a row.
struct BufferRef {
  enum class Rows : uint8_t {
    kToken,  ///< every token of the pass
    kOutput, ///< only tokens whose logits or hidden state are wanted
  };
  int width = 0;
  Rows rows = Rows::kToken;
};

/// Keys and values kept for each position. Layers of an equal window share block tables (KvGroup).
struct KvLayer {
  int heads = 0;
  int head_dim = 0;
  int window = 0; ///< positions a query sees, itself included; 0: all of them
};

/// angle = position · inverse_frequencies[i], float32; cos and sin are multiplied by `factor`. The first
/// 2 · size () elements of a head are rotated, paired (i, i + size ()).
struct RopeTable {
  std::vector<float> inverse_frequencies;
  float factor = 1;
  /// Instead, in sequences that may become longer than `original_positions` (Slice::max_positions); empty: no others.
  std::vector<float> long_inverse_frequencies = {};
  int original_positions = 0;

  bool operator== (const RopeTable &) const = default;
};

/// out = scale · row `token` of the matrix.
struct EmbedOp {
  WeightId weight;
  BufferId out;
  float scale = 1;
};

/// out = in / sqrt (mean (in²) + epsilon) · weight; of `parts` neighbouring parts of a row, each as long as the weight.
struct RmsNormOp {
  BufferId in;
  WeightId weight;
  BufferId out;
  float epsilon;
  int parts = 1;
};

/// out += factor · in
struct AddOp {
  BufferId in;
  BufferId out;
  int width; ///< elements of a row, from the first
  float factor = 1;
};

/// buffer *= factor · the weight's only element
struct ScaleOp {
  BufferId buffer;
  int width; ///< elements of a row, from the first
  float factor;
  WeightId weight; ///< or kNone
};

struct CopyOp {
  BufferId in;
  BufferId out;
  int width; ///< elements of a row, from the first
};

/// out (+)= weight · in + bias, for each projection of the same input.
struct LinearOp {
  struct Projection {
    WeightId weight;
    WeightId bias; ///< or kNone
    BufferId out;
    bool accumulate; ///< adds to what `out` holds (the residual)
  };
  BufferId in;
  std::vector<Projection> projections;
};

/// Normalizes (where a norm is given) and rotates each head of q and k in place, then appends k and v to the
/// layer's KV. Without k and v: of a layer whose KV has been appended before.
struct KvAppendOp {
  KvLayerId layer;
  BufferId q, k, v; ///< k and v: or kNone
  int heads;        ///< of q; k and v have the layer's
  WeightId q_norm;  ///< over one head, or kNone
  WeightId k_norm;
  float epsilon;
  RopeId rope;         ///< or kNone
  bool v_norm = false; ///< each head of v is normalized in place, without a weight
};

/// out = softmax (score) · v over the positions up to the token's own, as far back as the layer's window. The score is
/// scale · q·k, or softcap · tanh (scale · q·k / softcap) where there is a softcap.
struct AttentionOp {
  KvLayerId layer;
  BufferId q;
  BufferId out;
  int heads; ///< a multiple of the layer's
  float scale;
  float softcap = 0; ///< 0: none
};

/// out = activation (gate) · up
struct GatedOp {
  enum class Activation : uint8_t { kSilu, kGeluTanh, kGelu };
  Activation activation;
  BufferId gate, up, out;
  int width;        ///< elements of a row, from the first
  int up_first = 0; ///< element of `up` that belongs to the first of `gate`
};

/// Copies the rows whose outputs are wanted from a token buffer to an output buffer.
struct SelectOp {
  BufferId in;
  BufferId out;
};

/// The rows of `in` are the hidden states of Slice::hidden.
struct HiddenOp {
  BufferId in;
};

/// scale · weight · in are the logits of Slice::logits, for scored rows only; softcap · tanh (that / softcap) where there is a
/// softcap.
struct HeadOp {
  BufferId in;
  WeightId weight;
  float scale = 1;
  float softcap = 0; ///< 0: none
};

using Op = std::variant<EmbedOp, RmsNormOp, LinearOp, KvAppendOp, AttentionOp, GatedOp, SelectOp, HiddenOp,
                        HeadOp, AddOp, ScaleOp, CopyOp>;

struct Program {
  int vocab = 0;
  int hidden = 0;
  int max_positions = 0;

  std::vector<WeightRef> weights;
  std::vector<BufferRef> buffers;
  std::vector<KvLayer> kv_layers;
  std::vector<RopeTable> ropes;
  std::vector<Op> ops;
};

} // namespace millrace
