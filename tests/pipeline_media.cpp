// labels: pipeline
// timeout: 240
// Text that has its time: cues keep theirs, segments and gaps keep their place, and video never waits without a reason.

#include "tests/pipeline_runner.hpp"
#include "tests/text_source.hpp"

#include <millrace/millrace.h>

#include <condition_variable>

using namespace millrace;
using namespace millrace::testing;

namespace
{

constexpr const char *kTextFormat = "text/x-raw,format=utf8";

std::string
text_of (GstBuffer *buffer)
{
  const MappedBuffer mapped (buffer);
  return {mapped.chars (), mapped.size ()};
}

std::string
id_of (GstBuffer *buffer)
{
  return millrace_request_get_id (millrace_buffer_get_request_meta (buffer)->request);
}

/// A pipeline string's `llmbin name=llm`, with what leaves it written down, in order: "text PTS", "gap PTS", "segment START",
/// "eos".
class Recorded
{
public:
  explicit Recorded (const std::string &text)
  {
    gst_init (nullptr, nullptr);
    std::string rest = text;
    const auto properties = take_child_properties (rest);
    pipeline_ = Ref<GstElement>::adopt (gst_parse_launch (rest.c_str (), nullptr));
    gst_object_ref_sink (pipeline_.get ());
    for (const auto &[child, property, value] : properties)
      gst_util_set_object_arg (G_OBJECT (find (child.c_str ()).get ()), property.c_str (), value.c_str ());
    auto llm = find ("last");
    auto src = Ref<GstPad>::adopt (gst_element_get_static_pad (llm.get (), "src"));
    gst_pad_add_probe (
        src.get (),
        static_cast<GstPadProbeType> (GST_PAD_PROBE_TYPE_BUFFER | GST_PAD_PROBE_TYPE_BUFFER_LIST |
                                      GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM),
        [] (GstPad *, GstPadProbeInfo *info, gpointer data) {
          static_cast<Recorded *> (data)->note (info);
          return GST_PAD_PROBE_OK;
        },
        this, nullptr);
  }
  ~Recorded () { gst_element_set_state (pipeline_.get (), GST_STATE_NULL); }

  Ref<GstElement> find (const char *name) const
  {
    return Ref<GstElement>::adopt (gst_bin_get_by_name (GST_BIN (pipeline_.get ()), name));
  }
  Ref<GstPad> sink_of (const char *name) const
  {
    return Ref<GstPad>::adopt (gst_element_get_static_pad (find (name).get (), "sink"));
  }
  GstElement *pipeline () const { return pipeline_.get (); }
  /// Until "eos" has left; then everything.
  std::vector<std::string> until_end ()
  {
    std::unique_lock lock (mutex_);
    EXPECT_TRUE (changed_.wait_for (lock, std::chrono::seconds (120), [&] { return ended_; }));
    return noted_;
  }

private:
  static std::string ms (GstClockTime time)
  {
    return GST_CLOCK_TIME_IS_VALID (time) ? std::to_string (time / GST_MSECOND) : "none";
  }
  void note (GstPadProbeInfo *info)
  {
    std::vector<std::string> news;
    bool eos = false;
    if (info->type & GST_PAD_PROBE_TYPE_BUFFER) {
      news.push_back ("text " + ms (GST_BUFFER_PTS (GST_PAD_PROBE_INFO_BUFFER (info))));
    } else if (info->type & GST_PAD_PROBE_TYPE_BUFFER_LIST) {
      GstBufferList *list = GST_PAD_PROBE_INFO_BUFFER_LIST (info);
      for (guint i = 0; i < gst_buffer_list_length (list); i++)
        news.push_back ("text " + ms (GST_BUFFER_PTS (gst_buffer_list_get (list, i))));
    } else {
      GstEvent *event = GST_PAD_PROBE_INFO_EVENT (info);
      if (GST_EVENT_TYPE (event) == GST_EVENT_GAP) {
        GstClockTime time = 0;
        gst_event_parse_gap (event, &time, nullptr);
        news.push_back ("gap " + ms (time));
      } else if (GST_EVENT_TYPE (event) == GST_EVENT_SEGMENT) {
        const GstSegment *segment = nullptr;
        gst_event_parse_segment (event, &segment);
        news.push_back ("segment " + ms (segment->start));
      } else if (GST_EVENT_TYPE (event) == GST_EVENT_EOS) {
        news.emplace_back ("eos");
        eos = true;
      }
    }
    const std::lock_guard lock (mutex_);
    noted_.insert (noted_.end (), news.begin (), news.end ());
    ended_ = ended_ || eos;
    changed_.notify_all ();
  }

