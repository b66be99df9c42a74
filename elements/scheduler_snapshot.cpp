#include "elements/scheduler_snapshot.hpp"

#include "elements/draft_structure.hpp"

namespace millrace
{

void
SchedulerSnapshot::take (const Scheduler &scheduler)
{
  totals = scheduler.statistics ();
  kv = scheduler.kv ().statistics ();
  step = scheduler.report ();
  running = scheduler.live ();
  waiting = scheduler.waiting ();
  blocks = blocks_free = blocks_cached = 0;
  for (int group = 0; group < scheduler.kv ().groups (); group++) {
    blocks += scheduler.kv ().size (group);
    blocks_free += scheduler.kv ().free (group);
    blocks_cached += scheduler.kv ().cached (group);
  }
}

void
SchedulerSnapshot::clear_load ()
{
  running = waiting = 0;
  blocks_free = blocks - blocks_cached;
}

GstStructure *
SchedulerSnapshot::to_structure (const char *name) const
{
  GstStructure *structure = gst_structure_new (
      name, "steps", G_TYPE_UINT64, totals.steps, "running", G_TYPE_INT, running, "queued", G_TYPE_INT,
      waiting, "finished", G_TYPE_UINT64, totals.finished, "preemptions", G_TYPE_UINT64, totals.preemptions,
      "prompt-tokens", G_TYPE_UINT64, totals.prompt_tokens, "prefill-tokens", G_TYPE_UINT64,
      totals.prefill_tokens, "generated-tokens", G_TYPE_UINT64, totals.generated_tokens, "drafted-tokens",
      G_TYPE_UINT64, static_cast<uint64_t> (totals.drafting.drafted), "accepted-tokens", G_TYPE_UINT64,
      static_cast<uint64_t> (totals.drafting.accepted), nullptr);
  gst_structure_set (structure, "kv-blocks", G_TYPE_INT, blocks, "kv-blocks-used", G_TYPE_INT,
                     blocks - blocks_free - blocks_cached, "kv-blocks-free", G_TYPE_INT, blocks_free,
                     "kv-blocks-cached", G_TYPE_INT, blocks_cached, "prefix-lookup-tokens", G_TYPE_UINT64,
                     kv.lookup_tokens, "prefix-hit-tokens", G_TYPE_UINT64, kv.hit_tokens, "disk-hit-tokens",
                     G_TYPE_UINT64, kv.disk_hit_tokens, "copied-blocks", G_TYPE_UINT64, kv.copied_blocks,
                     "evicted-blocks", G_TYPE_UINT64, kv.evicted_blocks, nullptr);

  GstStructure *drafting = draft_structure (totals.drafting);
  gst_structure_set (structure, "drafting", GST_TYPE_STRUCTURE, drafting, nullptr);
  gst_structure_free (drafting);

  GstStructure *stages = gst_structure_new_empty ("stages");
  for (const StageTime &stage : step.stages)
    gst_structure_set (stages, stage.name, G_TYPE_UINT64, stage.us * GST_USECOND, nullptr);
  GstStructure *last = gst_structure_new (
      "step", "number", G_TYPE_UINT64, step.number, "rows", G_TYPE_INT, step.rows, "prefill-tokens",
      G_TYPE_INT, step.prefill_tokens, "prefill-budget", G_TYPE_INT, step.prefill_budget, "scored-tokens",
      G_TYPE_INT, step.scored_tokens, "accepted-tokens", G_TYPE_INT, step.accepted_tokens, "blocked",
      G_TYPE_INT, step.blocked, "preempted", G_TYPE_INT, step.preempted, "plan-time", G_TYPE_UINT64,
      step.plan_us * GST_USECOND, "step-time", G_TYPE_UINT64, step.step_us * GST_USECOND, "predicted-time",
      G_TYPE_UINT64, static_cast<guint64> (step.predicted_ms * GST_MSECOND), "stages", GST_TYPE_STRUCTURE,
      stages, nullptr);
  gst_structure_set (structure, "last-step", GST_TYPE_STRUCTURE, last, nullptr);
  gst_structure_free (stages);
  gst_structure_free (last);
  return structure;
}

} // namespace millrace
