#pragma once

#include <gst/gst.h>
#include <millrace/millrace-request.h>

G_BEGIN_DECLS

/**
 * MillraceRequestMeta:
 * @request: the request that the buffer's text or tokens belong to
 * @finish: why the generation ended, an interned string ("stop", "length", "cancelled", "timeout", "error")
 *   on its last buffer (which has %GST_BUFFER_FLAG_MARKER), %NULL on all others
 *
 * Says whose text or tokens a buffer holds. Copied with the buffer.
 */
typedef struct {
  GstMeta meta;
  MillraceRequest *request;
  const char *finish;
  /*< private >*/
  gpointer details;
} MillraceRequestMeta;

GType millrace_request_meta_api_get_type (void);
const GstMetaInfo *millrace_request_meta_get_info (void);
#define MILLRACE_REQUEST_META_API_TYPE (millrace_request_meta_api_get_type ())
#define MILLRACE_REQUEST_META_INFO (millrace_request_meta_get_info ())

MillraceRequestMeta *millrace_buffer_add_request_meta (GstBuffer *buffer, MillraceRequest *request,
                                                       const char *finish);
MillraceRequestMeta *millrace_buffer_get_request_meta (GstBuffer *buffer);

G_END_DECLS