  Ref<GstElement> pipeline_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> noted_;
  bool ended_ = false;
};

GstSegment
segment_from (GstClockTime start)
{
  GstSegment segment;
  gst_segment_init (&segment, GST_FORMAT_TIME);
  segment.start = segment.time = segment.position = start;
  return segment;
}

constexpr const char *kShort =
    "llmbin name=last model=demo-draft prompt::max-tokens=2 detokenizer::format=whole";

} // namespace

TEST (Media, WholeRepliesLeaveOnePerCueInOrderWithTheCuesTime)
{
  // The first takes longest: a hundred times as long as the second, which may end before the last has come.
  const std::vector<std::string> cues = {
      R"({"id":"a","prompt":"import os","max_tokens":200,"ignore_eos":true})",
      R"({"id":"b","prompt":"import os","max_tokens":2,"ignore_eos":true})",
      R"({"id":"c","prompt":"import os","max_tokens":9,"ignore_eos":true})",
      R"({"id":"d","prompt":"import os","max_tokens":1,"ignore_eos":true})"};
  const auto result =
      run_pipeline ("llmbin model=demo-draft detokenizer::format=whole", cues, "application/json");
  ASSERT_EQ (result.error, "");
  ASSERT_NE (result.finished.front (), "a") << "the longest was to end after others that came later";
  ASSERT_EQ (result.buffers.size (), cues.size ());
  for (size_t i = 0; i < cues.size (); i++) {
    GstBuffer *buffer = result.buffers[i].get ();
    EXPECT_EQ (id_of (buffer), std::string (1, static_cast<char> ('a' + i)));
    EXPECT_EQ (GST_BUFFER_PTS (buffer), i * GST_SECOND);
    EXPECT_EQ (GST_BUFFER_DURATION (buffer), GST_SECOND / 2);
    EXPECT_EQ (text_of (result.buffers[0].get ()).find (text_of (buffer)), 0u)
        << "greedy: a beginning of the longest";
    EXPECT_TRUE (GST_BUFFER_FLAG_IS_SET (buffer, GST_BUFFER_FLAG_DISCONT | GST_BUFFER_FLAG_MARKER));
  }
}

TEST (Media, GrowingRepliesDivideTheCuesTime)
{
  for (const bool by_end : {false, true}) {
    const std::string stop = by_end ? "" : R"(,"ignore_eos":true)";
    const auto result = run_pipeline (
        "llmbin model=demo-draft detokenizer::format=growing detokenizer::timing=spread",
        {R"({"id":"a","prompt":"def area(r):","max_tokens":20)" + stop + "}",
         R"({"id":"b","prompt":"import","max_tokens":)" + std::string (by_end ? "400" : "7") + stop + "}"},
        "application/json");
    ASSERT_EQ (result.error, "");
    std::map<std::string, std::string> text;
    std::map<std::string, GstClockTime> end;
    std::string order;
    for (const auto &buffer : result.buffers) {
      const std::string id = id_of (buffer.get ()), now = text_of (buffer.get ());
      EXPECT_EQ (now.find (text[id]), 0u) << "it holds what was there before";
      text[id] = now;
      if (order.empty () || order.back () != id[0])
        order += id;
      const GstClockTime start = id == "a" ? 0 : GST_SECOND;
      if (!end.contains (id))
        end[id] = start;
      EXPECT_EQ (GST_BUFFER_PTS (buffer.get ()), end[id]) << "each begins where the last one ended";
      end[id] = GST_BUFFER_PTS (buffer.get ()) + GST_BUFFER_DURATION (buffer.get ());
      EXPECT_LE (end[id], start + GST_SECOND / 2);
      if (GST_BUFFER_FLAG_IS_SET (buffer.get (), GST_BUFFER_FLAG_MARKER)) {
        EXPECT_EQ (end[id], start + GST_SECOND / 2) << "the last one lasts to the cue's end";
      }
    }
    EXPECT_EQ (order, "ab");
    EXPECT_GT (result.buffers.size (), 4u);
  }
}

TEST (Media, TheModelSeesMarkupWithoutItsTags)
{
  const char *middle = "llmbin model=demo-draft prompt::max-tokens=12";
  const auto plain = run_pipeline (middle, {"def f(a): # a & \"b\" < 3"}, kTextFormat);
  const auto markup = run_pipeline (
      middle, {"<b>def</b> <span foreground=\"red\">f(a)</span>: # a &amp; &quot;b&quot; &lt; 3"},
      "text/x-raw,format=pango-markup");
  const auto tags = run_pipeline (middle, {"<b>def</b> f(a): # a & \"b\" < 3"}, kTextFormat);
  EXPECT_EQ (markup.error, "");
  EXPECT_GT (plain.output.size (), 4u);
  EXPECT_EQ (markup.output, plain.output);
  EXPECT_NE (tags.output, plain.output) << "without markup in the caps a tag is text";
}

