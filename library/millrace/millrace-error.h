#pragma once

#include <glib-object.h>

G_BEGIN_DECLS

/**
 * MILLRACE_ERROR:
 *
 * Error domain of the library.
 */
#define MILLRACE_ERROR (millrace_error_quark ())
GQuark millrace_error_quark (void);

/**
 * MillraceError:
 * @MILLRACE_ERROR_LOAD: a model's file is missing or wrong; the message names file, field and remedy
 * @MILLRACE_ERROR_INVALID_REQUEST: a field of a request is wrong; the message names it and what it may be
 * @MILLRACE_ERROR_CONTEXT_LENGTH: the prompt does not fit into the model's context
 * @MILLRACE_ERROR_INVALID_UTF8: text that is not valid UTF-8
 * @MILLRACE_ERROR_INTERNAL: the engine failed
 * @MILLRACE_ERROR_NO_MODEL: no model of that name is loaded
 * @MILLRACE_ERROR_CLOSED: the model was unloaded, or its pipeline stopped, before the request had ended
 * @MILLRACE_ERROR_QUEUE_FULL: as many requests wait as the pipeline allows
 *
 * Codes of %MILLRACE_ERROR.
 */
typedef enum {
  MILLRACE_ERROR_LOAD,
  MILLRACE_ERROR_INVALID_REQUEST,
  MILLRACE_ERROR_CONTEXT_LENGTH,
  MILLRACE_ERROR_INVALID_UTF8,
  MILLRACE_ERROR_INTERNAL,
  MILLRACE_ERROR_NO_MODEL,
  MILLRACE_ERROR_CLOSED,
  MILLRACE_ERROR_QUEUE_FULL,
} MillraceError;

GType millrace_error_get_type (void);
#define MILLRACE_TYPE_ERROR (millrace_error_get_type ())

G_END_DECLS
