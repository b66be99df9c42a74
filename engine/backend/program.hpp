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
using StateLayerId = int;

constexpr int kNone = -1; ///< an id that is not given

/// Which elements of a tensor a weight is where they are not its rows in order: of one of several matrices that a tensor
/// holds, of a matrix that is stored transposed.
struct TensorPart {
  Shape shape = {};                        ///< of the tensor; empty: there is no part
  int64_t first = 0;                       ///< element
  int64_t output_step = 0, input_step = 1; ///< elements from one output, one input to the next

  bool operator== (const TensorPart &) const = default;
};

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
  TensorPart part = {};   ///< or: first_output and tensor_outputs
  /// Of the tensor's rows from first_output on the first `run` of each `stride`; 0: neighbouring rows.
  int run = 0;
  int stride = 0;
  /// Of a vector: it is of a depthwise convolution, [outputs / taps, 1, taps] or, with axes in the order of other
  /// frameworks, [outputs / taps, taps, 1], whose elements are in the same order.
  int taps = 0;

  bool is_matrix () const { return inputs > 0; }
  /// Of the tensor.
  Shape shape () const
  {
    if (!part.shape.empty ())
      return part.shape;
    const int rows = tensor_outputs > 0 ? tensor_outputs : outputs;
    if (taps > 0)
      return {rows / taps, 1, taps};
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
  int window = 0;    ///< positions a query sees, itself included; 0: all of them
  int value_dim = 0; ///< of a head's values; 0: head_dim

  int value_width () const { return value_dim > 0 ? value_dim : head_dim; }
};

