// A source pad that a test pushes through by hand, event by event.
#pragma once

#include "library/ref.hpp"

#include <gst/gst.h>
#include <gtest/gtest.h>

#include <string>

namespace millrace::testing
{

class TextSource
{
public:
  /// Links to `sink` and sends stream-start, caps and (unless null) a segment.
  TextSource (GstPad *sink, const char *caps, const GstSegment *segment)
      : pad_ (gst_pad_new ("source", GST_PAD_SRC))
  {
    gst_object_ref_sink (pad_);
    gst_pad_set_active (pad_, TRUE);
    EXPECT_EQ (gst_pad_link (pad_, sink), GST_PAD_LINK_OK);
    send (gst_event_new_stream_start ("test"));
    auto format = Ref<GstCaps>::adopt (gst_caps_from_string (caps));
    send (gst_event_new_caps (format.get ()));
    if (segment)
      send (gst_event_new_segment (segment));
  }
  TextSource (const TextSource &) = delete;
  TextSource &operator= (const TextSource &) = delete;
  ~TextSource ()
  {
    gst_pad_set_active (pad_, FALSE);
    if (auto *peer = gst_pad_get_peer (pad_)) {
      gst_pad_unlink (pad_, peer);
      gst_object_unref (peer);
    }
    gst_object_unref (pad_);
  }

  bool send (GstEvent *event) { return gst_pad_push_event (pad_, event); }
  GstFlowReturn push (const std::string &text, GstClockTime pts = GST_CLOCK_TIME_NONE,
                      GstClockTime duration = GST_CLOCK_TIME_NONE)
  {
    GstBuffer *buffer = gst_buffer_new_memdup (text.data (), text.size ());
    GST_BUFFER_PTS (buffer) = pts;
    GST_BUFFER_DURATION (buffer) = duration;
    return gst_pad_push (pad_, buffer);
  }
  GstPad *pad () const { return pad_; }

private:
  GstPad *pad_;
};

} // namespace millrace::testing
