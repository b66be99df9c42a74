// labels: pipeline property
// timeout: 120
// soak: ROUNDS=500
// Random sequences of state changes, seeks or flushes, segments, changes of caps and exchanged drafters, with requests on their
// way: nothing gets stuck, nothing crashes, and afterwards the pipeline still answers.

#include "tests/cue_source.hpp"
#include "tests/pipeline_runner.hpp"
#include "tests/sanitized.hpp"
#include "tests/seed.hpp"
#include "tests/text_source.hpp"
#include "tests/watchdog.hpp"

#include <millrace/millrace.h>

#include <atomic>
#include <condition_variable>
#include <random>
#include <thread>

using namespace millrace;
using namespace millrace::testing;

namespace
{

constexpr auto kPatience = std::chrono::seconds (kSanitized ? 120 : 30);
constexpr const char *kFormats[] = {"text/x-raw,format=utf8", "text/x-raw,format=pango-markup",
                                    "application/json"};

/// Pushes texts, gaps, segments and caps into the pipeline from a thread of its own until it is told to stop. As a source does,
/// it begins its stream anew when it was stopped.
class Feeder
{
public:
  Feeder (TextSource &source, uint64_t seed)
      : source_ (source)
      , random_ (seed)
      , thread_ ([this] { feed (); })
  {
  }
  ~Feeder ()
  {
    stopping_ = true;
    thread_.join ();
  }

  void flush ()
  {
    source_.send (gst_event_new_flush_start ());
    const std::lock_guard lock (pushing_); // a stream lock
    source_.send (gst_event_new_flush_stop (TRUE));
    begin ();
  }

private:
  void begin ()
  {
    GstSegment segment;
    gst_segment_init (&segment, GST_FORMAT_TIME);
    auto caps = Ref<GstCaps>::adopt (gst_caps_from_string (format_));
    source_.send (gst_event_new_stream_start ("feeder"));
    source_.send (gst_event_new_caps (caps.get ()));
    source_.send (gst_event_new_segment (&segment));
  }
  void feed ()
  {
    for (int i = 0; !stopping_; i++) {
      const std::lock_guard lock (pushing_);
      const GstClockTime now = static_cast<GstClockTime> (i) * GST_SECOND;
      switch (random_ () % 12) {
      case 0:
        source_.send (gst_event_new_gap (now, GST_SECOND));
        break;
      case 1: {
        GstSegment segment;
        gst_segment_init (&segment, GST_FORMAT_TIME);
        segment.start = segment.time = random_ () % 100 * GST_SECOND;
        source_.send (gst_event_new_segment (&segment));
        break;
      }
      case 2: {
        format_ = kFormats[random_ () % 3];
        auto caps = Ref<GstCaps>::adopt (gst_caps_from_string (format_));
        source_.send (gst_event_new_caps (caps.get ()));
        break;
      }
      default: {
        const bool json = format_ == kFormats[2];
        const GstFlowReturn flow = source_.push (
            json ? R"({"prompt":"import os","max_tokens":5})" : "a = 1; b = 2;", now, GST_SECOND);
        if (flow != GST_FLOW_OK) { // it flushes or is stopped; it will not be for long
          std::this_thread::yield ();
          begin ();
        }
      }
      }
    }
  }

  TextSource &source_;
  std::mt19937_64 random_;
  const char *format_ = kFormats[0];
  std::atomic<bool> stopping_ = false;
  std::mutex pushing_;
  std::thread thread_;
};

struct Answers {
  std::mutex mutex;
  std::condition_variable changed;
  int ended = 0;

