#include "engine/scheduling/admission.hpp"

#include "engine/scheduling/planner.hpp"

#include <algorithm>

namespace millrace
{

namespace
{

bool
wants_embedding (const Request &request)
{
  return request.embed.pooling != Pooling::kNone;
}

} // namespace

int
AdmissionLimits::token_limit (const Request &request) const
{
  if (wants_embedding (request))
    return static_cast<int> (request.prompt.size ());
  const int64_t wanted = request.sampling.max_tokens > 0
                             ? static_cast<int64_t> (request.prompt.size ()) + request.sampling.max_tokens
                             : max_positions;
  return static_cast<int> (std::min<int64_t> (wanted, max_positions));
}

RequestError
AdmissionLimits::check (const Request &request) const
{
  if (request.error)
    return request.error;
  if (request.prompt.empty ())
    return {"invalid_request", "prompt", "the prompt is empty: give at least one token"};
  const bool embeds = wants_embedding (request);
  const auto positions = static_cast<size_t> (max_positions);
  if (request.prompt.size () > positions || (request.prompt.size () == positions && !embeds))
    return {"context_length_exceeded", "prompt",
            "the prompt has " + std::to_string (request.prompt.size ()) +
                " tokens; this model's context holds " + std::to_string (positions) +
                (embeds ? "" : ", at least one of them for the answer")};
  for (const TokenId token : request.prompt) {
    if (token < 0 || token >= vocab)
      return {"invalid_request", "tokens",
              "token id " + std::to_string (token) + " is not in the vocabulary of " +
                  std::to_string (vocab)};
  }
  if (auto error = validate (request.sampling, vocab))
    return error;
  if (embeds && (request.embed.dimensions < 0 || request.embed.dimensions > hidden))
    return {"invalid_request", "dimensions",
            "dimensions must be between 1 and " + std::to_string (hidden) +
                ", the size of this model's embeddings, got " + std::to_string (request.embed.dimensions)};
  const int computed = token_limit (request) - (embeds ? 0 : 1); // an answer's last token is not
  for (size_t g = 0; g < groups.size (); g++) {
    const int needed = most_blocks (groups[g], computed, kMinPrefill);
    if (needed > blocks[g])
      return {"invalid_request", embeds ? "prompt" : "max_tokens",
              std::string (embeds ? "the prompt needs " : "prompt and max_tokens need ") +
                  std::to_string (needed) + " KV blocks of " + std::to_string (kBlockTokens) +
                  " tokens, kv-memory holds " + std::to_string (blocks[g])};
  }
  return {};
}

} // namespace millrace
