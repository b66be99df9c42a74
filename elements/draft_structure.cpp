#include "elements/draft_structure.hpp"

#include <string>

namespace millrace
{

GstStructure *
draft_structure (const DraftStatistics &statistics)
{
  GstStructure *structure = gst_structure_new (
      "drafting", "attempts", G_TYPE_INT64, statistics.attempts, "drafted", G_TYPE_INT64, statistics.drafted,
      "accepted", G_TYPE_INT64, statistics.accepted, "rejected", G_TYPE_INT64, statistics.rejected (),
      "full-accepts", G_TYPE_INT64, statistics.full_accepts, "pauses", G_TYPE_INT64, statistics.pauses,
      "drafting-time", G_TYPE_INT64, statistics.drafting_us * 1000, "verifying-time", G_TYPE_INT64,
      statistics.verifying_us * 1000, "saved-time", G_TYPE_INT64,
      (statistics.saved_us - statistics.drafting_us) * 1000, nullptr);
  for (int i = 0; i < kDraftSources; i++) {
    const std::string name = std::string ("accepted-") + draft_source_name (static_cast<DraftSource> (i));
    gst_structure_set (structure, name.c_str (), G_TYPE_INT64,
                       statistics.accepted_by[static_cast<size_t> (i)], nullptr);
  }
  GValue depths = G_VALUE_INIT;
  g_value_init (&depths, GST_TYPE_ARRAY);
  for (const int64_t count : statistics.accepted_at) {
    GValue value = G_VALUE_INIT;
    g_value_init (&value, G_TYPE_INT64);
    g_value_set_int64 (&value, count);
    gst_value_array_append_and_take_value (&depths, &value);
  }
  gst_structure_take_value (structure, "accepted-at", &depths);
  return structure;
}

} // namespace millrace
