// Names of a GGUF file's tensors in place of a checkpoint's.
//
// Private to engine/model. Which biases and norms there are, whether q, k and v are one tensor, and whether the head is tied, is
// told by the tensors that the file holds.
// Source: llama.cpp's gguf-py, TENSOR_NAMES in gguf/constants.py, MIT.
#pragma once

#include "engine/model/architecture_spec.hpp"
#include "engine/model/gguf_families.hpp"

namespace millrace
{

void name_gguf_tensors (const GgufFamily &family, const WeightFiles &weights, ArchitectureSpec &spec);

} // namespace millrace
