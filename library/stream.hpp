// The C++ side of MillraceStream.
#pragma once

#include "library/stream_core.hpp"

#include <memory>
#include <string>

namespace millrace
{

/// A stream of what becomes of `json`, sent to `pipeline` at once. `cancellable` (may be null) cancels the generation.
MillraceStream *new_stream (std::shared_ptr<ModelPipeline> pipeline, MillraceRequest *request,
                            std::string json, size_t buffer_bytes, GCancellable *cancellable);

} // namespace millrace
