#include "engine/conversion/expert_matrices.hpp"

#include "engine/weights/weight_files.hpp"

#include <string_view>
#include <utility>

namespace millrace
{

namespace
{

constexpr std::string_view kExperts = "experts.";

/// Rows that lie anywhere in a tensor of floats, their elements `step` apart; of other tensors they are rows.
class PickedRows final : public FloatRows
{
public:
  PickedRows (const WeightFiles &files, const std::string &tensor, std::vector<int64_t> firsts,
              int64_t columns, int64_t step)
      : view_ (*files.find (tensor))
      , whole_ (files.coded (tensor) ? float_rows (files, tensor) : nullptr)
      , firsts_ (std::move (firsts))
      , columns_ (columns)
      , step_ (step)
  {
  }

  int64_t rows () const override { return static_cast<int64_t> (firsts_.size ()); }
  int64_t columns () const override { return columns_; }
  void read (int64_t row, float *out) const override
  {
    const int64_t first = firsts_[static_cast<size_t> (row)];
    if (whole_)
      return whole_->read (first / columns_, out);
    if (step_ == 1)
      return read_floats (view_.dtype, at (first), columns_, out);
    for (int64_t i = 0; i < columns_; ++i)
      read_floats (view_.dtype, at (first + i * step_), 1, out + i);
  }

  /// Neighbours of a row's elements are other rows', which are still to be read.
  std::span<const std::byte> source (int64_t, int64_t) const override { return {}; }

private:
  const std::byte *at (int64_t index) const
  {
    return view_.data.data () + static_cast<size_t> (index) * dtype_bytes (view_.dtype);
  }

  const TensorView &view_;
  std::shared_ptr<const FloatRows> whole_;
  std::vector<int64_t> firsts_; ///< elements
  int64_t columns_, step_;
};

struct Kind {
  WeightId ExpertsOp::Expert::*weight, ExpertsOp::Expert::*bias;
  std::string_view name;
};

constexpr Kind kKinds[] = {{&ExpertsOp::Expert::gate, &ExpertsOp::Expert::gate_bias, "gate_proj"},
                           {&ExpertsOp::Expert::up, &ExpertsOp::Expert::up_bias, "up_proj"},
                           {&ExpertsOp::Expert::down, &ExpertsOp::Expert::down_bias, "down_proj"}};

/// Of a kind of matrix, where `tensor` was: "" for a tensor that has another name than these.
std::string
module_name (const std::string &tensor, const std::string &family, std::string_view kind)
{
  const size_t at = tensor.rfind (kExperts);
  if (at == std::string::npos ||
      (!tensor.ends_with ("experts.gate_up_proj") && !tensor.ends_with ("experts.down_proj")))
    return {};
  const char *place = family == "gpt_oss"             ? "experts."
                      : family.starts_with ("gemma4") ? "experts.switch_glu."
                                                      : "switch_mlp.";
  return tensor.substr (0, at) + place + std::string (kind);
}

std::vector<const WeightRef *>
weights_of (const Program &program, const ExpertsOp &op, WeightId ExpertsOp::Expert::*member)
{
  std::vector<const WeightRef *> weights;
  for (const ExpertsOp::Expert &expert : op.experts)
    if (expert.*member != kNone)
      weights.push_back (&program.weights[static_cast<size_t> (expert.*member)]);
  return weights;
}

/// Each is of the tensor that the first one is of, and lies in it as such.
bool
are_of_one_tensor (const std::vector<const WeightRef *> &weights, size_t experts)
{
  if (weights.size () != experts)
    return false;
  for (const WeightRef *weight : weights)
    if (weight->name != weights.front ()->name || weight->part.shape.empty ())
      return false;
  return true;
}

ExpertPart
matrix_of (const WeightFiles &files, const std::vector<const WeightRef *> &weights, std::string name)
{
  const WeightRef &one = *weights.front ();
  std::vector<int64_t> firsts;
  for (const WeightRef *weight : weights)
    for (int64_t output = 0; output < weight->outputs; ++output)
      firsts.push_back (weight->part.first + output * weight->part.output_step);
  return {
      std::move (name),
      {static_cast<int64_t> (weights.size ()), one.outputs, one.inputs},
      std::make_shared<PickedRows> (files, one.name, std::move (firsts), one.inputs, one.part.input_step)};
}

ExpertPart
bias_of (const WeightFiles &files, const std::vector<const WeightRef *> &weights, std::string name)
{
  const WeightRef &one = *weights.front ();
  std::vector<int64_t> firsts;
  for (const WeightRef *weight : weights)
    firsts.push_back (weight->part.first);
  return {
      std::move (name),
      {static_cast<int64_t> (weights.size ()), one.outputs},
      std::make_shared<PickedRows> (files, one.name, std::move (firsts), one.outputs, one.part.output_step)};
}

} // namespace

std::map<std::string, ExpertStack, std::less<>>
expert_stacks (const Program &program, const WeightFiles &files, const std::string &family)
{
  std::map<std::string, ExpertStack, std::less<>> stacks;
  for (const Op &op : program.ops) {
    const auto *experts = std::get_if<ExpertsOp> (&op);
    if (!experts)
      continue;
    for (const Kind &kind : kKinds) {
      const auto weights = weights_of (program, *experts, kind.weight);
      if (!are_of_one_tensor (weights, experts->experts.size ()))
        continue;
      const std::string &tensor = weights.front ()->name;
      const std::string module = module_name (tensor, family, kind.name);
      if (module.empty ())
        continue;
      ExpertStack &stack = stacks[tensor];
      stack.matrices.push_back (matrix_of (files, weights, module + ".weight"));
      const auto biases = weights_of (program, *experts, kind.bias);
      if (!are_of_one_tensor (biases, experts->experts.size ()))
        continue;
      stack.bias = biases.front ()->name;
      stack.biases.push_back (bias_of (files, biases, module + ".bias"));
    }
  }
  return stacks;
}

} // namespace millrace
