// Where a request's text goes when whoever sent it waits for it: an HTTP client, or an application.
//
// A source attaches a reply to its requests; a sink calls it. The two share nothing else. A request that is dropped
// on its way (a flush, a stopped pipeline) tells its reply when it is destroyed, so that nobody waits for ever.
#pragma once

#include "engine/api/reply_writer.hpp"
#include "library/request.hpp"

#include <memory>
#include <vector>

namespace millrace
{

/// Any thread may call any of these, for different indices also at the same time; none of them blocks. Calls for one
/// index: deliver until one with a finish reason, or abandoned; accepted at most once, before or among them.
class Reply
{
public:
  virtual ~Reply () = default;
  /// The generation waits in the scheduler's queue: its prompt and parameters are in order and can be run.
  virtual void accepted (int index) = 0;
  virtual void deliver (const GenerationDelta &delta) = 0;
  /// The request is gone without an end.
  virtual void abandoned (int index) = 0;
};

/// Before the request enters a pipeline.
void set_reply (MillraceRequest *request, std::shared_ptr<Reply> reply, int index);
bool has_reply (MillraceRequest *request);
/// Called by the sink; `delta.index` is filled in. With a finish reason the reply is let go.
void notify_delta (MillraceRequest *request, GenerationDelta &delta);
/// What a sink does with each buffer of text: tells the reply of the buffer's request. False: nobody waits for it.
bool deliver_text (GstBuffer *buffer);

/// What a text buffer's meta carries besides the request, for those who format answers.
struct TextDetails {
  std::vector<TokenText> tokens; ///< when log-probabilities were asked for
  Usage usage;                   ///< with the end
  std::string stop_string;       ///< with the end, when one ended the text
};

} // namespace millrace
