// What other elements ask of a scheduler in events and queries; they reach it through either of its sides.
#pragma once

#include "elements/scheduler_inbox.hpp"

#include <gst/gst.h>

namespace millrace
{

/// The events that concern one request: `LlmCancel` and `LlmHold`. False: it is none, or names nobody. Does not take the event.
bool handle_request_event (SchedulerInbox &inbox, GstEvent *event);

/// The custom queries: `LlmStats` gets the statistics in `stats`, so that a source can show them; `LlmOpen` the
/// numbers of the requests that have not ended, and the next one's, in the array `numbers`, for who orders replies and comes in
/// between.
bool answer_scheduler_query (SchedulerInbox &inbox, GstQuery *query);

} // namespace millrace
