#include "engine/api/reply_writer.hpp"

#include "engine/api/writers.hpp"

namespace millrace
{

std::unique_ptr<ReplyWriter>
ReplyWriter::create (const ApiRequest &request, const ReplyIdentity &identity)
{
  switch (request.dialect) {
  case Dialect::kChat:
    return make_chat_writer (request, identity);
  case Dialect::kCompletion:
    return make_completion_writer (request, identity);
  case Dialect::kEmbedding:
    return make_embedding_writer (request, identity);
  case Dialect::kResponses:
    return make_responses_writer (request, identity);
  case Dialect::kMessages:
    return make_messages_writer (request, identity);
  case Dialect::kOllamaChat:
  case Dialect::kOllamaGenerate:
    return make_ollama_writer (request, identity);
  }
  return nullptr;
}

} // namespace millrace
