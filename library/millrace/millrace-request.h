#pragma once

#include <gst/gst.h>

G_BEGIN_DECLS

/**
 * MillracePriority:
 * @MILLRACE_PRIORITY_LOW: after requests that came up to 5 s later
 * @MILLRACE_PRIORITY_NORMAL: in order of arrival
 * @MILLRACE_PRIORITY_HIGH: before requests that came up to 5 s earlier
 *
 * Class of a request.
 */
typedef enum {
  MILLRACE_PRIORITY_LOW,
  MILLRACE_PRIORITY_NORMAL,
  MILLRACE_PRIORITY_HIGH,
} MillracePriority;

GType millrace_priority_get_type (void);
#define MILLRACE_TYPE_PRIORITY (millrace_priority_get_type ())

/**
 * MillracePooling:
 * @MILLRACE_POOLING_LAST: the hidden state of the prompt's last token
 * @MILLRACE_POOLING_MEAN: the mean of all tokens'
 * @MILLRACE_POOLING_CLS: that of the first token
 *
 * What becomes a prompt's embedding.
 */
typedef enum {
  MILLRACE_POOLING_LAST,
  MILLRACE_POOLING_MEAN,
  MILLRACE_POOLING_CLS,
} MillracePooling;

GType millrace_pooling_get_type (void);
#define MILLRACE_TYPE_POOLING (millrace_pooling_get_type ())

#define MILLRACE_TYPE_REQUEST (millrace_request_get_type ())
G_DECLARE_FINAL_TYPE (MillraceRequest, millrace_request, MILLRACE, REQUEST, GObject)

MillraceRequest *millrace_request_new (void);
MillraceRequest *millrace_request_new_for_prompt (const char *prompt);
MillraceRequest *millrace_request_new_for_message (const char *system, const char *message);

void millrace_request_set_prompt (MillraceRequest *self, const char *prompt);
void millrace_request_set_tokens (MillraceRequest *self, const gint32 *tokens, gsize n_tokens);
void millrace_request_add_message (MillraceRequest *self, const char *role, const char *content);
void millrace_request_clear_messages (MillraceRequest *self);

gboolean millrace_request_parse_json (MillraceRequest *self, const char *json, gssize length, GError **error);
char *millrace_request_to_json (MillraceRequest *self);

gboolean millrace_request_set_parameter (MillraceRequest *self, const char *name, const GValue *value,
                                         GError **error);
gboolean millrace_request_validate (MillraceRequest *self, GError **error);

const char *millrace_request_get_id (MillraceRequest *self);
guint64 millrace_request_get_serial (MillraceRequest *self);
void millrace_request_cancel (MillraceRequest *self);
gboolean millrace_request_get_error (MillraceRequest *self, GError **error);

GstEvent *millrace_event_new_cancel (const char *id);
gboolean millrace_event_parse_cancel (GstEvent *event, const char **id);

G_END_DECLS
