// Puts the replies of many requests in the order of the requests.
//
// What belongs to the oldest request that has not ended passes at once; what later ones say is held until those before
// them have ended. One thread: the streaming thread.
#pragma once

#include "library/ref.hpp"

#include <cstdint>
#include <map>
#include <span>
#include <vector>

namespace millrace
{

class ReplyOrder
{
public:
  /// Whether it knows where to begin; else begin () comes before the first add ().
  bool begun () const { return begun_; }
  /// `open`: the numbers that have not ended, ascending, and then the first that is to come. None: from 0.
  void begin (std::span<const uint64_t> open);
  /// Takes a buffer of the request with this number (RequestTiming::number; kNoNumber passes at once), and appends what
  /// may leave now, in order. `ends`: it is the request's last.
  void add (uint64_t number, bool ends, Ref<GstBuffer> buffer, std::vector<Ref<GstBuffer>> &leaving);
  /// At the end of the stream: what is still held, in order. It then begins anew.
  void finish (std::vector<Ref<GstBuffer>> &leaving);

private:
  struct Held {
    std::vector<Ref<GstBuffer>> buffers;
    bool ended = false;
  };

  bool begun_ = false;
  uint64_t next_ = 0; // all before it have ended
  std::map<uint64_t, Held> held_;
};

} // namespace millrace
