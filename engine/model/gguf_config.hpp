// Metadata of a GGUF file → ArchitectureSpec.
//
// The metadata are put in the words of config.json and read by the same families with the same checks, so that the two
// formats cannot mean different things; errors name the GGUF key. Tensors have GGUF's names; which biases there are,
// and whether the head is tied, is told by the tensors that the file holds. What would change the computation and is not
// supported for an architecture (experts, sliding windows, partial rotation) is refused by its key.
// Source: GGUF specification, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
#pragma once

#include "engine/model/architecture_spec.hpp"

namespace millrace
{

class GgufFields;
class WeightFiles;

/// Throws LoadError.
ArchitectureSpec gguf_architecture (const GgufFields &fields, const WeightFiles &weights);

} // namespace millrace
