// What a scheduler has done and is doing, copied out so that other threads can read it.
#pragma once

#include "engine/scheduling/scheduler.hpp"

#include <gst/gst.h>

namespace millrace
{

/// A value; whoever holds it guards it.
struct SchedulerSnapshot {
  SchedulerStatistics totals;
  KvStatistics kv;
  StepReport step;
  int running = 0, waiting = 0;
  int blocks = 0, blocks_free = 0, blocks_cached = 0; ///< of all groups

  /// From the decode thread.
  void take (const Scheduler &scheduler);
  /// Nothing runs any more; totals and cached blocks stay.
  void clear_load ();
  /// Transfer full. Times in nanoseconds, as everywhere in GStreamer.
  GstStructure *to_structure (const char *name) const;
};

} // namespace millrace
