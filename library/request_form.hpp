// What an application has written into a MillraceRequest: what to generate from, and how.
//
// A form may be sent any number of times: each time it becomes one JSON object (docs/requests.md), as any other
// source of the pipeline sends it, with the fields that the application has set. One thread at a time.
#pragma once

#include "engine/scheduling/request.hpp"
#include "engine/scheduling/request_json.hpp"

#include <glib.h>

#include <bitset>
#include <string>
#include <utility>
#include <vector>

namespace millrace
{

struct RequestForm {
  std::string id, model; ///< empty: the pipeline names it; the first model
  SamplingParams sampling;
  std::bitset<32> said; ///< which of sampling_properties () were set; the others are the pipeline's
  PromptInput input;
  bool has_input = false;
  std::vector<std::pair<std::string, std::string>>
      messages; ///< role and content; they follow those of `input`
  std::string prediction;
  EmbeddingParams embed;
  Priority priority = Priority::kNormal;
  int timeout_ms = 0;
  guint buffer_bytes = 16384; ///< of text that nobody has read; more holds the request

  /// What can be checked without a model: parameters by name and range, and that there is something to work on.
  RequestError check () const;
  /// `embed_as` wins over `embed`; null: as it is.
  std::string to_json (const EmbeddingParams *embed_as = nullptr) const;
};

/// Reads a whole request. On error `form` is as before.
RequestError read_form (std::string_view json, RequestForm &form);

} // namespace millrace
