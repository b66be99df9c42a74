#include "engine/api/parse.hpp"

#include "engine/api/dialects.hpp"

#include <algorithm>

namespace millrace
{

namespace
{

using Reader = void (*) (Fields &body, const ApiLimits &limits, SharedMembers &shared, ApiRequest &out);

struct DialectReader {
  Dialect dialect;
  size_t nesting;
  Reader read;
};

constexpr DialectReader kReaders[] = {
    {Dialect::kChat, kMaxApiNesting, read_openai_chat},
    {Dialect::kCompletion, kMaxApiNesting, read_openai_completion},
    {Dialect::kEmbedding, kMaxApiNesting, read_openai_embedding},
    {Dialect::kResponses, kMaxReshapedNesting, read_openai_responses},
    {Dialect::kMessages, kMaxReshapedNesting, read_anthropic_messages},
    {Dialect::kOllamaChat, kMaxReshapedNesting, read_ollama_chat},
    {Dialect::kOllamaGenerate, kMaxReshapedNesting, read_ollama_generate},
};

} // namespace

ApiError
parse_api_request (Dialect dialect, std::string_view body, const ApiLimits &limits, uint64_t seed,
                   ApiRequest &out)
{
  out = {};
  out.dialect = dialect;
  const auto of_dialect = [dialect] (const DialectReader &reader) { return reader.dialect == dialect; };
  const auto *const reader = std::find_if (std::begin (kReaders), std::end (kReaders), of_dialect);
  JsonDocument document;
  if (ApiError error = document.parse (body, reader->nesting))
    return error;
  ApiError error;
  Fields fields (document.root (), "", error);
  SharedMembers shared;
  shared.seed = seed;
  reader->read (fields, limits, shared, out);
  return error;
}

} // namespace millrace
