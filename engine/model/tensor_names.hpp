// Whether a program and a checkpoint are of the same model, by the names of the tensors.
//
// Private to engine/model. Shapes and types are looked at when weights are packed.
#pragma once

#include "engine/backend/program.hpp"
#include "engine/model/architecture_spec.hpp"

#include <string>
#include <vector>

namespace millrace
{

class WeightFiles;

/// What the program asks for and `files` lack, in the order of the program.
std::vector<std::string> missing_tensors (const Program &program, const WeightFiles &files);

/// Throws LoadError for the first tensor that the program asks for and `files` lack, naming the others that are missing too.
void require_tensors (const Program &program, const WeightFiles &files);

/// Tensors of the model which nothing is computed with; not those of other modalities, of layers beyond the last, and those that
/// checkpoints are known to carry for nothing.
std::vector<std::string> left_over_tensors (const Program &program, const ArchitectureSpec &spec,
                                            const WeightFiles &files);

/// A warning that names tensors of the model which nothing is computed with, as they may mean that the configuration is of
/// another one; empty when there are none. Tensors of other modalities, of layers beyond the last, and those that checkpoints
/// are known to carry for nothing are not meant.
std::string unread_tensors (const Program &program, const ArchitectureSpec &spec, const WeightFiles &files);

} // namespace millrace