TEST (Media, ASystemPromptIsEnoughForAChat)
{
  const char *cue = "Who are you?";
  const auto implied =
      run_pipeline ("llmbin prompt::max-tokens=12 prompt::system-prompt=Brief.", {cue}, kTextFormat);
  const auto said = run_pipeline (
      "llmbin prompt::max-tokens=12 prompt::chat=true prompt::system-prompt=Brief.", {cue}, kTextFormat);
  const auto none = run_pipeline ("llmbin prompt::max-tokens=12", {cue}, kTextFormat);
  EXPECT_GT (implied.output.size (), 4u);
  EXPECT_EQ (implied.output, said.output);
  EXPECT_NE (implied.output, none.output);
}

TEST (Media, SegmentsAndGapsKeepTheirPlaceAmongTheTexts)
{
  Recorded recorded (std::string (kShort) + " ! fakesink sync=false");
  gst_element_set_state (recorded.pipeline (), GST_STATE_PLAYING);
  GstSegment segment = segment_from (5 * GST_SECOND);
  TextSource source (recorded.sink_of ("last").get (), kTextFormat, &segment);
  source.push ("import os", 5 * GST_SECOND, GST_SECOND);
  source.send (gst_event_new_gap (6 * GST_SECOND, GST_SECOND));
  source.send (gst_event_new_gap (7 * GST_SECOND, GST_SECOND));
  segment = segment_from (60 * GST_SECOND);
  source.send (gst_event_new_segment (&segment));
  source.push ("import sys", 60 * GST_SECOND, GST_SECOND);
  source.send (gst_event_new_gap (61 * GST_SECOND, GST_SECOND));
  source.send (gst_event_new_eos ());
  auto noted = recorded.until_end ();
  std::erase (noted, "gap 6000"); // the scheduler may have had time for it, or not
  EXPECT_EQ (noted, (std::vector<std::string>{"segment 5000", "text 5000", "gap 7000", "segment 60000",
                                              "text 60000", "gap 61000", "eos"}));
}

TEST (Media, ATextStreamThatNeverSpeaksDoesNotHoldUpVideo)
{
  // textoverlay waits for text until it hears that there is none.
  Recorded recorded (std::string (kShort) +
                     " ! overlay.text_sink videotestsrc num-buffers=20 ! video/x-raw,width=32,height=32,"
                     "framerate=10/1 ! textoverlay name=overlay ! fakesink name=video sync=false");
  gst_element_set_state (recorded.pipeline (), GST_STATE_PLAYING);
  const GstSegment segment = segment_from (0);
  TextSource source (recorded.sink_of ("last").get (), kTextFormat, &segment);
  source.send (gst_event_new_gap (0, 10 * GST_SECOND));
  auto bus = Ref<GstBus>::adopt (gst_element_get_bus (recorded.pipeline ()));
  GstMessage *message = gst_bus_timed_pop_filtered (
      bus.get (), 60 * GST_SECOND, static_cast<GstMessageType> (GST_MESSAGE_EOS | GST_MESSAGE_ERROR));
  ASSERT_NE (message, nullptr) << "video waits";
  EXPECT_EQ (GST_MESSAGE_TYPE (message), GST_MESSAGE_EOS);
  gst_message_unref (message);
}

TEST (Media, SeveralStreamsMeetInRunningTime)
{
  Recorded recorded ("llmtokenizer name=one model=demo-draft ! scheduler.sink_0 llmtokenizer name=two ! "
                     "scheduler.sink_1 llmscheduler name=scheduler ! llmverifier ! llmsampler ! "
                     "llmdetokenizer name=last ! fakesink sync=false");
  auto detokenizer = recorded.find ("last");
  gst_util_set_object_arg (G_OBJECT (detokenizer.get ()), "format", "whole");
  gst_element_set_state (recorded.pipeline (), GST_STATE_PLAYING);
  const GstSegment first = segment_from (5 * GST_SECOND), second = segment_from (90 * GST_SECOND);
  TextSource one (recorded.sink_of ("one").get (), kTextFormat, &first);
  TextSource two (recorded.sink_of ("two").get (), kTextFormat, &second);
  one.push ("import os", 7 * GST_SECOND, GST_SECOND);
  two.push ("import sys", 93 * GST_SECOND, GST_SECOND);
  one.send (gst_event_new_eos ());
  two.send (gst_event_new_eos ());
  EXPECT_EQ (recorded.until_end (), (std::vector<std::string>{"segment 0", "text 2000", "text 3000", "eos"}));
}

