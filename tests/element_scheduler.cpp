// labels: element
// The scheduler element around a model that computes nothing: states, flushes, EOS, cancels, several inputs.

#include "library/meta.hpp"
#include "library/model.hpp"
#include "library/request.hpp"
#include "tests/fake_model.hpp"
#include "tests/pipeline_runner.hpp"
#include "tests/test_paths.hpp"

#include <gst/check/gstharness.h>
#include <millrace/millrace.h>

#include <chrono>
#include <ctime>
#include <future>
#include <map>
#include <thread>

using namespace millrace;
using namespace millrace::testing;

namespace
{

/// `sink_0 → llmscheduler ! llmverifier ! llmsampler`, in a harness, over a fake model.
class Loop
{
public:
  explicit Loop (const char *scheduler = "", const FakeOptions &options = {})
  {
    gst_init (nullptr, nullptr);
    const std::string text =
        std::string ("llmscheduler name=scheduler ") + scheduler + " ! llmverifier ! llmsampler name=sampler";
    bin_ = gst_parse_bin_from_description (text.c_str (), FALSE, nullptr);
    scheduler_ = gst_bin_get_by_name (GST_BIN (bin_), "scheduler");
    GstElement *sampler = gst_bin_get_by_name (GST_BIN (bin_), "sampler");
    add_sink ("sink");
    GstPad *src = gst_element_get_static_pad (sampler, "src");
    gst_element_add_pad (bin_, gst_ghost_pad_new ("src", src));
    gst_object_unref (src);
    gst_object_unref (sampler);

    auto model = Ref<MillraceModel>::adopt (wrap_model (fake_model (options)));
    auto context = Ref<GstContext>::adopt (millrace_model_to_context (model.get ()));
    gst_element_set_context (bin_, context.get ());
    harness_ = gst_harness_new_with_element (bin_, "sink", "src");
    gst_harness_set_src_caps_str (harness_, "application/x-llm-tokens");
  }
  ~Loop ()
  {
    gst_harness_teardown (harness_);
    gst_object_unref (scheduler_);
    gst_object_unref (bin_);
  }

  void add_sink (const char *name)
  {
    GstPad *pad = gst_element_request_pad_simple (scheduler_, "sink_%u");
    GstPad *ghost = gst_ghost_pad_new (name, pad);
    gst_pad_set_active (ghost, TRUE);
    gst_element_add_pad (bin_, ghost);
    gst_object_unref (pad);
  }

  Ref<MillraceRequest> push (const char *id, int max_tokens, std::vector<TokenId> prompt = {1, 2, 3})
  {
    auto request = Ref<MillraceRequest>::adopt (millrace_request_new ());
    engine_request (request.get ()).id = id;
    engine_request (request.get ()).sampling.max_tokens = max_tokens;
    GstBuffer *buffer = new_token_buffer (prompt);
    millrace_buffer_add_request_meta (buffer, request.get (), nullptr);
    EXPECT_EQ (gst_harness_push (harness_, buffer), GST_FLOW_OK);
    return request;
  }

  /// Pulls until each of `count` requests has ended.
  std::map<std::string, std::string> endings (int count)
  {
    std::map<std::string, std::string> reasons;
    while (static_cast<int> (reasons.size ()) < count) {
      auto buffer = Ref<GstBuffer>::adopt (gst_harness_pull (harness_));
      if (!buffer) {
        ADD_FAILURE () << "nothing came for 60 s";
        break;
      }
      const auto *meta = millrace_buffer_get_request_meta (buffer.get ());
      if (meta->finish)
        reasons[millrace_request_get_id (meta->request)] = meta->finish;
    }
    return reasons;
  }

  int stat (const char *field)
  {
    GstStructure *structure = nullptr;
    g_object_get (scheduler_, "stats", &structure, nullptr);
    int value = -1;
    gst_structure_get_int (structure, field, &value);
    gst_structure_free (structure);
    return value;
  }

