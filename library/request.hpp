// The C++ side of MillraceRequest, for elements.
#pragma once

#include "engine/scheduling/request.hpp"
#include "engine/scheduling/request_json.hpp"
#include "library/request_form.hpp"

#include <millrace/millrace-request.h>

#include <memory>

namespace millrace
{

class Reply;
/// The request's reply (library/reply.hpp), held so that it can be told of the request's acceptance after another
/// thread has got the request.
struct ReplySlot {
  std::shared_ptr<Reply> reply; ///< null: nobody waits for an answer
  int index = 0;

  void accepted () const;
};
ReplySlot reply_slot (MillraceRequest *request);

Request &engine_request (MillraceRequest *request);
const RequestForm &request_form (MillraceRequest *request);
/// The engine's request, keeping the GObject alive.
std::shared_ptr<Request> share_request (MillraceRequest *request);
/// The GObject around an engine's request; borrowed.
inline MillraceRequest *
request_object (const Request &request)
{
  return static_cast<MillraceRequest *> (request.owner);
}

/// What the prompt's buffer says of time and order, kept for its text.
struct RequestTiming {
  GstClockTime pts = GST_CLOCK_TIME_NONE; ///< in the segment on the scheduler's source pad
  GstClockTime duration = GST_CLOCK_TIME_NONE;
  /// The scheduler counts its requests since the start or flush, from 0, in the order in which they come; each of them
  /// ends. kNoNumber: has met no scheduler.
  uint64_t number = kNoNumber;

  static constexpr uint64_t kNoNumber = UINT64_MAX;
};
RequestTiming &request_timing (MillraceRequest *request);

} // namespace millrace
