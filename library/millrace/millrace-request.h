#pragma once

#include <gst/gst.h>

G_BEGIN_DECLS

#define MILLRACE_TYPE_REQUEST (millrace_request_get_type ())
G_DECLARE_FINAL_TYPE (MillraceRequest, millrace_request, MILLRACE, REQUEST, GObject)

MillraceRequest *millrace_request_new (void);
gboolean millrace_request_parse_json (MillraceRequest *self, const char *json, gssize length, GError **error);
const char *millrace_request_get_id (MillraceRequest *self);
guint64 millrace_request_get_serial (MillraceRequest *self);
void millrace_request_cancel (MillraceRequest *self);
gboolean millrace_request_get_error (MillraceRequest *self, GError **error);

GstEvent *millrace_event_new_cancel (const char *id);
gboolean millrace_event_parse_cancel (GstEvent *event, const char **id);

G_END_DECLS
