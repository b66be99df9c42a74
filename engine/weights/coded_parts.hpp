// The tensors that coded matrices are made of: looked up, checked, read element by element.
//
// Private to engine/weights. Errors name file and tensor. Values; any thread.
#pragma once

#include "engine/weights/coded_matrix.hpp"
#include "engine/weights/weight_files.hpp"

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace millrace
{

struct CodedPart {
  std::string name;
  TensorView view;
  std::span<const std::byte> mapping;
  std::filesystem::path file;

  /// Throws LoadError when it is missing; `beside`: because of which it must be there.
  CodedPart (const WeightFiles &files, const std::string &name);
  CodedPart (const WeightFiles &files, const std::string &name, const CodedPart &beside);

  [[noreturn]] void fail (const std::string &problem) const;
  void require (const Shape &shape) const;
  void require (DType type) const;
  void require_floats () const;

  /// Element `index` of floats of whatever type, and of 32-bit integers.
  float number (int64_t index) const;
  uint32_t word (int64_t index) const;
  CodedMatrix::Part bytes () const { return {view.data, mapping}; }
};

/// Tensors of a type; tensors whose name ends so, without that end.
std::vector<std::string> names_of_type (const WeightFiles &files, DType type);
std::vector<std::string> names_that_end (const WeightFiles &files, std::string_view end);

} // namespace millrace
