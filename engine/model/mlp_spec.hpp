// Gated multi-layer perceptron, as values. Part of architecture_spec.hpp.
#pragma once

#include <cstdint>
#include <string>

namespace millrace
{

enum class Activation : uint8_t { kSilu, kGeluTanh, kGelu, kRelu };

struct MlpTensors {
  std::string gate, up, down;
  std::string gate_bias, up_bias, down_bias;
};

/// down · (activation (gate · x) × (up · x)); `up` is its own gate where no gate has a name: with kRelu that is squared ReLU.
struct MlpSpec {
  int intermediate = 0;
  Activation activation = Activation::kSilu;
  MlpTensors tensors;
};

} // namespace millrace
