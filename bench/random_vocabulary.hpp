// The vocabulary of a random model: every byte, a few merges, numbered names, and tokens that begin and end a text.
#pragma once

#include "bench/model_shape.hpp"
#include "engine/weights/gguf_writer.hpp"

namespace millrace::bench
{

/// Sets the tokenizer.ggml.… keys of a byte-level BPE.
void set_vocabulary (GgufWriter &writer, const ModelShape &shape);

} // namespace millrace::bench
