// labels: pipeline
// timeout: 300
// Drafters come and go while requests run: none is lost, and every byte stays the same.

#include "tests/pipeline_runner.hpp"

#include <millrace/millrace.h>

#include <condition_variable>
#include <functional>
#include <set>
#include <thread>

using namespace millrace;
using namespace millrace::testing;

namespace
{

constexpr int kRequests = kSanitized ? 12 : 24;

/// Requests in JSON Lines, with repetition for drafters to find, sampled and greedy.
std::string
requests ()
{
  static constexpr const char *kPrompts[] = {"a = 1; b = 2; c = 3;", "import os, sys\\nimport os",
                                             "def area(r):", "for i in range(3):\\n    print(i)\\nfor j in"};
  std::string lines;
  for (int i = 0; i < kRequests; i++)
    lines += R"({"id":"r)" + std::to_string (i) + R"(","prompt":")" + kPrompts[i % 4] + R"(","max_tokens":)" +
             std::to_string (16 + i % 5 * 8) + R"(,"ignore_eos":true,"seed":)" + std::to_string (i) +
             R"(,"temperature":)" + (i % 2 ? "0.7" : "0") + "}\n";
  return lines;
}

/// A pipeline that is given `requests ()`; `on_text` is called in the loop's thread for each buffer that leaves.
class Running
{
public:
  explicit Running (const std::string &middle)
  {
    gst_init (nullptr, nullptr);
    GError *error = nullptr;
    pipeline_ = Ref<GstElement>::adopt (gst_parse_launch (
        ("appsrc name=in ! " + middle + " ! fakesink name=out sync=false async=false signal-handoffs=true")
            .c_str (),
        &error));
    EXPECT_EQ (error, nullptr) << error->message;
    gst_object_ref_sink (pipeline_.get ());
    gst_util_set_object_arg (G_OBJECT (find ("prompt").get ()), "boundary", "jsonl");
    if (auto bin = find (
            "llm")) // not in the text: gst_parse_launch () of 1.22.0 leaks the child whose property it sets
      gst_child_proxy_set (GST_CHILD_PROXY (bin.get ()), "scheduler::max-batch", 6, nullptr);
    g_signal_connect (find ("out").get (), "handoff",
                      G_CALLBACK (+[] (GstElement *, GstBuffer *buffer, GstPad *, gpointer data) {
                        static_cast<Running *> (data)->take (buffer);
                      }),
                      this);
  }
  ~Running () { gst_element_set_state (pipeline_.get (), GST_STATE_NULL); }

  Ref<GstElement> find (const char *name) const
  {
    return Ref<GstElement>::adopt (gst_bin_get_by_name (GST_BIN (pipeline_.get ()), name));
  }
  GstElement *pipeline () const { return pipeline_.get (); }

  std::function<void (int)> on_text; ///< with how many have left before
  std::function<void (const GstStructure *)>
      on_request; ///< of the llm-request messages; in the caller's thread

  /// To the end: what each request has answered, whole.
  std::map<std::string, std::string> run ()
  {
    gst_element_set_state (pipeline_.get (), GST_STATE_PLAYING);
    const std::string lines = requests ();
    gst_app_src_push_buffer (GST_APP_SRC (find ("in").get ()),
                             gst_buffer_new_memdup (lines.data (), lines.size ()));
    gst_app_src_end_of_stream (GST_APP_SRC (find ("in").get ()));
    auto bus = Ref<GstBus>::adopt (gst_element_get_bus (pipeline_.get ()));
    for (bool ended = false; !ended;) {
      GstMessage *message = gst_bus_timed_pop (bus.get (), 240 * GST_SECOND);
      if (!message) {
        ADD_FAILURE () << "timed out";
        break;
      }
      ended =
          GST_MESSAGE_TYPE (message) == GST_MESSAGE_EOS || GST_MESSAGE_TYPE (message) == GST_MESSAGE_ERROR;
      EXPECT_NE (GST_MESSAGE_TYPE (message), GST_MESSAGE_ERROR) << error_of (message);
      EXPECT_NE (GST_MESSAGE_TYPE (message), GST_MESSAGE_WARNING) << error_of (message);
      if (GST_MESSAGE_TYPE (message) == GST_MESSAGE_ELEMENT && on_request &&
          gst_structure_has_name (gst_message_get_structure (message), "llm-request"))
        on_request (gst_message_get_structure (message));
      gst_message_unref (message);
    }
    return texts_;
  }

private:
  static std::string error_of (GstMessage *message)
  {
    GError *error = nullptr;
    if (GST_MESSAGE_TYPE (message) == GST_MESSAGE_ERROR)
      gst_message_parse_error (message, &error, nullptr);
    else if (GST_MESSAGE_TYPE (message) == GST_MESSAGE_WARNING)
      gst_message_parse_warning (message, &error, nullptr);
    else
      return {};
    std::string text = error->message;
    g_clear_error (&error);
    return text;
  }
  void take (GstBuffer *buffer)
  {
    const MappedBuffer mapped (buffer);
    const auto *meta = millrace_buffer_get_request_meta (buffer);
    texts_[millrace_request_get_id (meta->request)].append (mapped.chars (), mapped.size ());
    if (on_text)
      on_text (buffers_);
    buffers_++;
  }

