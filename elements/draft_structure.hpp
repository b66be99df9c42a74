// What speculation did, as the structure that messages and properties carry.
#pragma once

#include "engine/drafting/draft_statistics.hpp"

#include <gst/gst.h>

namespace millrace
{

/// (transfer full): "drafting" with attempts, drafted, accepted, rejected, full-accepts, pauses; drafting-time,
/// verifying-time and saved-time (may be negative) in nanoseconds; accepted-SOURCE for each drafter; and accepted-at, an array
/// by depth.
GstStructure *draft_structure (const DraftStatistics &statistics);

} // namespace millrace
