// What a scheduler can ever run, as a value: any thread may ask before a request is handed over.
#pragma once

#include "engine/kv/kv_layout.hpp"
#include "engine/scheduling/request.hpp"

namespace millrace
{

struct AdmissionLimits {
  int vocab = 0, hidden = 0, max_positions = 0; ///< of the model
  KvLayout groups;                              ///< of the KV cache
  BlockCounts blocks{};                         ///< that it has of each

  /// Why `request` can never run, or the error it has already. What passes here runs, sooner or later.
  RequestError check (const Request &request) const;
  /// Tokens, the prompt's included, at which it ends: max_tokens is cut to what the context holds.
  int token_limit (const Request &request) const;
};

} // namespace millrace
