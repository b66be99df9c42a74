// Products of many small matrices, each with rows of its own: experts with the tokens that chose them, heads with all tokens.
//
// Rows that meet the same matrices are neighbours, a group; all groups are one piece of work for the threads. As with every
// product an element depends on its own row only, so that a row's group may be of any size.
#pragma once

#include "engine/backend/cpu/kernels.hpp"
#include "engine/backend/cpu/memory.hpp"
#include "engine/backend/cpu/weights.hpp"

#include <array>
#include <vector>

namespace millrace::cpu
{

constexpr int kGroupProducts = 2; ///< most matrices that a group's rows meet at once

struct RowGroup {
  int first, rows;
  std::array<const PackedWeight *, kGroupProducts> weights;
  std::array<const float *, kGroupProducts> biases; ///< or null
  int first_unit = 0;                               ///< of multiply_groups ()
  int expert = 0;
};

/// Rows of the operation that runs, and room for the largest one.
struct GroupedRows {
  struct Floats {
    Memory memory;
    size_t stride = 0;

    float *row (int index) const { return memory.floats () + static_cast<size_t> (index) * stride; }
  };
  Floats in, gate, up, out;
  std::array<Memory, kActivations> quantized;
  std::array<size_t, kActivations> quantized_stride{}; ///< bytes
  Memory routing;                                      ///< of each thread: RouteOp's scores
  size_t routing_stride = 0;                           ///< floats

  std::vector<RowGroup> groups;
  std::vector<int> group_of; ///< row → group
  std::vector<int> token_of; ///< row → token
  std::vector<int> counts;   ///< of each expert
  std::vector<int> rows_of;  ///< `chosen` rows of each token, in ascending order of experts; -1: fewer
  std::array<std::vector<float *>, kGroupProducts> results; ///< of each row
};

} // namespace millrace::cpu