  GstHarness *harness () { return harness_; }
  GstElement *scheduler () { return scheduler_; }
  GstElement *bin () { return bin_; }

private:
  GstElement *bin_ = nullptr, *scheduler_ = nullptr;
  GstHarness *harness_ = nullptr;
};

using Endings = std::map<std::string, std::string>;

void
wait_for_eos (GstHarness *harness)
{
  for (;;) {
    GstEvent *event = gst_harness_pull_event (harness);
    ASSERT_NE (event, nullptr) << "no EOS";
    const bool eos = GST_EVENT_TYPE (event) == GST_EVENT_EOS;
    gst_event_unref (event);
    if (eos)
      return;
  }
}

} // namespace

TEST (SchedulerElement, EosDrainsWhatIsUnderWay)
{
  Loop loop ("max-batch=2");
  for (const char *id : {"a", "b", "c", "d"})
    loop.push (id, 20);
  gst_harness_push_event (loop.harness (), gst_event_new_eos ());
  EXPECT_EQ (loop.endings (4), (Endings{{"a", "length"}, {"b", "length"}, {"c", "length"}, {"d", "length"}}));
  wait_for_eos (loop.harness ());
  EXPECT_EQ (loop.stat ("kv-blocks-used"), 0);
  EXPECT_EQ (loop.stat ("running"), 0);
}

TEST (SchedulerElement, EosWaitsForAllInputs)
{
  Loop loop;
  loop.add_sink ("second");
  GstPad *second = gst_element_get_static_pad (loop.bin (), "second");
  gst_pad_send_event (second, gst_event_new_stream_start ("second"));
  auto caps = Ref<GstCaps>::adopt (gst_caps_from_string ("application/x-llm-tokens"));
  gst_pad_send_event (second, gst_event_new_caps (caps.get ()));
  GstSegment segment;
  gst_segment_init (&segment, GST_FORMAT_TIME);
  gst_pad_send_event (second, gst_event_new_segment (&segment));

  gst_harness_push_event (loop.harness (), gst_event_new_eos ());
  const TokenId prompt[] = {4, 5};
  EXPECT_EQ (gst_pad_chain (second, new_token_buffer (prompt)), GST_FLOW_OK)
      << "the other input is still open";
  gst_pad_send_event (second, gst_event_new_eos ());
  EXPECT_EQ (loop.endings (1).begin ()->second, "length");
  wait_for_eos (loop.harness ());
  gst_object_unref (second);
}

TEST (SchedulerElement, AStreamBehindEosIsTakenAndHasAnEosOfItsOwn)
{
  Loop loop;
  for (int round = 0; round < 20; round++) {
    loop.push ("a", 5);
    loop.push ("b", 2);
    GstEvent *eos = gst_event_new_eos ();
    const guint32 seqnum = gst_event_get_seqnum (eos);
    gst_harness_push_event (loop.harness (), eos);
    EXPECT_EQ (loop.endings (2), (Endings{{"a", "length"}, {"b", "length"}}));
    bool started = false;
    for (bool ended = false; !ended;) {
      auto event = Ref<GstEvent>::adopt (gst_harness_pull_event (loop.harness ()));
      ASSERT_TRUE (event) << "no EOS";
      started |= GST_EVENT_TYPE (event.get ()) == GST_EVENT_STREAM_START;
      ended = GST_EVENT_TYPE (event.get ()) == GST_EVENT_EOS;
      if (ended) {
        EXPECT_EQ (gst_event_get_seqnum (event.get ()), seqnum);
      }
    }
    EXPECT_TRUE (started) << "a sink takes nothing behind EOS but a new stream";
    gst_harness_push_event (loop.harness (), gst_event_new_stream_start (std::to_string (round).c_str ()));
    auto caps = Ref<GstCaps>::adopt (gst_caps_from_string ("application/x-llm-tokens"));
    gst_harness_push_event (loop.harness (), gst_event_new_caps (caps.get ()));
    GstSegment segment;
    gst_segment_init (&segment, GST_FORMAT_TIME);
    gst_harness_push_event (loop.harness (), gst_event_new_segment (&segment));
  }
}

