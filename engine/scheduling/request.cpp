#include "engine/scheduling/request.hpp"

namespace millrace
{

const char *
finish_reason_name (FinishReason reason)
{
  switch (reason) {
  case FinishReason::kNone:
    return nullptr;
  case FinishReason::kStop:
    return "stop";
  case FinishReason::kLength:
    return "length";
  case FinishReason::kCancelled:
    return "cancelled";
  case FinishReason::kTimeout:
    return "timeout";
  case FinishReason::kError:
    return "error";
  }
  return nullptr;
}

const char *
request_state_name (RequestState state)
{
  constexpr const char *kNames[] = {"waiting",  "runnable",  "running", "blocked",
                                    "finished", "cancelled", "failed"};
  return kNames[static_cast<size_t> (state)];
}

const char *
pooling_name (Pooling pooling)
{
  constexpr const char *kNames[] = {"none", "last", "mean", "cls"};
  return kNames[static_cast<size_t> (pooling)];
}

std::atomic<uint64_t> Request::endings_{0};

Request::Request ()
{
  static std::atomic<uint64_t> last_serial{0};
  serial = last_serial.fetch_add (1, std::memory_order_relaxed) + 1;
}

void
Request::end (FinishReason reason)
{
  FinishReason none = FinishReason::kNone;
  if (finish_early.compare_exchange_strong (none, reason))
    endings_.fetch_add (1, std::memory_order_release);
}

} // namespace millrace
