// The frame of one call: gone after it, unless something may still refer to it.
#pragma once

#include "engine/chat/render.hpp"

#include <optional>

namespace millrace::jinja
{

class Renderer::FrameHolder
{
public:
  FrameHolder (const Function &function, Frame *parent, std::deque<Frame> &captured)
  {
    spend (1 + function.slots);
    if (function.is_captured) {
      charge_memory (sizeof (Frame) + function.slots * sizeof (Value)); // until the render ends
      captured.emplace_back (parent, function.slots);
      frame_ = &captured.back ();
    } else {
      local_.emplace (parent, function.slots);
      frame_ = &*local_;
    }
  }
  FrameHolder (const FrameHolder &) = delete;
  FrameHolder &operator= (const FrameHolder &) = delete;

  Frame &frame () { return *frame_; }

private:
  std::optional<Frame> local_;
  Frame *frame_;
};

} // namespace millrace::jinja
