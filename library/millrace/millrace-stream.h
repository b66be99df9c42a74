#pragma once

#include <gio/gio.h>
#include <millrace/millrace-request.h>

G_BEGIN_DECLS

/**
 * MillraceFinishReason:
 * @MILLRACE_FINISH_REASON_NONE: it has not ended
 * @MILLRACE_FINISH_REASON_STOP: the model ended it, or a stop string
 * @MILLRACE_FINISH_REASON_LENGTH: max-tokens, or the end of the context
 * @MILLRACE_FINISH_REASON_CANCELLED: somebody cancelled it
 * @MILLRACE_FINISH_REASON_TIMEOUT: its time was over
 * @MILLRACE_FINISH_REASON_ERROR: it failed
 *
 * Why a generation ended.
 */
typedef enum {
  MILLRACE_FINISH_REASON_NONE,
  MILLRACE_FINISH_REASON_STOP,
  MILLRACE_FINISH_REASON_LENGTH,
  MILLRACE_FINISH_REASON_CANCELLED,
  MILLRACE_FINISH_REASON_TIMEOUT,
  MILLRACE_FINISH_REASON_ERROR,
} MillraceFinishReason;

GType millrace_finish_reason_get_type (void);
#define MILLRACE_TYPE_FINISH_REASON (millrace_finish_reason_get_type ())

#define MILLRACE_TYPE_STREAM (millrace_stream_get_type ())
G_DECLARE_FINAL_TYPE (MillraceStream, millrace_stream, MILLRACE, STREAM, GObject)

void millrace_stream_next_async (MillraceStream *self, GCancellable *cancellable,
                                 GAsyncReadyCallback callback, gpointer user_data);
char *millrace_stream_next_finish (MillraceStream *self, GAsyncResult *result, GError **error);
char *millrace_stream_next (MillraceStream *self, GCancellable *cancellable, GError **error);

void millrace_stream_cancel (MillraceStream *self);

MillraceRequest *millrace_stream_get_request (MillraceStream *self);
MillraceFinishReason millrace_stream_get_finish_reason (MillraceStream *self);
gboolean millrace_stream_get_error (MillraceStream *self, GError **error);
gboolean millrace_stream_is_paused (MillraceStream *self);
GVariant *millrace_stream_get_statistics (MillraceStream *self);
GVariant *millrace_stream_get_logprobs (MillraceStream *self);

G_END_DECLS