/// What a layer keeps of all positions before, in float32 whatever the KvType: the last taps - 1 inputs of a causal
/// convolution, and a matrix [keys, values] for each head. Zeros before the first token. Layers with state share a
/// group of one block for each sequence (KvGroup::Kind::kRecurrent).
struct StateLayer {
  int channels = 0; ///< of the convolution
  int taps = 1;
  int heads = 0;
  int keys = 0;
  int values = 0;
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

/// out = in / sqrt (mean (in²) + epsilon) · weight; of `parts` neighbouring parts of a row, each as long as the weight, of
/// which `groups` neighbouring groups of elements have a mean of their own.
struct RmsNormOp {
  BufferId in;
  WeightId weight;
  BufferId out;
  float epsilon;
  int parts = 1;
  int groups = 1;
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

/// Of each of `parts` parts of a row the first `width` elements.
struct CopyOp {
  BufferId in;
  BufferId out;
  int width;
  int parts = 1;
  int in_first = 0, in_step = 0;   ///< element of the first part, and from one part to the next
  int out_first = 0, out_step = 0; ///< likewise
  bool paired = false;             ///< elements 0, width / 2, 1, width / 2 + 1, … are put back in order
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

/// out = softmax (score) · v, as wide as values are, over the positions up to the token's own, as far back as the layer's window. The score is
/// scale · q·k, or softcap · tanh (scale · q·k / softcap) where there is a softcap.
struct AttentionOp {
  KvLayerId layer;
  BufferId q;
  BufferId out;
  int heads; ///< a multiple of the layer's
  float scale;
  float softcap = 0;      ///< 0: none
  WeightId sinks = kNone; ///< a score for each head that is in the softmax with a value of 0; or kNone
};

/// A causal convolution of each channel by itself, then SiLU, in place:
/// x[t] = silu (bias + weight[0] · x[t - taps + 1] + … + weight[taps - 1] · x[t]).
struct ConvolutionOp {
  /// Neighbouring channels of the layer, which a buffer has.
  struct Part {
    BufferId buffer;
    int channels;
    WeightId weight; ///< [channels, taps]
    WeightId bias;   ///< or kNone
  };
  StateLayerId layer;
  std::vector<Part> parts;
};

/// A linear recurrence over positions: each head has a matrix S [keys, values], of which token by token
///   decay = e^(-e^a_log · step), step = softplus (step + step_bias), kept within [least_step, most_step]
///   kDelta  S ← decay · S; S ← S + k · (sigmoid (factor) · (v - Sᵀ k)); out = Sᵀ q
///           with k / sqrt (|k|² + 1e-6) for k, and q likewise, divided by sqrt (keys) too
///   kScan   S ← decay · S + k · (step · v); out = Sᵀ q + skip · v
/// q and k have key_heads heads, each used by as many heads of v: neighbours, or those that take turns (head mod key_heads).
/// q, k, step and factor do not hold what they held afterwards. Source: Gated DeltaNet, arXiv 2412.06464; Mamba-2, arXiv 2405.21060 (q, k, v are C, B, x there).
struct RecurrenceOp {
  enum class Kind : uint8_t { kDelta, kScan };
  Kind kind;
  StateLayerId layer;
  BufferId q, k, v, out;
  BufferId step, factor; ///< an element for each head; kScan: factor is scratch
  int key_heads;
  WeightId a_log, step_bias;
  WeightId skip; ///< or kNone
  float least_step, most_step;
  bool turns = false;
  bool is_rate = false; ///< a_log holds -e^a_log
};

/// out = activation (gate) · up
struct GatedOp {
  enum class Activation : uint8_t { kSilu, kGeluTanh, kGelu, kRelu, kSigmoid };
  Activation activation;
  BufferId gate, up, out;
  int width;        ///< elements of a row, from the first
  int up_first = 0; ///< element of `up` that belongs to the first of `gate`
};

/// Part i of a row of `out` = weight i · part i of the row of `in`: a product of its own for each head.
struct PartsLinearOp {
  BufferId in;
  int in_step; ///< elements from one part to the next
  BufferId out;
  int out_first, out_step;
  std::vector<WeightId> weights; ///< of equal shape
};

/// buffer *= sigmoid (the first element of `gate`)
struct RowGateOp {
  BufferId gate;
  BufferId buffer;
  int width; ///< elements of a row, from the first
};

/// How much each expert has a share in a token: `out` has a weight for each of the `chosen`, and 0 for the others.
///
/// Scores are softmax or sigmoid of the logits. Those with the highest score + correction are chosen, of equal ones the first,
/// among the `chosen_groups` best of the `groups` that neighbouring experts are. The weight is scale · score (· the expert's
/// own scale), where the scores of the chosen ones are first divided by their sum if `normalized`.
/// Sources: Switch Transformers, arXiv 2101.03961; DeepSeek-V2 and V3, arXiv 2405.04434 and 2412.19437.
struct RouteOp {
  enum class Scores : uint8_t { kSoftmax, kSigmoid };
  /// Of a group, of its experts' score + correction.
  enum class GroupScore : uint8_t {
    kLargest,
    kTwoLargest, ///< their sum
  };
  BufferId logits;
  BufferId out;
  int experts;
  int chosen;
  Scores scores = Scores::kSoftmax;
  bool normalized = true;
  float scale = 1;
  int groups = 1;
  int chosen_groups = 1;
  GroupScore group_score = GroupScore::kTwoLargest;
  WeightId correction = kNone;   ///< or kNone
  WeightId expert_scale = kNone; ///< or kNone
};

/// out (+)= sum, over the experts in ascending order whose weight is not 0, of weight · down · (activation (gate · in) ×
/// (up · in)), each product with its bias. Without a gate `up` is its own.
struct ExpertsOp {
  struct Expert {
    WeightId gate; ///< or kNone
    WeightId up, down;
    WeightId gate_bias = kNone, up_bias = kNone, down_bias = kNone; ///< or kNone
  };
  BufferId in;
  BufferId weights; ///< RouteOp's
  BufferId out;
  bool accumulate;
  int intermediate;
  int chosen; ///< most weights of a row that are not 0
  GatedOp::Activation activation = GatedOp::Activation::kSilu;
  float limit = 0;     ///< the gate is cut off above it, `up` beyond ± it; 0: neither
  float slope = 1;     ///< of silu: gate · sigmoid (slope · gate)
  float up_offset = 0; ///< added to `up`
  std::vector<Expert> experts;
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
                        HeadOp, AddOp, ScaleOp, CopyOp, RouteOp, ExpertsOp, RowGateOp, PartsLinearOp,
                        ConvolutionOp, RecurrenceOp>;

struct Program {
  int vocab = 0;
  int hidden = 0;
  int max_positions = 0;

  std::vector<WeightRef> weights;
  std::vector<BufferRef> buffers;
  std::vector<KvLayer> kv_layers;
  std::vector<StateLayer> state_layers;
  std::vector<RopeTable> ropes;
  std::vector<Op> ops;
};

} // namespace millrace
