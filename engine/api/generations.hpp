// What a body asks for besides its prompts, in the members of a generation (docs/requests.md).
#pragma once

#include "engine/api/fields.hpp"

namespace millrace
{

/// Members that all generations of a body share, each with a comma before it, and what tells them apart.
struct SharedMembers {
  std::string json;
  uint64_t seed = 0;
  bool has_seed = true; ///< an embedding needs none
  int n = 1;            ///< generations for each prompt

  void add (std::string_view name, double value);
  void add (std::string_view name, int64_t value);
  void add (std::string_view name, bool value);
  void add (std::string_view name, std::string_view value);
  void add_json (std::string_view name, std::string_view value);
};

// One reader for each field, or for those that belong together. They add a member when the field is given.

void read_number (Fields &body, const char *name, double low, double high, SharedMembers &out);
/// (0, high]
void read_positive (Fields &body, const char *name, double high, SharedMembers &out);
void read_top_k (Fields &body, SharedMembers &out); ///< −1 and 0: off
void read_seed (Fields &body, SharedMembers &out);
void read_stop (Fields &body, const char *name, SharedMembers &out);
void read_logit_bias (Fields &body, SharedMembers &out);
/// priority and timeout_ms, which are ours in every dialect of /v1.
void read_service (Fields &body, SharedMembers &out);
void read_n (Fields &body, const ApiLimits &limits, SharedMembers &out);
/// `names`: of one field; given twice they must agree.
std::optional<int64_t> read_max_tokens (Fields &body, std::span<const char *const> names, SharedMembers &out);
/// What chat and completions have in common, with min_tokens, which needs a limit to be compared with.
void read_openai_sampling (Fields &body, std::optional<int64_t> max_tokens, SharedMembers &out);
/// user, or one of the names that came after it; service_tier, store, metadata.
void read_openai_account (Fields &body, ApiRequest &out);
/// stream and stream_options.
void read_openai_stream (Fields &body, ApiRequest &out);

/// Reads model: 404 when the server does not answer to it.
void read_model (Fields &body, const ApiLimits &limits, std::string &out);

/// `prompts`: the members that say what to continue, such as "prompt":"…". Fills out.generations.
void make_generations (std::span<const std::string> prompts, const SharedMembers &shared, Fields &body,
                       ApiRequest &out);

} // namespace millrace
