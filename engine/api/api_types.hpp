// What the HTTP dialects have in common: a body becomes an ApiRequest or an ApiError.
//
// Everything in engine/api is pure: text in, text out; no socket, no clock, no randomness of its own.
#pragma once

#include "engine/scheduling/request.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace millrace
{

/// Whose API a request speaks.
enum class Dialect : uint8_t {
  kChat,           ///< OpenAI POST /v1/chat/completions
  kCompletion,     ///< OpenAI POST /v1/completions
  kEmbedding,      ///< OpenAI POST /v1/embeddings
  kResponses,      ///< OpenAI POST /v1/responses
  kMessages,       ///< Anthropic POST /v1/messages
  kOllamaChat,     ///< Ollama POST /api/chat
  kOllamaGenerate, ///< Ollama POST /api/generate
};

/// An answer that is an error. An empty code means that there is none.
struct ApiError {
  int status = 0;         ///< of HTTP
  std::string type{};     ///< of error, in the words of OpenAI: invalid_request_error, server_error, ...
  std::string code{};     ///< invalid_request, context_length_exceeded, queue_full, ...
  std::string param{};    ///< the field that is wrong, or empty
  std::string message{};  ///< one sentence for the person who sent the request
  int retry_after_ms = 0; ///< 0: no hint

  explicit operator bool () const { return !code.empty (); }
};

ApiError invalid_request (std::string param, std::string message);
/// The status and type that go with a request's failure.
ApiError api_error (const RequestError &error, int64_t retry_after_ms);

/// {"error":{"message","type","param","code"}}, for kMessages with "type":"error" before it.
std::string error_body (Dialect dialect, const ApiError &error);

/// What a server allows and knows when it reads a body.
struct ApiLimits {
  std::vector<std::string> models; ///< names it answers to, the first its own; "*" among them: to any name
  int max_generations = 128;       ///< prompts × n of one request
  bool has_chat_template = true;
};

/// A body, understood: what to run, and how its caller wants to hear of it.
struct ApiRequest {
  Dialect dialect = Dialect::kChat;
  std::string model; ///< as the caller called it, or ApiLimits::models[0]
  bool stream = false;
  bool include_usage = false; ///< in a stream: a last chunk with usage
  std::string user;           ///< the caller's own name for its user

  /// One JSON object for each generation (docs/requests.md, without id), ready for llmprompt; with n > 1 the
  /// generations of one prompt follow each other, and that is also the order of their indices.
  std::vector<std::string> generations;
  int choices = 1;                 ///< n
  std::vector<std::string> echoes; ///< kCompletion with echo: each prompt's text; else empty
  bool logprobs = false;
  bool reads_reasoning = false; ///< text in <think>…</think> is reasoning, not content
  bool base64 = false;          ///< kEmbedding
  std::string response_members; ///< kResponses: members that the response says again, each after a comma
};

} // namespace millrace
