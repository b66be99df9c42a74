// Mixture of experts, as values. Part of architecture_spec.hpp.
//
// Source: Switch Transformers, arXiv 2101.03961; shared experts, groups and corrected choice: DeepSeek-V3, arXiv 2412.19437.
#pragma once

#include "engine/model/mlp_spec.hpp"

#include <string>

namespace millrace
{

/// How a token's experts are chosen and weighted: backend/program.hpp's RouteOp.
struct RoutingSpec {
  enum class Scores : uint8_t { kSoftmax, kSigmoid };
  enum class GroupScore : uint8_t { kLargest, kTwoLargest };
  Scores scores = Scores::kSoftmax;
  bool normalized =
      true; ///< weights of the chosen are divided by their sum; then softmax before or after the choice is the same
  double scale = 1;
  int groups = 1;        ///< of neighbouring experts
  int chosen_groups = 1; ///< of which experts are chosen
  GroupScore group_score = GroupScore::kTwoLargest;
  double logit_scale = 1; ///< multiplies logits
  std::string router, router_bias;
  std::string correction;   ///< added to scores for the choice only
  std::string expert_scale; ///< multiplies the weights of the chosen
  std::string norm;         ///< the router reads this norm of the residual; empty: what the experts read
};

/// Names of the experts' tensors; gate may be empty, `up` then is its own gate. Biases may be empty.
struct ExpertTensors {
  enum class Layout : uint8_t {
    kSeparate, ///< one for each expert, whose number takes the place of '*'
    kStacked,  ///< [experts, outputs, inputs]; where gate and up have one name, gate's outputs come first
    kTransposed, ///< [experts, inputs, outputs]; where gate and up have one name, their outputs take turns (gpt_oss)
  };
  Layout layout = Layout::kSeparate;
  std::string gate, up, down;
  std::string gate_bias, up_bias, down_bias; ///< [experts, outputs]; not with kSeparate
};

struct MoeSpec {
  int experts = 0;
  int chosen = 0;       ///< for each token
  int intermediate = 0; ///< of an expert
  Activation activation = Activation::kSilu;
  double limit = 0;     ///< the gate is cut off above it, `up` beyond ± it; 0: neither
  double slope = 1;     ///< of silu: gate · sigmoid (slope · gate)
  double up_offset = 0; ///< added to `up`
  RoutingSpec routing;
  ExpertTensors tensors;
  MlpSpec shared;          ///< an MLP of all tokens, added; intermediate 0: none
  std::string shared_norm; ///< of the shared MLP's result; empty: none
  /// Norms of what the experts read, which then is the residual, and of their result (gemma4); empty: none.
  std::string experts_pre, experts_post;
  std::string
      shared_gate; ///< the shared MLP's result is multiplied by the sigmoid of this matrix of one output; empty: it is not
};

} // namespace millrace
