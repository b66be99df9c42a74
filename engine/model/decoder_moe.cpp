// Mixture of experts: the router's logits, the choice, the experts, and what all tokens share.
#include "engine/model/decoder_mixers.hpp"

namespace millrace
{

namespace
{

/// The weights of one layer's experts.
class ExpertWeights
{
public:
  ExpertWeights (ProgramWriter &writer, const MoeSpec &moe)
      : writer_ (writer)
      , moe_ (moe)
      , tensors_ (moe.tensors)
      , fused_ (tensors_.gate == tensors_.up && tensors_.layout != ExpertTensors::Layout::kSeparate)
  {
  }

  ExpertsOp::Expert of (int index) const
  {
    const int hidden = writer_.spec ().hidden, width = moe_.intermediate;
    const auto part = [&] (int place) { return fused_ ? Rows{width, place, 2} : Rows{width, 0, 1}; };
    return {.gate = tensors_.gate.empty () ? kNone : matrix (tensors_.gate, index, part (0), hidden),
            .up = matrix (tensors_.up, index, part (1), hidden),
            .down = matrix (tensors_.down, index, {hidden, 0, 1}, width),
            .gate_bias = vector (tensors_.gate_bias, index, part (0)),
            .up_bias = vector (tensors_.up_bias, index, part (1)),
            .down_bias = vector (tensors_.down_bias, index, {hidden, 0, 1})};
  }

private:
  /// Outputs of one matrix, at place `place` of `of` such in the tensor's matrix.
  struct Rows {
    int64_t outputs, place, of;
  };

  WeightId matrix (const std::string &tensor, int64_t index, const Rows &rows, int64_t inputs) const
  {
    WeightRef ref{
        .name = tensor, .outputs = static_cast<int> (rows.outputs), .inputs = static_cast<int> (inputs)};
    const int64_t all = rows.outputs * rows.of;
    switch (tensors_.layout) {
    case ExpertTensors::Layout::kSeparate:
      if (const size_t at = ref.name.find ('*'); at != std::string::npos)
        ref.name.replace (at, 1, std::to_string (index));
      break;
    case ExpertTensors::Layout::kStacked:
      ref.part = {.shape = {moe_.experts, all, inputs},
                  .first = (index * all + rows.place * rows.outputs) * inputs,
                  .output_step = inputs};
      break;
    case ExpertTensors::Layout::kTransposed:
      ref.part = {.shape = {moe_.experts, inputs, all},
                  .first = index * inputs * all + rows.place,
                  .output_step = rows.of,
                  .input_step = all};
      break;
    }
    return writer_.weight (ref);
  }

  WeightId vector (const std::string &tensor, int64_t index, const Rows &rows) const
  {
    if (tensor.empty ())
      return kNone;
    const bool turns = tensors_.layout == ExpertTensors::Layout::kTransposed;
    const int64_t all = rows.outputs * rows.of;
    return writer_.weight ({.name = tensor,
                            .outputs = static_cast<int> (rows.outputs),
                            .part = {.shape = {moe_.experts, all},
                                     .first = index * all + rows.place * (turns ? 1 : rows.outputs),
                                     .output_step = turns ? rows.of : 1}});
  }

