// A pipeline behind sources of cues, and what arrives at its sink, written down in order.
#pragma once

#include "tests/cue_source.hpp"
#include "tests/pipeline_runner.hpp"

#include <millrace/millrace.h>

#include <algorithm>
#include <condition_variable>

namespace millrace::testing
{

struct Note {
  std::string
      what; ///< "flush-start", "flush-stop", "segment START", "reply ID at PTS", "segment-done", "eos"; in seconds
  guint32 seqnum = 0;
};

inline std::vector<std::string>
texts (const std::vector<Note> &notes, size_t from = 0)
{
  std::vector<std::string> whats;
  for (size_t i = from; i < notes.size (); i++)
    whats.push_back (notes[i].what);
  return whats;
}

inline std::string
reply (int cue)
{
  return "reply " + std::to_string (cue) + " at " + std::to_string (cue);
}

/// `first` … `last`, as whole replies with the cues' times.
inline std::vector<std::string>
replies (int first, int last)
{
  std::vector<std::string> whats;
  for (int cue = first; cue <= last; cue++)
    whats.push_back (reply (cue));
  return whats;
}

inline std::vector<std::string>
operator+ (std::vector<std::string> left, const std::vector<std::string> &right)
{
  left.insert (left.end (), right.begin (), right.end ());
  return left;
}

/// `middle` behind a source of cues, with what arrives at the sink written down.
class CueRecorder
{
public:
  explicit CueRecorder (
      int cues, int (*tokens) (int) = [] (int) { return 3; },
      const std::string &middle = "llmbin name=llm model=demo-draft", const char *first = "llm")
  {
    gst_init (nullptr, nullptr);
    pipeline_ = Ref<GstElement>::adopt (
        gst_parse_launch ((middle + " ! fakesink name=out sync=false").c_str (), nullptr));
    gst_object_ref_sink (pipeline_.get ());
    gst_util_set_object_arg (G_OBJECT (find ("detokenizer").get ()), "format", "whole");
    g_object_set (find ("scheduler").get (), "max-queued", 4u, "max-batch", 4, nullptr);
    source_ = add_cue_source (pipeline_.get (), first);
    source_->count = cues;
    source_->tokens = tokens;
    auto pad = Ref<GstPad>::adopt (gst_element_get_static_pad (find ("out").get (), "sink"));
    gst_pad_add_probe (
        pad.get (),
        static_cast<GstPadProbeType> (GST_PAD_PROBE_TYPE_BUFFER | GST_PAD_PROBE_TYPE_BUFFER_LIST |
                                      GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM | GST_PAD_PROBE_TYPE_EVENT_FLUSH),
        [] (GstPad *, GstPadProbeInfo *info, gpointer data) {
          static_cast<CueRecorder *> (data)->note (info);
          return GST_PAD_PROBE_OK;
        },
        this, nullptr);
  }
  ~CueRecorder () { gst_element_set_state (pipeline_.get (), GST_STATE_NULL); }

  std::string hold_at; ///< at this note the loop's thread waits until a flush begins
  std::string seek_at; ///< at this note the loop's thread itself seeks to `seek_to`
  int seek_to = 0;

