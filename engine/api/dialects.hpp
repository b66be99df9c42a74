// One reader for each dialect; parse_api_request () chooses.
#pragma once

#include "engine/api/generations.hpp"

namespace millrace
{

void read_openai_chat (Fields &body, const ApiLimits &limits, SharedMembers &shared, ApiRequest &out);
void read_openai_completion (Fields &body, const ApiLimits &limits, SharedMembers &shared, ApiRequest &out);
void read_openai_embedding (Fields &body, const ApiLimits &limits, SharedMembers &shared, ApiRequest &out);
void read_openai_responses (Fields &body, const ApiLimits &limits, SharedMembers &shared, ApiRequest &out);
void read_anthropic_messages (Fields &body, const ApiLimits &limits, SharedMembers &shared, ApiRequest &out);
void read_ollama_chat (Fields &body, const ApiLimits &limits, SharedMembers &shared, ApiRequest &out);
void read_ollama_generate (Fields &body, const ApiLimits &limits, SharedMembers &shared, ApiRequest &out);

/// response_format and its like: text is what there is.
void read_text_format (Fields &body, const char *name);

/// The inputs of completions and embeddings: texts or token ids, one or many, as members of a generation. `texts` gets
/// what was given as text.
std::vector<std::string> read_inputs (Fields &body, const char *name, size_t most,
                                      std::vector<std::string> &texts);

} // namespace millrace
