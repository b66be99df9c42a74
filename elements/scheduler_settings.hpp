// The properties of llmscheduler.
#pragma once

#include "elements/scheduler_inbox.hpp"

namespace millrace
{

struct SchedulerElementSettings { // OBJECT_LOCK
  SchedulerSettings scheduler;
  guint max_queued = 64;
  SchedulerInbox::WhenFull when_full = SchedulerInbox::WhenFull::kBlock;
  int stats_interval_ms = -1;
};

/// Installs the properties with ids first, first + 1, ... and returns the next free id.
guint install_scheduler_properties (GObjectClass *klass, guint first);
/// False when `id` is none of them. With the object's lock held.
bool set_scheduler_property (SchedulerElementSettings &settings, guint first, guint id, const GValue *value);
bool get_scheduler_property (const SchedulerElementSettings &settings, guint first, guint id, GValue *value);

} // namespace millrace