  ProgramWriter &writer_;
  const MoeSpec &moe_;
  const ExpertTensors &tensors_;
  bool fused_;
};

/// The buffer of the tokens' weights.
BufferId
write_routing (ProgramWriter &writer, const MoeSpec &moe, const MixerPorts &ports)
{
  const RoutingSpec &routing = moe.routing;
  const int hidden = writer.spec ().hidden;
  const BufferId logits = writer.buffer ("router logits", moe.experts),
                 weights = writer.buffer ("expert weights", moe.experts);
  BufferId in = ports.in;
  if (!routing.norm.empty ()) {
    in = writer.buffer ("router input", hidden);
    writer.rms_norm (ports.residual, routing.norm, hidden, in);
  }
  Products router (writer, in, hidden);
  router.add (routing.router, routing.router_bias, moe.experts, logits);
  router.emit ();
  if (routing.logit_scale != 1)
    writer.emit (ScaleOp{logits, moe.experts, static_cast<float> (routing.logit_scale), kNone});
  const auto vector = [&] (const std::string &tensor) {
    return tensor.empty () ? kNone : writer.weight ({.name = tensor, .outputs = moe.experts});
  };
  writer.emit (RouteOp{.logits = logits,
                       .out = weights,
                       .experts = moe.experts,
                       .chosen = moe.chosen,
                       .scores = routing.scores == RoutingSpec::Scores::kSigmoid ? RouteOp::Scores::kSigmoid
                                                                                 : RouteOp::Scores::kSoftmax,
                       .normalized = routing.normalized,
                       .scale = static_cast<float> (routing.scale),
                       .groups = routing.groups,
                       .chosen_groups = routing.chosen_groups,
                       .group_score = routing.group_score == RoutingSpec::GroupScore::kLargest
                                          ? RouteOp::GroupScore::kLargest
                                          : RouteOp::GroupScore::kTwoLargest,
                       .correction = vector (routing.correction),
                       .expert_scale = vector (routing.expert_scale)});
  return weights;
}

void
write_experts (ProgramWriter &writer, const MoeSpec &moe, BufferId in, BufferId weights, BufferId out,
               bool accumulate)
{
  ExpertsOp op{.in = in,
               .weights = weights,
               .out = out,
               .accumulate = accumulate,
               .intermediate = moe.intermediate,
               .chosen = moe.chosen,
               .activation = gated_activation (moe.activation),
               .limit = static_cast<float> (moe.limit),
               .slope = static_cast<float> (moe.slope),
               .up_offset = static_cast<float> (moe.up_offset),
               .experts = {}};
  const ExpertWeights experts (writer, moe);
  for (int i = 0; i < moe.experts; ++i)
    op.experts.push_back (experts.of (i));
  writer.emit (std::move (op));
}

/// What is gated or normed has a buffer of its own where the output holds something already.
void
write_shared (ProgramWriter &writer, const MoeSpec &moe, const MixerPorts &ports)
{
  const int hidden = writer.spec ().hidden;
  MixerPorts own = ports;
  const bool plain = moe.shared_gate.empty () && moe.shared_norm.empty ();
  if (!plain && ports.accumulate) {
    own.out = writer.buffer ("shared", hidden);
    own.accumulate = false;
  }
  write_mlp (writer, moe.shared, own);
  if (!moe.shared_norm.empty ())
    writer.rms_norm (own.out, moe.shared_norm, hidden, own.out);
  if (!moe.shared_gate.empty ()) {
    const BufferId gate = writer.buffer ("shared gate", 1);
    Products product (writer, ports.in, hidden);
    product.add (moe.shared_gate, "", 1, gate);
    product.emit ();
    writer.emit (RowGateOp{gate, own.out, hidden});
  }
  if (own.out != ports.out)
    writer.emit (AddOp{own.out, ports.out, hidden});
}

} // namespace

// Routing comes first: the shared MLP may add to the residual that is its input.
void
write_moe (ProgramWriter &writer, const MoeSpec &moe, const MixerPorts &ports)
{
  const int hidden = writer.spec ().hidden;
  const BufferId weights = write_routing (writer, moe, ports);
  BufferId in = ports.in;
  if (!moe.experts_pre.empty ()) {
    in = writer.buffer ("experts input", hidden);
    writer.rms_norm (ports.residual, moe.experts_pre, hidden, in);
  }
  bool accumulate = ports.accumulate;
  if (moe.shared.intermediate > 0) {
    write_shared (writer, moe, ports);
    accumulate = true;
  }
  if (moe.experts_post.empty ())
    return write_experts (writer, moe, in, weights, ports.out, accumulate);
  const BufferId branch = writer.buffer ("experts", hidden);
  write_experts (writer, moe, in, weights, branch, false);
  writer.rms_norm (branch, moe.experts_post, hidden, branch);
  if (accumulate)
    writer.emit (AddOp{branch, ports.out, hidden});
  else
    writer.emit (CopyOp{branch, ports.out, hidden});
}

} // namespace millrace