  Ref<GstElement> pipeline_;
  std::map<std::string, std::string> texts_;
  int buffers_ = 0;
};

/// By request, so that a failure is small.
void
expect_same (const std::map<std::string, std::string> &texts,
             const std::map<std::string, std::string> &expected)
{
  EXPECT_EQ (texts.size (), expected.size ());
  for (const auto &[id, text] : texts)
    EXPECT_EQ (text, expected.at (id)) << id;
}

std::map<std::string, std::string>
undisturbed ()
{
  static const auto texts = [] {
    Running running ("llmbin name=llm model=demo-draft");
    g_object_set (running.find ("llm").get (), "drafter", nullptr, nullptr);
    return running.run ();
  }();
  EXPECT_EQ (texts.size (), static_cast<size_t> (kRequests));
  return texts;
}

/// The turn-th of: an n-gram drafter, none, a model that drafts, two in series. Floating.
GstElement *
drafter (int turn)
{
  switch (turn % 4) {
  case 0: {
    GstElement *element = gst_element_factory_make ("llmngramdrafter", nullptr);
    gst_util_set_object_arg (G_OBJECT (element), "gate", "none");
    return element;
  }
  case 1:
    return nullptr;
  case 2: {
    GstElement *element = gst_element_factory_make ("llmmodeldrafter", nullptr);
    gst_util_set_object_arg (G_OBJECT (element), "draft-model", "demo-draft");
    gst_util_set_object_arg (G_OBJECT (element), "gate", "none");
    return element;
  }
  default:
    return gst_parse_bin_from_description (
        "llmngramdrafter ! llmmodeldrafter draft-model=demo-draft gate=none", TRUE, nullptr);
  }
}

/// Sources whose guesses were verified, of all requests.
std::function<void (const GstStructure *)>
note_drafted (int &drafted)
{
  return [&drafted] (const GstStructure *request) {
    int tokens = 0;
    gst_structure_get_int (request, "drafted-tokens", &tokens);
    drafted += tokens;
  };
}

} // namespace

TEST (Relink, TheBinsDrafterIsExchangedFromTheLoopsOwnThread)
{
  const auto expected = undisturbed ();
  Running running ("llmbin name=llm model=demo-draft");
  auto bin = running.find ("llm");
  std::set<GstElement *> seen;
  int turn = 0, drafted = 0;
  running.on_text = [&] (int buffers) {
    if (buffers % 5 == 0)
      g_object_set (bin.get (), "drafter", drafter (turn++), nullptr);
  };
  running.on_request = note_drafted (drafted);
  expect_same (running.run (), expected);
  EXPECT_GT (turn, 10);
  EXPECT_GT (drafted, 50);
}

TEST (Relink, TheBinsDrafterIsExchangedFromOtherThreads)
{
  const auto expected = undisturbed ();
  Running running ("llmbin name=llm model=demo-draft");
  auto bin = running.find ("llm");
  std::mutex mutex;
  std::condition_variable changed;
  int texts = 0, exchanges = 0;
  bool over = false;
  running.on_text = [&] (int buffers) {
    const std::lock_guard lock (mutex);
    texts = buffers + 1;
    changed.notify_all ();
  };
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; t++) {
    threads.emplace_back ([&, t] {
      std::unique_lock lock (mutex);
      for (int turn = t, seen = 0; !over; turn++, exchanges++) {
        seen = texts;
        lock.unlock ();
        g_object_set (bin.get (), "drafter", drafter (turn), nullptr);
        lock.lock ();
        changed.wait (lock, [&] { return over || texts > seen; }); // requests are to move on too
      }
    });
  }
  expect_same (running.run (), expected);
  {
    const std::lock_guard lock (mutex);
    over = true;
    changed.notify_all ();
  }
  for (auto &thread : threads)
    thread.join ();
  std::printf ("%d exchanges\n", exchanges);
  EXPECT_GT (exchanges, 10);
  int children = 0;
  GstIterator *iterator = gst_bin_iterate_elements (GST_BIN (bin.get ()));
  GValue item = G_VALUE_INIT;
  for (; gst_iterator_next (iterator, &item) == GST_ITERATOR_OK; children++)
    g_value_unset (&item);
  gst_iterator_free (iterator);
  EXPECT_LE (children, 9) << "with one that waits for a step; drafters that were replaced have left the bin";
}

