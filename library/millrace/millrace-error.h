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
 * @MILLRACE_ERROR_INVALID_REQUEST: a field of a request is wrong; the message names it
 * @MILLRACE_ERROR_CONTEXT_LENGTH: the prompt does not fit into the model's context
 * @MILLRACE_ERROR_INVALID_UTF8: text that is not valid UTF-8
 * @MILLRACE_ERROR_INTERNAL: the engine failed
 *
 * Codes of %MILLRACE_ERROR.
 */
typedef enum {
  MILLRACE_ERROR_LOAD,
  MILLRACE_ERROR_INVALID_REQUEST,
  MILLRACE_ERROR_CONTEXT_LENGTH,
  MILLRACE_ERROR_INVALID_UTF8,
  MILLRACE_ERROR_INTERNAL,
} MillraceError;

G_END_DECLS
