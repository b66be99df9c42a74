// Fuzz target: any bytes as a body. The first byte picks the route ('0' … '9'), the rest is the body. A generation that
// comes out must be a request that llmprompt accepts, and whatever a writer says must be JSON. README.md has the
// commands; tests/engine_api_corpus.cpp runs the corpus in every build.
#include "engine/api/parse.hpp"
#include "engine/api/reply_writer.hpp"
#include "engine/scheduling/request_json.hpp"

#include <simdjson.h>

#include <cstdio>
#include <cstdlib>

namespace
{

using namespace millrace;

constexpr size_t kDialects = 7; ///< then come the routes of text
constexpr size_t kRoutes = 10;

[[noreturn]] void
fail (const char *what, const std::string &text)
{
  std::fprintf (stderr, "%s: %s\n", what, text.c_str ());
  std::abort ();
}

void
check_json (const std::string &text)
{
  simdjson::dom::parser parser;
  if (!simdjson::validate_utf8 (text) || parser.parse (text).error ())
    fail ("not JSON", text);
}

void
check_error (Dialect dialect, const ApiError &error)
{
  const std::string body = error_body (dialect, error);
  check_json (body);
  if (error.status < 400 || error.status > 599 || error.message.empty () || error.type.empty ())
    fail ("not a whole error", body);
}

/// The events of a stream or the lines of one, or a body.
void
check_reply (const std::string &reply)
{
  for (size_t at = 0; at < reply.size ();) {
    const size_t end = std::min (reply.find ('\n', at), reply.size ());
    std::string_view line = std::string_view (reply).substr (at, end - at);
    at = end + 1;
    if (line.empty () || line.starts_with (": ") || line.starts_with ("event: ") || line == "data: [DONE]")
      continue;
    if (line.starts_with ("data: "))
      line.remove_prefix (6);
    check_json (std::string (line));
  }
}

void
answer (const ApiRequest &request, uint8_t variety)
{
  const auto writer = ReplyWriter::create (request, {"fuzz", 1700000000});
  std::string out;
  if (request.stream)
    writer->begin (out);
  const TokenText token{"\"é", "\"\xc3", 5, -0.5F, {{"a", "a", 6, -1, {}}}};
  const float embedding[] = {1, -2};
  for (size_t i = 0; i < request.generations.size () * 3 && !writer->ended (); i++) {
    const size_t turn = i / request.generations.size ();
    static constexpr std::string_view kTexts[] = {"<think>\n\"a", "b</think> \n", "c\\\xc3\xa9"};
    GenerationDelta delta;
    delta.index = static_cast<int> (i % request.generations.size ());
    delta.text = kTexts[(turn + (variety & 1)) % 3];
    delta.tokens = {&token, 1};
    delta.starts_thinking = variety & 2;
    if (turn == 2) {
      delta.finish = variety & 4 ? FinishReason::kLength : FinishReason::kStop;
      delta.embedding = embedding;
    }
    if (turn == 1 && (variety & 24) == 24)
      writer->abort (invalid_request ("x", "y"), out);
    writer->deliver (delta, out);
    out += writer->keep_alive ();
  }
  if (!writer->ended ())
    fail ("a writer without an end", request.generations.front ());
  check_reply (out);
}

void
read_request (Dialect dialect, std::string_view body)
{
  ApiRequest request;
  if (const ApiError error = parse_api_request (dialect, body, {{"demo", "*"}, 8, true}, 1, request)) {
    check_error (dialect, error);
    return;
  }
  if (request.generations.empty ())
    fail ("nothing to do", std::string (body));
  for (const std::string &generation : request.generations) {
    Request parsed;
    PromptInput prompt;
    if (const RequestError error = parse_request (generation, parsed, prompt))
      fail (error.message.c_str (), generation);
  }
  answer (request, static_cast<uint8_t> (body.size ()));
}

void
read_text (TextRoute route, std::string_view body)
{
  TextRequest request;
  if (const ApiError error = parse_text_request (route, body, {{"demo", "*"}, 8, true}, request))
    check_error (Dialect::kChat, error);
  else if (route == TextRoute::kApplyTemplate)
    check_json (request.chat_json);
}

} // namespace

extern "C" int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  if (size == 0)
    return 0;
  const size_t route = static_cast<uint8_t> (data[0] - '0') % kRoutes;
  // NOLINTNEXTLINE: bytes are characters here
  const std::string_view body (reinterpret_cast<const char *> (data) + 1, size - 1);
  if (route < kDialects)
    read_request (static_cast<Dialect> (route), body);
  else
    read_text (static_cast<TextRoute> (route - kDialects), body);
  return 0;
}