TEST (Relink, ElementsAreTakenOutAndPutInWithAPadProbe)
{
  const auto expected = undisturbed ();
  Running running (
      "llmprompt name=prompt ! llmtokenizer model=demo-draft ! llmscheduler max-batch=6 ! llmprefill "
      "name=prefill ! llmverifier name=verifier ! llmsampler ! llmdetokenizer");
  struct Relink {
    Running &running;
    int turn = 0;
    Ref<GstElement> present = {};
  } relink{running};
  auto pad = Ref<GstPad>::adopt (gst_element_get_static_pad (running.find ("prefill").get (), "src"));
  running.on_text = [&] (int buffers) {
    if (buffers % 7 != 0)
      return;
    gst_pad_add_probe (
        pad.get (), GST_PAD_PROBE_TYPE_IDLE,
        [] (GstPad *, GstPadProbeInfo *, gpointer data) {
          auto &[running, turn, present] = *static_cast<Relink *> (data);
          auto prefill = running.find ("prefill"), verifier = running.find ("verifier");
          if (present) {
            gst_element_unlink_many (prefill.get (), present.get (), verifier.get (), nullptr);
            gst_bin_remove (GST_BIN (running.pipeline ()), present.get ());
            gst_element_set_state (present.get (), GST_STATE_NULL);
            present = nullptr;
            EXPECT_TRUE (gst_element_link (prefill.get (), verifier.get ()));
          } else {
            present = Ref<GstElement>::share (drafter (turn++ * 2));
            gst_bin_add (GST_BIN (running.pipeline ()), present.get ());
            gst_element_unlink (prefill.get (), verifier.get ());
            EXPECT_TRUE (gst_element_link_many (prefill.get (), present.get (), verifier.get (), nullptr));
            EXPECT_TRUE (gst_element_sync_state_with_parent (present.get ()));
          }
          return GST_PAD_PROBE_REMOVE;
        },
        &relink, nullptr);
  };
  int drafted = 0;
  running.on_request = note_drafted (drafted);
  expect_same (running.run (), expected);
  EXPECT_GT (relink.turn, 5);
  EXPECT_GT (drafted, 20);
}

TEST (Relink, ADrafterIsChosenBeforeTheStartToo)
{
  for (const char *drafter : {"llmmodeldrafter", "\"llmngramdrafter ! llmmodeldrafter\""}) {
    Running running (std::string ("llmbin name=llm drafter=") + drafter);
    EXPECT_EQ (running.run ().size (), static_cast<size_t> (kRequests)) << drafter;
    GstElement *there = nullptr;
    g_object_get (running.find ("llm").get (), "drafter", &there, nullptr);
    ASSERT_NE (there, nullptr);
    EXPECT_EQ (GST_IS_BIN (there), drafter[0] == '"');
    gst_object_unref (there);
  }
}

TEST (Relink, WhatIsNoDrafterIsRefusedAndRequestsGoOn)
{
  gst_init (nullptr, nullptr);
  const auto sunk = [] (const char *name) {
    return Ref<GstElement>::adopt (
        static_cast<GstElement *> (gst_object_ref_sink (gst_element_factory_make (name, nullptr))));
  };
  const auto bin = sunk ("llmbin"), other = sunk ("llmtokenizer");
  g_object_set (bin.get (), "drafter", other.get (), nullptr);
  GstElement *there = nullptr;
  g_object_get (bin.get (), "drafter", &there, nullptr);
  EXPECT_EQ (there, nullptr);
  auto prefill = Ref<GstElement>::adopt (gst_bin_get_by_name (GST_BIN (bin.get ()), "prefill"));
  auto pad = Ref<GstPad>::adopt (gst_element_get_static_pad (prefill.get (), "src"));
  EXPECT_TRUE (gst_pad_is_linked (pad.get ()));
}

TEST (Relink, ADrafterThatStartsBeforeItIsLinkedGetsTheBinsModel)
{
  gst_init (nullptr, nullptr);
  auto pipeline = Ref<GstElement>::adopt (
      gst_parse_launch ("fakesrc ! llmbin name=llm model=demo-draft ! fakesink", nullptr));
  gst_object_ref_sink (pipeline.get ());
  auto bin = Ref<GstElement>::adopt (gst_bin_get_by_name (GST_BIN (pipeline.get ()), "llm"));
  GstElement *loose = gst_element_factory_make ("llmngramdrafter", "loose");
  gst_bin_add (GST_BIN (bin.get ()), loose);
  ASSERT_EQ (gst_element_set_state (loose, GST_STATE_READY), GST_STATE_CHANGE_SUCCESS);
  ASSERT_EQ (gst_element_set_state (pipeline.get (), GST_STATE_READY), GST_STATE_CHANGE_SUCCESS);
  auto bus = Ref<GstBus>::adopt (gst_element_get_bus (pipeline.get ()));
  int opened = 0;
  while (GstMessage *message = gst_bus_pop_filtered (bus.get (), GST_MESSAGE_HAVE_CONTEXT)) {
    GstContext *context = nullptr;
    gst_message_parse_have_context (message, &context);
    auto model = Ref<MillraceModel>::adopt (millrace_model_from_context (context));
    EXPECT_TRUE (g_str_has_suffix (millrace_model_get_path (model.get ()), "demo-draft"));
    opened++;
    gst_context_unref (context);
    gst_message_unref (message);
  }
  EXPECT_EQ (opened, 1);
  gst_element_set_state (pipeline.get (), GST_STATE_NULL);
}