TEST (Media, ALinePromptLastsFromItsFirstBufferToItsLast)
{
  Recorded recorded ("llmbin name=last model=demo-draft prompt::boundary=line prompt::max-tokens=1 "
                     "detokenizer::format=whole ! fakesink name=out sync=false");
  gst_element_set_state (recorded.pipeline (), GST_STATE_PLAYING);
  const GstSegment segment = segment_from (0);
  TextSource source (recorded.sink_of ("last").get (), kTextFormat, &segment);
  source.push ("import", 1 * GST_SECOND, GST_SECOND);
  source.push (" os\nimport sys\ndef", 2 * GST_SECOND, GST_SECOND);
  source.push (" f\n", 3 * GST_SECOND, GST_SECOND);
  source.push ("x\n", 4 * GST_SECOND, GST_SECOND);
  source.send (gst_event_new_eos ());
  EXPECT_EQ (recorded.until_end (), (std::vector<std::string>{"segment 0", "text 1000", "text 2000",
                                                              "text 2000", "text 4000", "eos"}));
}

TEST (Media, APromptEndsWhereItsSegmentDoes)
{
  Recorded recorded ("llmbin name=last model=demo-draft prompt::boundary=line prompt::max-tokens=1 "
                     "detokenizer::format=whole ! fakesink name=out sync=false");
  gst_element_set_state (recorded.pipeline (), GST_STATE_PLAYING);
  GstSegment segment = segment_from (0);
  TextSource source (recorded.sink_of ("last").get (), kTextFormat, &segment);
  source.push ("import os\nimport", 1 * GST_SECOND, GST_SECOND);
  segment = segment_from (60 * GST_SECOND);
  source.send (gst_event_new_segment (&segment));
  source.push ("import sys\ndef", 61 * GST_SECOND, GST_SECOND);
  source.send (gst_event_new_segment_done (GST_FORMAT_TIME, 62 * GST_SECOND));
  source.send (gst_event_new_eos ());
  EXPECT_EQ (recorded.until_end (),
             (std::vector<std::string>{"segment 0", "text 1000", "text 1000", "segment 60000", "text 61000",
                                       "text 61000", "eos"}));
}

TEST (Media, ALivePipelineKnowsTheLatencyAndItsVideoFlows)
{
  Recorded recorded (
      std::string (kShort) +
      " prompt::timeout-ms=300 ! queue ! overlay.text_sink "
      "appsrc name=in is-live=true format=time caps=text/x-raw,format=utf8 ! last. "
      "videotestsrc is-live=true num-buffers=8 ! video/x-raw,width=32,height=32,framerate=20/1 ! "
      "textoverlay name=overlay wait-text=false ! fakesink name=video sync=true signal-handoffs=true");
  int frames = 0;
  g_signal_connect (
      recorded.find ("video").get (), "handoff",
      G_CALLBACK (+[] (GstElement *, GstBuffer *, GstPad *, gpointer data) { ++*static_cast<int *> (data); }),
      &frames);
  EXPECT_EQ (gst_element_set_state (recorded.pipeline (), GST_STATE_PAUSED), GST_STATE_CHANGE_NO_PREROLL);
  gst_element_set_state (recorded.pipeline (), GST_STATE_PLAYING);
  auto source = recorded.find ("in");
  GstBuffer *cue = gst_buffer_new_memdup ("import os", 9);
  GST_BUFFER_PTS (cue) = 0;
  GST_BUFFER_DURATION (cue) = GST_SECOND;
  gst_app_src_push_buffer (GST_APP_SRC (source.get ()), cue);
  gst_app_src_end_of_stream (GST_APP_SRC (source.get ()));
  EXPECT_EQ (recorded.until_end (), (std::vector<std::string>{"segment 0", "text 0", "eos"}));

  auto query = Ref<GstQuery>::adopt (gst_query_new_latency ());
  auto src = Ref<GstPad>::adopt (gst_element_get_static_pad (recorded.find ("last").get (), "src"));
  ASSERT_TRUE (gst_pad_query (src.get (), query.get ()));
  gboolean live = FALSE;
  GstClockTime least = 0, most = 0;
  gst_query_parse_latency (query.get (), &live, &least, &most);
  EXPECT_TRUE (live);
  EXPECT_EQ (least, 300 * GST_MSECOND);
  EXPECT_EQ (most, GST_CLOCK_TIME_NONE);

  auto bus = Ref<GstBus>::adopt (gst_element_get_bus (recorded.pipeline ()));
  GstMessage *message = gst_bus_timed_pop_filtered (
      bus.get (), 60 * GST_SECOND, static_cast<GstMessageType> (GST_MESSAGE_EOS | GST_MESSAGE_ERROR));
  ASSERT_NE (message, nullptr);
  EXPECT_EQ (GST_MESSAGE_TYPE (message), GST_MESSAGE_EOS);
  gst_message_unref (message);
  EXPECT_EQ (frames, 8);
}
