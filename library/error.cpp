#include "library/error.hpp"

#include <cstring>

GQuark
millrace_error_quark (void)
{
  static const GQuark quark = g_quark_from_static_string ("millrace-error-quark");
  return quark;
}

GType
millrace_error_get_type (void)
{
  static const GEnumValue values[] = {
      {MILLRACE_ERROR_LOAD, "MILLRACE_ERROR_LOAD", "load"},
      {MILLRACE_ERROR_INVALID_REQUEST, "MILLRACE_ERROR_INVALID_REQUEST", "invalid-request"},
      {MILLRACE_ERROR_CONTEXT_LENGTH, "MILLRACE_ERROR_CONTEXT_LENGTH", "context-length"},
      {MILLRACE_ERROR_INVALID_UTF8, "MILLRACE_ERROR_INVALID_UTF8", "invalid-utf8"},
      {MILLRACE_ERROR_INTERNAL, "MILLRACE_ERROR_INTERNAL", "internal"},
      {MILLRACE_ERROR_NO_MODEL, "MILLRACE_ERROR_NO_MODEL", "no-model"},
      {MILLRACE_ERROR_CLOSED, "MILLRACE_ERROR_CLOSED", "closed"},
      {MILLRACE_ERROR_QUEUE_FULL, "MILLRACE_ERROR_QUEUE_FULL", "queue-full"},
      {0, nullptr, nullptr}};
  static const GType type = g_enum_register_static ("MillraceError", values);
  return type;
}

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
  else if (std::strcmp (problem.code, "queue_full") == 0)
    code = MILLRACE_ERROR_QUEUE_FULL;
  else if (std::strcmp (problem.code, "closed") == 0)
    code = MILLRACE_ERROR_CLOSED;
  const bool named = problem.field.empty () || problem.message.starts_with (problem.field);
  g_set_error (error, MILLRACE_ERROR, code, "%s%s%s", named ? "" : problem.field.c_str (), named ? "" : ": ",
               problem.message.c_str ());
}

} // namespace millrace
