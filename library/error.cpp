#include "library/error.hpp"

#include <cstring>

G_DEFINE_QUARK (millrace - error - quark, millrace_error)

namespace millrace
{

void
set_gerror (GError **error, const RequestError &problem)
{
  MillraceError code = MILLRACE_ERROR_INTERNAL;
  if (std::strcmp (problem.code, "invalid_request") == 0)
    code = MILLRACE_ERROR_INVALID_REQUEST;
  else if (std::strcmp (problem.code, "context_length_exceeded") == 0)
    code = MILLRACE_ERROR_CONTEXT_LENGTH;
  else if (std::strcmp (problem.code, "invalid_utf8") == 0)
    code = MILLRACE_ERROR_INVALID_UTF8;
  g_set_error (error, MILLRACE_ERROR, code, "%s%s%s", problem.field.c_str (),
               problem.field.empty () ? "" : ": ", problem.message.c_str ());
}

} // namespace millrace
