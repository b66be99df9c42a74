#include "elements/scheduler_control.hpp"

#include <millrace/millrace-meta.h>

namespace millrace
{

bool
handle_request_event (SchedulerInbox &inbox, GstEvent *event)
{
  const char *id = nullptr;
  if (millrace_event_parse_cancel (event, &id)) {
    inbox.cancel (id);
    return true;
  }
  if (GST_EVENT_TYPE (event) != GST_EVENT_CUSTOM_BOTH_OOB)
    return false;
  const GstStructure *structure = gst_event_get_structure (event);
  gboolean held = FALSE;
  if (!gst_structure_has_name (structure, "LlmHold") || !gst_structure_get_boolean (structure, "held", &held))
    return false;
  id = gst_structure_get_string (structure, "id");
  if (id)
    inbox.hold (id, held);
  return id;
}

bool
answer_scheduler_query (SchedulerInbox &inbox, GstQuery *query)
{
  if (GST_QUERY_TYPE (query) != GST_QUERY_CUSTOM)
    return false;
  GstStructure *structure = gst_query_writable_structure (query);
  if (gst_structure_has_name (structure, "LlmOpen")) {
    GValue list = G_VALUE_INIT, value = G_VALUE_INIT;
    g_value_init (&list, GST_TYPE_ARRAY);
    g_value_init (&value, G_TYPE_UINT64);
    for (const uint64_t number : inbox.open_numbers ()) {
      g_value_set_uint64 (&value, number);
      gst_value_array_append_value (&list, &value);
    }
    gst_structure_take_value (structure, "numbers", &list);
    return true;
  }
  if (!gst_structure_has_name (structure, "LlmStats"))
    return false;
  GValue stats = G_VALUE_INIT;
  g_value_init (&stats, GST_TYPE_STRUCTURE);
  g_value_take_boxed (&stats, inbox.statistics ());
  gst_structure_take_value (structure, "stats", &stats);
  return true;
}

} // namespace millrace
