// Failures, as HTTP says them.
#include "engine/api/api_types.hpp"
#include "engine/api/json_append.hpp"

#include <algorithm>
#include <climits>

namespace millrace
{

ApiError
invalid_request (std::string param, std::string message)
{
  return {400, "invalid_request_error", "invalid_request", std::move (param), std::move (message), 0};
}

namespace
{

struct Kind {
  std::string_view code;
  int status;
  const char *type;
};

constexpr Kind kKinds[] = {
    {"invalid_request", 400, "invalid_request_error"},
    {"invalid_utf8", 400, "invalid_request_error"},
    {"context_length_exceeded", 400, "invalid_request_error"},
    {"model_not_found", 404, "not_found_error"},
    {"timeout", 408, "timeout_error"},
    {"queue_full", 429, "rate_limit_error"},
};

} // namespace

ApiError
api_error (const RequestError &error, int64_t retry_after_ms)
{
  const auto named = [&error] (const Kind &kind) { return kind.code == error.code; };
  const auto *const kind = std::find_if (std::begin (kKinds), std::end (kKinds), named);
  const bool known = kind != std::end (kKinds);
  const auto retry = static_cast<int> (std::clamp<int64_t> (retry_after_ms, 0, INT_MAX));
  return {known ? kind->status : 500,
          known ? kind->type : "server_error",
          error.code,
          error.field,
          error.message,
          retry};
}

std::string
error_body (Dialect dialect, const ApiError &error)
{
  const bool anthropic = dialect == Dialect::kMessages;
  std::string out = anthropic ? "{\"type\":\"error\",\"error\":{\"message\":" : "{\"error\":{\"message\":";
  append_json_string (out, error.message);
  out += ",\"type\":";
  // The one type that Anthropic's clients know under another name.
  append_json_string (out, anthropic && error.type == "server_error" ? "api_error" : error.type);
  out += ",\"param\":";
  append_string_or_null (out, error.param);
  out += ",\"code\":";
  append_string_or_null (out, error.code);
  out += "}}";
  return out;
}

} // namespace millrace