  void set_state (GstState state) { gst_element_set_state (pipeline_.get (), state); }
  /// Until the state has been reached.
  void settle ()
  {
    EXPECT_EQ (gst_element_get_state (pipeline_.get (), nullptr, nullptr, GST_CLOCK_TIME_NONE),
               GST_STATE_CHANGE_SUCCESS);
  }
  /// From the application's thread, as a player does. The seqnum.
  guint32 seek (int cue, int flags, GstClockTime stop = GST_CLOCK_TIME_NONE)
  {
    GstEvent *event = seek_event (cue, flags, stop);
    const guint32 seqnum = gst_event_get_seqnum (event);
    EXPECT_TRUE (gst_element_send_event (pipeline_.get (), event));
    return seqnum;
  }
  /// Until `what` is behind the first `from` notes; then everything.
  std::vector<Note> until (const std::string &what, size_t from = 0)
  {
    std::unique_lock lock (mutex_);
    EXPECT_TRUE (changed_.wait_for (lock, std::chrono::seconds (kSanitized ? 120 : 30), [&] {
      return has (what, from);
    })) << what;
    return notes_;
  }
  /// The number of notes before the last of this text.
  size_t last (const std::string &what)
  {
    const std::lock_guard lock (mutex_);
    const auto found =
        std::find_if (notes_.rbegin (), notes_.rend (), [&] (const Note &note) { return note.what == what; });
    return static_cast<size_t> (notes_.rend () - found) - (found == notes_.rend () ? 0 : 1);
  }
  std::vector<Note> notes ()
  {
    const std::lock_guard lock (mutex_);
    return notes_;
  }
  std::vector<int> pushed ()
  {
    const std::lock_guard lock (source_->mutex);
    return source_->pushed;
  }
  uint64_t generated_tokens () const
  {
    GstStructure *stats = nullptr;
    g_object_get (find ("scheduler").get (), "stats", &stats, nullptr);
    guint64 tokens = 0;
    gst_structure_get_uint64 (stats, "generated-tokens", &tokens);
    gst_structure_free (stats);
    return tokens;
  }
  GstElement *pipeline () const { return pipeline_.get (); }
  Ref<GstElement> find (const char *name) const
  {
    return Ref<GstElement>::adopt (gst_bin_get_by_name (GST_BIN (pipeline_.get ()), name));
  }

private:
  static GstEvent *seek_event (int cue, int flags, GstClockTime stop)
  {
    return gst_event_new_seek (1, GST_FORMAT_TIME, static_cast<GstSeekFlags> (flags), GST_SEEK_TYPE_SET,
                               static_cast<gint64> (cue) * GST_SECOND,
                               GST_CLOCK_TIME_IS_VALID (stop) ? GST_SEEK_TYPE_SET : GST_SEEK_TYPE_NONE,
                               static_cast<gint64> (stop));
  }
  bool has (const std::string &what, size_t from) const
  {
    for (size_t i = from; i < notes_.size (); i++)
      if (notes_[i].what == what)
        return true;
    return false;
  }
  static std::string seconds (GstClockTime time) { return std::to_string (time / GST_SECOND); }
  void note (GstPadProbeInfo *info)
  {
    if (info->type & GST_PAD_PROBE_TYPE_BUFFER) {
      add (GST_PAD_PROBE_INFO_BUFFER (info));
    } else if (info->type & GST_PAD_PROBE_TYPE_BUFFER_LIST) {
      GstBufferList *list = GST_PAD_PROBE_INFO_BUFFER_LIST (info);
      for (guint i = 0; i < gst_buffer_list_length (list); i++)
        add (gst_buffer_list_get (list, i));
    } else {
      GstEvent *event = GST_PAD_PROBE_INFO_EVENT (info);
      std::string what = GST_EVENT_TYPE_NAME (event);
      if (GST_EVENT_TYPE (event) == GST_EVENT_SEGMENT) {
        const GstSegment *segment = nullptr;
        gst_event_parse_segment (event, &segment);
        what += " " + seconds (segment->start);
      } else if (GST_EVENT_TYPE (event) == GST_EVENT_STREAM_START ||
                 GST_EVENT_TYPE (event) == GST_EVENT_CAPS) {
        return;
      }
      add ({what, gst_event_get_seqnum (event)});
    }
  }
  void add (GstBuffer *buffer)
  {
    const auto *meta = millrace_buffer_get_request_meta (buffer);
    add ({std::string ("reply ") + millrace_request_get_id (meta->request) + " at " +
          seconds (GST_BUFFER_PTS (buffer))});
  }
  void add (Note note)
  {
    std::unique_lock lock (mutex_);
    // What was past the pad's own look at its flags when the flush began is dropped by the sink.
    if (flushing_ && note.what != "flush-stop")
      return;
    flushing_ = note.what == "flush-start";
    const size_t before = notes_.size ();
    const bool holds = note.what == hold_at, seeks = note.what == seek_at;
    notes_.push_back (std::move (note));
    changed_.notify_all ();
    if (holds)
      changed_.wait (lock, [&] { return has ("flush-start", before); });
    lock.unlock ();
    if (seeks) {
      seek_at.clear ();
      auto pad = Ref<GstPad>::adopt (gst_element_get_static_pad (find ("out").get (), "sink"));
      EXPECT_TRUE (
          gst_pad_push_event (pad.get (), seek_event (seek_to, GST_SEEK_FLAG_FLUSH, GST_CLOCK_TIME_NONE)));
    }
  }

  Ref<GstElement> pipeline_;
  CueSource *source_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Note> notes_;
  bool flushing_ = false;
};

} // namespace millrace::testing