TEST (SchedulerElement, ACancelEventFromEitherSideEndsTheRequest)
{
  Loop loop ("", {.max_positions = 100'000});
  auto up = loop.push ("up", 0), down = loop.push ("down", 0), action = loop.push ("action", 0),
       direct = loop.push ("direct", 0);
  gst_harness_push_upstream_event (loop.harness (), millrace_event_new_cancel ("up"));
  gst_harness_push_event (loop.harness (), millrace_event_new_cancel ("down"));
  g_signal_emit_by_name (loop.scheduler (), "cancel", "action");
  g_signal_emit_by_name (loop.scheduler (), "cancel", "unknown");
  millrace_request_cancel (direct.get ());
  EXPECT_EQ (
      loop.endings (4),
      (Endings{
          {"up", "cancelled"}, {"down", "cancelled"}, {"action", "cancelled"}, {"direct", "cancelled"}}));
  loop.push ("after", 3);
  EXPECT_EQ (loop.endings (1), (Endings{{"after", "length"}}));
  // The last buffer leaves before its step is committed; EOS comes after.
  gst_harness_push_event (loop.harness (), gst_event_new_eos ());
  wait_for_eos (loop.harness ());
  EXPECT_EQ (loop.stat ("kv-blocks-used"), 0);
}

TEST (SchedulerElement, AFlushDropsAllWorkAndFreesKv)
{
  Loop loop ("", {.max_positions = 100'000});
  for (int round = 0; round < 20; round++) {
    loop.push ("a", 0);
    loop.push ("b", 0);
    auto first = Ref<GstBuffer>::adopt (gst_harness_pull (loop.harness ()));
    ASSERT_TRUE (first);
    gst_harness_push_event (loop.harness (), gst_event_new_flush_start ());
    gst_harness_push_event (loop.harness (), gst_event_new_flush_stop (TRUE));
    EXPECT_EQ (loop.stat ("kv-blocks-used"), 0);
    EXPECT_EQ (loop.stat ("queued"), 0);
    while (GstBuffer *stale = gst_harness_try_pull (loop.harness ()))
      gst_buffer_unref (stale);
    GstSegment segment;
    gst_segment_init (&segment, GST_FORMAT_TIME);
    gst_harness_push_event (loop.harness (), gst_event_new_segment (&segment));
    loop.push ("after", 3);
    EXPECT_EQ (loop.endings (1), (Endings{{"after", "length"}}));
  }
}

TEST (SchedulerElement, ReadyDropsAllWorkAndItStartsAgain)
{
  Loop loop ("", {.max_positions = 100'000});
  for (int round = 0; round < 20; round++) {
    loop.push ("endless", 0);
    auto first = Ref<GstBuffer>::adopt (gst_harness_pull (loop.harness ()));
    ASSERT_TRUE (first);
    ASSERT_EQ (gst_element_set_state (loop.bin (), GST_STATE_READY), GST_STATE_CHANGE_SUCCESS);
    EXPECT_EQ (loop.stat ("running"), 0);
    EXPECT_EQ (loop.stat ("kv-blocks-used"), 0);
    ASSERT_NE (gst_element_set_state (loop.bin (), GST_STATE_PLAYING), GST_STATE_CHANGE_FAILURE);
    gst_harness_set_src_caps_str (loop.harness (), "application/x-llm-tokens");
    while (GstBuffer *stale = gst_harness_try_pull (loop.harness ()))
      gst_buffer_unref (stale);
  }
}

namespace
{

GstEvent *
new_hold_event (const char *id, bool held)
{
  return gst_event_new_custom (GST_EVENT_CUSTOM_BOTH_OOB,
                               gst_structure_new ("LlmHold", "id", G_TYPE_STRING, id, "held", G_TYPE_BOOLEAN,
                                                  gboolean{held}, nullptr));
}

/// Takes out what has come.
int
drain (GstHarness *harness)
{
  int count = 0;
  while (GstBuffer *buffer = gst_harness_try_pull (harness)) {
    gst_buffer_unref (buffer);
    count++;
  }
  return count;
}

void
sleep_ms (int milliseconds)
{
  std::this_thread::sleep_for (std::chrono::milliseconds (milliseconds));
}

/// Until the step under way is over and nothing more comes.
void
settle_down (GstHarness *harness)
{
  do
    sleep_ms (20);
  while (drain (harness) > 0);
}

} // namespace

TEST (SchedulerElement, AHeldRequestWaitsWithoutSpinningAndGoesOn)
{
  Loop loop ("", {.max_positions = 100'000});
  auto request = loop.push ("slow", 0);
  auto first = Ref<GstBuffer>::adopt (gst_harness_pull (loop.harness ()));
  gst_harness_push_event (loop.harness (), new_hold_event ("unknown", true));
  for (const bool from_below : {true, false}) {
    const auto send = [&] (bool held) {
      if (from_below)
        gst_harness_push_upstream_event (loop.harness (), new_hold_event ("slow", held));
      else
        gst_harness_push_event (loop.harness (), new_hold_event ("slow", held));
    };
    send (true);
    settle_down (loop.harness ());
    const std::clock_t began = std::clock (); // of the process
    sleep_ms (400);
    EXPECT_LT (std::clock () - began, CLOCKS_PER_SEC / 8) << "the loop spins";
    EXPECT_EQ (drain (loop.harness ()), 0);
    EXPECT_EQ (loop.stat ("running"), 1);

    loop.push ("beside", 3);
    EXPECT_EQ (loop.endings (1), (Endings{{"beside", "length"}})) << "a newcomer wakes the loop";
    send (false);
    auto next = Ref<GstBuffer>::adopt (gst_harness_pull (loop.harness ()));
    ASSERT_TRUE (next);
    EXPECT_STREQ (millrace_request_get_id (millrace_buffer_get_request_meta (next.get ())->request), "slow");
  }
  millrace_request_cancel (request.get ());
  EXPECT_EQ (loop.endings (1), (Endings{{"slow", "cancelled"}}));
}

TEST (SchedulerElement, AHeldRequestEndsByCancelAndEosWaitsForIt)
{
  Loop loop ("", {.max_positions = 100'000});
  auto by_id = loop.push ("by-id", 0), direct = loop.push ("direct", 0), last = loop.push ("last", 2000);
  auto first = Ref<GstBuffer>::adopt (gst_harness_pull (loop.harness ()));
  for (const char *id : {"by-id", "direct", "last"})
    gst_harness_push_event (loop.harness (), new_hold_event (id, true));
  settle_down (loop.harness ());
  gst_harness_push_event (loop.harness (), gst_event_new_eos ());
  g_signal_emit_by_name (loop.scheduler (), "cancel", "by-id");
  EXPECT_EQ (loop.endings (1), (Endings{{"by-id", "cancelled"}}));
  millrace_request_cancel (direct.get ()); // which tells nobody
  EXPECT_EQ (loop.endings (1), (Endings{{"direct", "cancelled"}}));
  sleep_ms (50);
  EXPECT_EQ (drain (loop.harness ()), 0);
  gst_harness_push_event (loop.harness (), new_hold_event ("last", false));
  EXPECT_EQ (loop.endings (1), (Endings{{"last", "length"}}));
  wait_for_eos (loop.harness ());
  EXPECT_EQ (loop.stat ("kv-blocks-used"), 0);
}

TEST (SchedulerElement, ADeadlineEndsARequestThatIsHeld)
{
  Loop loop ("", {.max_positions = 100'000});
  int64_t soonest_us = INT64_MAX; // the machine may be busy elsewhere
  for (int round = 0; round < 5; round++) {
    auto request = Ref<MillraceRequest>::adopt (millrace_request_new ());
    engine_request (request.get ()).id = "timed";
    engine_request (request.get ()).held = true; // before it starts
    engine_request (request.get ()).timeout_us = 30'000;
    const TokenId prompt[] = {1, 2};
    GstBuffer *buffer = new_token_buffer (prompt);
    millrace_buffer_add_request_meta (buffer, request.get (), nullptr);
    ASSERT_EQ (gst_harness_push (loop.harness (), buffer), GST_FLOW_OK);
    EXPECT_EQ (loop.endings (1), (Endings{{"timed", "timeout"}}));
    soonest_us = std::min (soonest_us, engine_request (request.get ()).statistics.total_us);
  }
  EXPECT_LT (soonest_us, 90'000) << "woken for it, not by looking again";
}

TEST (SchedulerElement, AStopReleasesALoopThatWaitsForAHeldRequest)
{
  Loop loop ("", {.max_positions = 100'000});
  for (int round = 0; round < 5; round++) {
    loop.push ("held", 0);
    auto first = Ref<GstBuffer>::adopt (gst_harness_pull (loop.harness ()));
    gst_harness_push_event (loop.harness (), new_hold_event ("held", true));
    settle_down (loop.harness ());
    ASSERT_EQ (gst_element_set_state (loop.bin (), GST_STATE_READY), GST_STATE_CHANGE_SUCCESS);
    EXPECT_EQ (loop.stat ("kv-blocks-used"), 0);
    ASSERT_NE (gst_element_set_state (loop.bin (), GST_STATE_PLAYING), GST_STATE_CHANGE_FAILURE);
    gst_harness_set_src_caps_str (loop.harness (), "application/x-llm-tokens");
    drain (loop.harness ());
  }
}

TEST (SchedulerElement, WhoHearsThatADroppedRequestIsGoneMayAskTheElement)
{
  Loop loop;
  // The loop stays in its first push, so that the next request stays in the queue, which alone has it.
  std::promise<void> pushed;
  GstPad *src = gst_element_get_static_pad (loop.scheduler (), "src");
  gst_pad_add_probe (
      src, static_cast<GstPadProbeType> (GST_PAD_PROBE_TYPE_BLOCK | GST_PAD_PROBE_TYPE_BUFFER),
      [] (GstPad *, GstPadProbeInfo *, gpointer data) {
        static_cast<std::promise<void> *> (data)->set_value ();
        return GST_PAD_PROBE_OK;
      },
      &pushed, nullptr);
  loop.push ("first", 1);
  pushed.get_future ().wait ();
  struct Seen {
    Loop &loop;
    int running = -1;
  } seen{loop};
  g_object_weak_ref (
      G_OBJECT (loop.push ("second", 1).get ()),
      [] (gpointer data, GObject *) {
        auto *seen = static_cast<Seen *> (data);
        seen->running = seen->loop.stat ("running");
      },
      &seen);
  EXPECT_EQ (seen.running, -1);
  ASSERT_EQ (gst_element_set_state (loop.bin (), GST_STATE_READY), GST_STATE_CHANGE_SUCCESS);
  EXPECT_EQ (seen.running, 0);
  gst_object_unref (src);
}

// Whoever hands it over knows at once, even while others wait for room.
TEST (SchedulerElement, WhatCanNeverRunHasItsErrorWhenThePushReturns)
{
  Loop loop ("max-queued=1 max-batch=1", {.max_positions = 100'000});
  auto running = loop.push ("running", 0);
  auto first = Ref<GstBuffer>::adopt (gst_harness_pull (loop.harness ()));
  auto waiting = loop.push ("waiting", 1);
  const auto too_long = loop.push ("too-long", 1, std::vector<TokenId> (100'000, 1)),
             unknown = loop.push ("unknown", 1, {1, 64});
  EXPECT_STREQ (engine_request (too_long.get ()).error.code, "context_length_exceeded");
  EXPECT_EQ (engine_request (too_long.get ()).error.message,
             "the prompt has 100000 tokens; this model's context holds 100000, at least one of them for the "
             "answer");
  EXPECT_EQ (engine_request (unknown.get ()).error.field, "tokens");
  millrace_request_cancel (running.get ());
  EXPECT_EQ (
      loop.endings (4),
      (Endings{
          {"running", "cancelled"}, {"waiting", "length"}, {"too-long", "error"}, {"unknown", "error"}}));
}

TEST (SchedulerElement, AFullQueueHoldsBackTheSourceAndLetsGoAtAStop)
{
  Loop loop ("max-queued=2 max-batch=1", {.max_positions = 100'000});
  loop.push ("running", 0);
  auto first = Ref<GstBuffer>::adopt (gst_harness_pull (loop.harness ()));
  loop.push ("queued-1", 1);
  loop.push ("queued-2", 1);
  GstFlowReturn flow = GST_FLOW_OK;
  std::thread blocked ([&] {
    const TokenId prompt[] = {1};
    flow = gst_harness_push (loop.harness (), new_token_buffer (prompt));
  });
  // Whether the push already waits or is about to, stopping must release it.
  gst_element_set_state (loop.bin (), GST_STATE_READY);
  blocked.join ();
  EXPECT_EQ (flow, GST_FLOW_FLUSHING);
}

TEST (SchedulerElement, AnotherVocabularyIsRefused)
{
  Loop loop;
  auto caps =
      Ref<GstCaps>::adopt (gst_caps_from_string ("application/x-llm-tokens, vocab=(string)0123456789abcdef"));
  gst_harness_push_event (loop.harness (), gst_event_new_caps (caps.get ()));
  const TokenId prompt[] = {1};
  EXPECT_EQ (gst_harness_push (loop.harness (), new_token_buffer (prompt)), GST_FLOW_NOT_NEGOTIATED);
}

TEST (SchedulerElement, AFailedRequestPassesThroughWithItsError)
{
  Loop loop;
  auto request = loop.push ("empty", 3, {});
  EXPECT_EQ (loop.endings (1), (Endings{{"empty", "error"}}));
  GError *error = nullptr;
  EXPECT_FALSE (millrace_request_get_error (request.get (), &error));
  EXPECT_TRUE (g_error_matches (error, MILLRACE_ERROR, MILLRACE_ERROR_INVALID_REQUEST)) << error->message;
  g_clear_error (&error);
}

namespace
{

/// The field of a statistics structure, or of its "last-step".
guint64
unsigned_stat (GstElement *scheduler, const char *field)
{
  GstStructure *structure = nullptr;
  g_object_get (scheduler, "stats", &structure, nullptr);
  guint64 value = G_MAXUINT64;
  gst_structure_get_uint64 (structure, field, &value);
  gst_structure_free (structure);
  return value;
}

} // namespace

TEST (SchedulerElement, AFullQueueMayRejectWithAHintWhenToTryAgain)
{
  Loop loop ("max-queued=2 max-batch=1 when-full=reject", {.max_positions = 100'000});
  auto running = loop.push ("running", 0);
  auto first = Ref<GstBuffer>::adopt (gst_harness_pull (loop.harness ()));
  std::vector<Ref<MillraceRequest>> others;
  for (int i = 0; i < 6; i++)
    others.push_back (loop.push (("other-" + std::to_string (i)).c_str (), 1));
  const auto endings = loop.endings (4); // of those six, two wait
  int rejected = 0;
  for (const auto &[id, reason] : endings)
    rejected += reason == "error";
  EXPECT_EQ (rejected, 4);
  for (const auto &request : others) {
    const Request &engine = engine_request (request.get ());
    if (engine.error) {
      EXPECT_STREQ (engine.error.code, "queue_full");
      EXPECT_NE (engine.error.message.find ("2 requests wait"), std::string::npos) << engine.error.message;
      EXPECT_GE (engine.retry_after_ms, 1000);
    }
  }
  EXPECT_EQ (unsigned_stat (loop.scheduler (), "rejected"), 4u);
  millrace_request_cancel (running.get ());
  EXPECT_EQ (loop.endings (3).at ("running"), "cancelled");
}

TEST (SchedulerElement, ATimeoutEndsARequestThatRunsOrWaits)
{
  Loop loop ("max-batch=1", {.max_positions = 100'000});
  for (const char *id : {"running", "waiting"}) {
    auto request = Ref<MillraceRequest>::adopt (millrace_request_new ());
    engine_request (request.get ()).id = id;
    engine_request (request.get ()).sampling.max_tokens = 0;
    engine_request (request.get ()).timeout_us = 20'000;
    const TokenId prompt[] = {1, 2};
    GstBuffer *buffer = new_token_buffer (prompt);
    millrace_buffer_add_request_meta (buffer, request.get (), nullptr);
    ASSERT_EQ (gst_harness_push (loop.harness (), buffer), GST_FLOW_OK);
  }
  EXPECT_EQ (loop.endings (2), (Endings{{"running", "timeout"}, {"waiting", "timeout"}}));
}

TEST (SchedulerElement, StepsAndRequestsAreReported)
{
  Loop loop ("stats-interval=0");
  auto bus = Ref<GstBus>::adopt (gst_bus_new ());
  gst_element_set_bus (loop.scheduler (), bus.get ());
  std::vector<TokenId> prompt (40, 5);
  loop.push ("first", 4, prompt);
  loop.endings (1);
  loop.push ("second", 4, prompt);
  loop.endings (1);
  gst_harness_push_event (loop.harness (), gst_event_new_eos ());
  wait_for_eos (loop.harness ());

  int steps = 0, requests = 0;
  while (GstMessage *message = gst_bus_pop (bus.get ())) {
    const GstStructure *structure = gst_message_get_structure (message);
    if (structure && gst_structure_has_name (structure, "llm-step")) {
      steps++;
      const GstStructure *last = nullptr, *stages = nullptr;
      ASSERT_TRUE (gst_structure_get (structure, "last-step", GST_TYPE_STRUCTURE, &last, nullptr));
      int rows = 0;
      EXPECT_TRUE (gst_structure_get_int (last, "rows", &rows));
      EXPECT_EQ (rows, 1);
      ASSERT_TRUE (gst_structure_get (last, "stages", GST_TYPE_STRUCTURE, &stages, nullptr));
      EXPECT_TRUE (gst_structure_has_field (stages, "sampler"));
      gst_structure_free (const_cast<GstStructure *> (stages));
      gst_structure_free (const_cast<GstStructure *> (last));
    } else if (structure && gst_structure_has_name (structure, "llm-request")) {
      requests++;
      int cached = -1;
      EXPECT_TRUE (gst_structure_get_int (structure, "cached-tokens", &cached));
      EXPECT_EQ (cached, requests == 1 ? 0 : 39) << "all but the last token of a prompt seen before";
    }
    gst_message_unref (message);
  }
  EXPECT_EQ (requests, 2);
  EXPECT_GE (steps, 8);
  EXPECT_EQ (unsigned_stat (loop.scheduler (), "steps"), static_cast<guint64> (steps));
  EXPECT_EQ (unsigned_stat (loop.scheduler (), "prefix-hit-tokens"), 39u);
  EXPECT_GT (loop.stat ("kv-blocks-cached"), 0);
  gst_element_set_bus (loop.scheduler (), nullptr);
}

TEST (SchedulerElement, TheCacheFolderOutlivesThePipeline)
{
  TemporaryFolder folder;
  const std::string properties = "cache-directory=" + folder.path ().string ();
  const std::vector<TokenId> prompt (100, 5);
  for (const guint64 expected : {0, 96}) {
    Loop loop (properties.c_str ());
    loop.push ("a", 4, prompt);
    loop.endings (1);
    gst_harness_push_event (loop.harness (), gst_event_new_eos ());
    wait_for_eos (loop.harness ());
    EXPECT_EQ (unsigned_stat (loop.scheduler (), "disk-hit-tokens"), expected);
  }
  // A folder that cannot be made is an error with its name, not a crash.
  gst_init (nullptr, nullptr);
  const auto result = run_pipeline ("llmbin scheduler::cache-directory=/proc/nowhere", {"x"});
  EXPECT_NE (result.error.find ("/proc/nowhere"), std::string::npos) << result.error;
}