  int now ()
  {
    const std::lock_guard lock (mutex);
    return ended;
  }
  void wait_for_more_than (int seen)
  {
    std::unique_lock lock (mutex);
    changed.wait (lock, [&] { return ended > seen; });
  }
};

GstElement *
random_drafter (std::mt19937_64 &random)
{
  switch (random () % 3) {
  case 0:
    return nullptr;
  case 1:
    return gst_element_factory_make ("llmngramdrafter", nullptr);
  default:
    return gst_parse_bin_from_description ("llmngramdrafter ! llmngramdrafter policy=ngram", TRUE, nullptr);
  }
}

void
count_answers (GstElement *pipeline, Answers &answers)
{
  auto out = Ref<GstElement>::adopt (gst_bin_get_by_name (GST_BIN (pipeline), "out"));
  g_signal_connect (out.get (), "handoff",
                    G_CALLBACK (+[] (GstElement *, GstBuffer *buffer, GstPad *, gpointer data) {
                      auto *into = static_cast<Answers *> (data);
                      if (!GST_BUFFER_FLAG_IS_SET (buffer, GST_BUFFER_FLAG_MARKER))
                        return;
                      const std::lock_guard lock (into->mutex);
                      into->ended++;
                      into->changed.notify_all ();
                    }),
                    &answers);
}

/// What may happen to any pipeline; `bin` may be null: there is no llmbin.
void
act (GstElement *pipeline, GstElement *bin, Answers &answers, std::mt19937_64 &random)
{
  switch (random () % 5) {
  case 0: {
    static constexpr GstState kStates[] = {GST_STATE_READY, GST_STATE_PAUSED, GST_STATE_PLAYING,
                                           GST_STATE_NULL};
    gst_element_set_state (pipeline, kStates[random () % 4]);
    break;
  }
  case 1:
    if (bin)
      g_object_set (bin, "drafter", random_drafter (random), nullptr);
    break;
  case 2: {
    auto query = Ref<GstQuery>::adopt (gst_query_new_latency ());
    gst_element_query (pipeline, query.get ());
    break;
  }
  case 3:
    for (const char *id : {"req-1", "1"})
      gst_element_send_event (bin ? bin : pipeline, millrace_event_new_cancel (id));
    break;
  default: {
    const int seen = answers.now ();
    gst_element_set_state (pipeline, GST_STATE_PLAYING);
    answers.wait_for_more_than (seen);
  }
  }
}

/// What a source sends in between.
GstEvent *
news (int cue)
{
  switch (cue % 5) {
  case 1:
    return gst_event_new_gap (static_cast<GstClockTime> (cue) * GST_SECOND, GST_SECOND);
  case 3: {
    auto caps = Ref<GstCaps>::adopt (gst_caps_from_string ("application/json"));
    gst_caps_set_simple (caps.get (), "cue", G_TYPE_INT, cue, nullptr);
    return gst_event_new_caps (caps.get ());
  }
  default:
    return nullptr;
  }
}

void
add_endless_source (GstElement *pipeline, const char *first)
{
  auto *source = add_cue_source (pipeline, first);
  source->count = 1 << 30;
  source->tokens = [] (int cue) { return 1 + cue % 7; };
  source->between = news;
}

/// With sources in the pipeline that are sought from here, whatever the state.
void
seek_sequence (GstElement *pipeline, GstElement *bin, Answers &answers, std::mt19937_64 &random,
               const std::string &name, Watchdog &watchdog)
{
  gst_element_set_state (pipeline, GST_STATE_PLAYING);
  for (size_t action = 0, count = 4 + random () % 12; action < count; action++) {
    watchdog.pat (name + ", seeks, action " + std::to_string (action));
    if (random () % 2)
      gst_element_seek_simple (pipeline, GST_FORMAT_TIME, GST_SEEK_FLAG_FLUSH,
                               static_cast<gint64> (random () % 1000) * GST_SECOND);
    else
      act (pipeline, bin, answers, random);
  }
  watchdog.pat (name + ", seeks: answers");
  const int before = answers.now ();
  gst_element_set_state (pipeline, GST_STATE_PLAYING);
  answers.wait_for_more_than (before);
  watchdog.pat (name + ", seeks: stops");
  gst_element_set_state (pipeline, GST_STATE_NULL);
}

void
two_sources (MillraceModel *model, uint64_t seed, Watchdog &watchdog)
{
  std::mt19937_64 random (seed);
  auto pipeline = Ref<GstElement>::adopt (gst_parse_launch (
      "llmprompt name=one ! llmtokenizer ! llmscheduler name=scheduler max-queued=3 ! llmverifier ! "
      "llmsampler ! "
      "llmdetokenizer format=whole ! fakesink name=out sync=false async=false signal-handoffs=true "
      "llmprompt name=two ! llmtokenizer ! scheduler.",
      nullptr));
  gst_object_ref_sink (pipeline.get ());
  auto context = Ref<GstContext>::adopt (millrace_model_to_context (model));
  gst_element_set_context (pipeline.get (), context.get ());
  Answers answers;
  count_answers (pipeline.get (), answers);
  for (const char *first : {"one", "two"})
    add_endless_source (pipeline.get (), first);
  seek_sequence (pipeline.get (), nullptr, answers, random, "two sources, seed " + std::to_string (seed),
                 watchdog);
}

void
one_sequence (MillraceModel *model, uint64_t seed, Watchdog &watchdog)
{
  std::mt19937_64 random (seed);
  const std::string name = "seed " + std::to_string (seed);
  auto pipeline = Ref<GstElement>::adopt (gst_parse_launch (
      "llmbin name=llm ! fakesink name=out sync=false async=false signal-handoffs=true", nullptr));
  gst_object_ref_sink (pipeline.get ());
  auto context = Ref<GstContext>::adopt (millrace_model_to_context (model));
  gst_element_set_context (pipeline.get (), context.get ());
  const auto find = [&] (const char *name) {
    return Ref<GstElement>::adopt (gst_bin_get_by_name (GST_BIN (pipeline.get ()), name));
  };
  auto bin = find ("llm");
  g_object_set (find ("prompt").get (), "max-tokens", 6, nullptr);
  gst_util_set_object_arg (G_OBJECT (find ("detokenizer").get ()), "format",
                           random () % 2 ? "whole" : "text");
  Answers answers;
  count_answers (pipeline.get (), answers);
  if (random () % 2) {
    add_endless_source (pipeline.get (), "llm");
    seek_sequence (pipeline.get (), bin.get (), answers, random, name, watchdog);
    return;
  }
  auto sink = Ref<GstPad>::adopt (gst_element_get_static_pad (bin.get (), "sink"));
  gst_element_set_state (pipeline.get (), GST_STATE_PLAYING);
  GstSegment segment;
  gst_segment_init (&segment, GST_FORMAT_TIME);
  TextSource source (sink.get (), kFormats[0], &segment);
  {
    Feeder feeder (source, random ());
    for (size_t action = 0, count = 4 + random () % 8; action < count; action++) {
      watchdog.pat (name + ", action " + std::to_string (action));
      if (random () % 6 == 0)
        feeder.flush ();
      else
        act (pipeline.get (), bin.get (), answers, random);
    }
    watchdog.pat (name + ": makes everything let go");
    gst_pad_push_event (source.pad (), gst_event_new_flush_start ());
  }
  // Whatever it went through, it still answers.
  watchdog.pat (name + ": answers");
  gst_element_set_state (pipeline.get (), GST_STATE_READY);
  gst_pad_push_event (source.pad (), gst_event_new_flush_stop (TRUE));
  const int before = answers.now ();
  gst_element_set_state (pipeline.get (), GST_STATE_PLAYING);
  auto caps = Ref<GstCaps>::adopt (gst_caps_from_string (kFormats[0]));
  source.send (gst_event_new_stream_start ("again"));
  source.send (gst_event_new_caps (caps.get ()));
  source.send (gst_event_new_segment (&segment));
  ASSERT_EQ (source.push ("import os", 0, GST_SECOND), GST_FLOW_OK) << name;
  answers.wait_for_more_than (before);
  gst_element_set_state (pipeline.get (), GST_STATE_NULL);
}

} // namespace

TEST (Sequences, NoneGetsStuckOrLeavesAnythingBehind)
{
  gst_init (nullptr, nullptr);
  auto model =
      Ref<MillraceModel>::adopt (millrace_model_open ("demo-draft", MILLRACE_WEIGHTS_AUTO, 2, nullptr));
  const guint before = G_OBJECT (model.get ())->ref_count;
  Watchdog watchdog (kPatience);
  std::mt19937_64 seeds (test_seed ());
  const int rounds = test_rounds (kSanitized ? 10 : 25);
  for (int round = 0; round < rounds && !::testing::Test::HasFatalFailure (); round++) {
    if (round % 4 == 3)
      two_sources (model.get (), seeds (), watchdog);
    else
      one_sequence (model.get (), seeds (), watchdog);
  }
  std::printf ("%d sequences\n", rounds);
  EXPECT_EQ (G_OBJECT (model.get ())->ref_count, before) << "a pipeline that has gone still holds the model";
}
