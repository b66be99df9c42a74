// What the buffers of a pipeline carry besides their bytes: a request, or a step.
#pragma once

#include "engine/step.hpp"
#include "library/ref.hpp"

#include <millrace/millrace-meta.h>

#include <memory>
#include <span>
#include <vector>

namespace millrace
{

/// Log-probabilities of a token buffer's tokens, in their order; top_begin counts into `top`.
struct TokenDetails {
  std::vector<SampledToken> tokens;
  std::vector<TokenLogprob> top;
};

/// The finish reason that the meta names; kNone when it names none.
FinishReason finish_of (const MillraceRequestMeta *meta);

struct TextDetails; // library/reply.hpp

void set_token_details (MillraceRequestMeta *meta, std::shared_ptr<const TokenDetails> details);
const TokenDetails *token_details (const MillraceRequestMeta *meta);
void set_text_details (MillraceRequestMeta *meta, std::shared_ptr<const TextDetails> details);
const TextDetails *text_details (const MillraceRequestMeta *meta);
/// The log-probabilities of a row's accepted tokens.
std::shared_ptr<const TokenDetails> details_of (const Row &row, const Step &step);

/// A buffer of 32-bit little-endian token ids, as on token links.
GstBuffer *new_token_buffer (std::span<const TokenId> tokens);
/// The request in the buffer's meta; a new one with default parameters when it has none.
Ref<MillraceRequest> request_of (GstBuffer *buffer);

/// The one buffer of a step refers to it. A step has one owner, so the meta refuses to be copied.
struct StepMeta {
  GstMeta meta;
  Step *step;
};

GstBuffer *new_step_buffer (Step &step);
StepMeta *get_step_meta (GstBuffer *buffer);

} // namespace millrace
