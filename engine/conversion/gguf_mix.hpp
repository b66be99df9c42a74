// Which tensor of a GGUF file gets which type when a model is quantized: the mixes that files are named after.
//
// By the names of the tensors, so that models whose architecture cannot be computed here are quantized all the same. What costs
// most when it is coarse (values, the head, down projections of the outer layers) gets more bits; vectors, norms, convolutions
// and what chooses experts stay floats.
// Source: the rules of llama.cpp's llama-quantize as of 2025 (src/llama-quant.cpp, MIT), so that a name means one thing.
// Pure; any thread.
#pragma once

#include "engine/tensor/tensor_view.hpp"

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace millrace
{

enum class GgufMix : uint8_t {
  kNone,  ///< floats: all matrices alike
  kPlain, ///< one type, the head better
  kQ2K,
  kQ2KS,
  kQ3KM,
  kQ3KL,
  kQ4KS,
  kQ4KM,
  kQ5KM,
  kIq4Nl,
  kMxfp4Moe, ///< experts MXFP4, the rest Q8_0
};

struct GgufTensorFacts {
  std::string name;
  Shape shape;
};

/// Whether the file's type may change at all: a matrix that is multiplied with.
bool is_quantizable_gguf (const GgufTensorFacts &tensor);

/// The types of one model's tensors.
class GgufTypes
{
public:
  /// `tensors`: all of the model. `query_groups`: query heads for each head of keys. `experts`: of a layer; 0: none.
  GgufTypes (const std::vector<GgufTensorFacts> &tensors, int query_groups, int experts);

  /// Of a tensor that is_quantizable_gguf (). Rows that are no whole blocks get a type of smaller ones.
  DType type_of (const GgufTensorFacts &tensor, DType base, GgufMix mix) const;

private:
  struct Place {
    int index = 0, count = 0; ///< among the layers that have such a tensor
  };
  Place place_of (const std::string &name) const;
  DType mixed (std::string_view kind, const Place &place, DType base, GgufMix mix) const;

  std::map<std::string, std::vector<int>> layers_; ///< by the name within a layer
  int query_groups_, experts_;
  bool tied_ = true;
};

/// `general.file_type` of a file whose matrices are mostly `type` in this mix.
uint32_t gguf_file_type (DType type, GgufMix mix);

/// `type`, or what stands in for it where rows are no whole blocks of it.
DType fitting_gguf_type (DType type, int64_t columns);

} // namespace millrace
