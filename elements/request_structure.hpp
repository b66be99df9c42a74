// What an ended request has cost, as the element message `llm-request` says it.
#pragma once

#include "engine/scheduling/request.hpp"

#include <gst/gst.h>

namespace millrace
{

/// Transfer full. Times in nanoseconds, as everywhere in GStreamer.
GstStructure *ended_request_structure (const Request &request);

} // namespace millrace
