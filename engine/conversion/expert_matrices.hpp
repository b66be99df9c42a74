// Experts that a checkpoint keeps in one tensor: the matrix of each kind that mlx-lm has in its place, and its bias.
//
//   PREFIX.experts.gate_up_proj [experts, 2 · intermediate, hidden], or [experts, hidden, 2 · intermediate] where the outputs of
//   gate and up take turns (gpt_oss), or MXFP4 blocks whose rows are outputs   →   NAME.weight [experts, outputs, inputs] of
//   NAME PREFIX.experts.gate_proj (gpt_oss), PREFIX.experts.switch_glu.gate_proj (gemma4), PREFIX.switch_mlp.gate_proj
// Rows of inputs are what codes have scales for. Source of the names: mlx-lm's models, MIT. Values; any thread.
#pragma once

#include "engine/backend/program.hpp"
#include "engine/weights/float_rows.hpp"

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace millrace
{

class WeightFiles;

struct ExpertPart {
  std::string name;
  Shape shape; ///< [experts, outputs, inputs], of a bias [experts, outputs]
  std::shared_ptr<const FloatRows> values;
};

/// What takes the place of one tensor.
struct ExpertStack {
  std::vector<ExpertPart> matrices;
  std::string bias; ///< the tensor of their biases, or empty
  std::vector<ExpertPart> biases;
};

/// By the tensor that has them. `files` must live longer.
std::map<std::string, ExpertStack, std::less<>>
expert_stacks (const Program &program, const WeightFiles &files, const std::string &family);

} // namespace millrace
