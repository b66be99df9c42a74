// The numbers of the GGUF format, as tables.
#include "engine/weights/gguf_types.hpp"

#include <array>

namespace millrace
{

namespace
{

struct ValueFacts {
  std::string_view name;
  size_t bytes;
};

constexpr std::array<ValueFacts, kGgufTypes> kValueFacts{{{"uint8", 1},
                                                          {"int8", 1},
                                                          {"uint16", 2},
                                                          {"int16", 2},
                                                          {"uint32", 4},
                                                          {"int32", 4},
                                                          {"float32", 4},
                                                          {"bool", 1},
                                                          {"string", 8},
                                                          {"array", 12},
                                                          {"uint64", 8},
                                                          {"int64", 8},
                                                          {"float64", 8}}};

// Types without a DType are here for their names and for the checks of their ranges: a file may carry them where nobody
// asks for the tensor.
constexpr std::array<GgufTensorType, 32> kTensorTypes{{{0, "F32", {1, 4}, DType::kF32},
                                                       {1, "F16", {1, 2}, DType::kF16},
                                                       {2, "Q4_0", {32, 18}, DType::kQ4_0},
                                                       {3, "Q4_1", {32, 20}, DType::kQ4_1},
                                                       {6, "Q5_0", {32, 22}, DType::kQ5_0},
                                                       {7, "Q5_1", {32, 24}, DType::kQ5_1},
                                                       {8, "Q8_0", {32, 34}, DType::kQ8_0},
                                                       {9, "Q8_1", {32, 36}, {}},
                                                       {10, "Q2_K", {256, 84}, DType::kQ2K},
                                                       {11, "Q3_K", {256, 110}, DType::kQ3K},
                                                       {12, "Q4_K", {256, 144}, DType::kQ4K},
                                                       {13, "Q5_K", {256, 176}, DType::kQ5K},
                                                       {14, "Q6_K", {256, 210}, DType::kQ6K},
                                                       {15, "Q8_K", {256, 292}, {}},
                                                       {16, "IQ2_XXS", {256, 66}, {}},
                                                       {17, "IQ2_XS", {256, 74}, {}},
                                                       {18, "IQ3_XXS", {256, 98}, {}},
                                                       {19, "IQ1_S", {256, 50}, {}},
                                                       {20, "IQ4_NL", {32, 18}, DType::kIQ4NL},
                                                       {21, "IQ3_S", {256, 110}, {}},
                                                       {22, "IQ2_S", {256, 82}, {}},
                                                       {23, "IQ4_XS", {256, 136}, {}},
                                                       {24, "I8", {1, 1}, DType::kI8},
                                                       {25, "I16", {1, 2}, DType::kI16},
                                                       {26, "I32", {1, 4}, DType::kI32},
                                                       {27, "I64", {1, 8}, DType::kI64},
                                                       {28, "F64", {1, 8}, DType::kF64},
                                                       {29, "IQ1_M", {256, 56}, {}},
                                                       {30, "BF16", {1, 2}, DType::kBF16},
                                                       {34, "TQ1_0", {256, 54}, {}},
                                                       {35, "TQ2_0", {256, 66}, {}},
                                                       {39, "MXFP4", {32, 17}, DType::kMXFP4}}};

} // namespace

std::string_view
gguf_type_name (GgufType type)
{
  return kValueFacts[static_cast<size_t> (type)].name;
}

size_t
gguf_type_bytes (GgufType type)
{
  return kValueFacts[static_cast<size_t> (type)].bytes;
}

const GgufTensorType *
gguf_tensor_type (uint32_t id)
{
  for (const GgufTensorType &type : kTensorTypes)
    if (type.id == id)
      return &type;
  return nullptr;
}

const GgufTensorType *
gguf_tensor_type (DType dtype)
{
  for (const GgufTensorType &type : kTensorTypes)
    if (type.dtype == dtype)
      return &type;
  return nullptr;
}

} // namespace millrace
