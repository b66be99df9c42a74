// labels: library
// timeout: 300
// A GLib application that generates: streams, whole texts, embeddings, from one main loop.

#include "tests/library_harness.hpp"

#include "library/model.hpp"
#include "library/model_pipeline.hpp"
#include "library/request.hpp"

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

using namespace millrace::testing;
using millrace::Ref;

namespace
{

/// Whole texts, one after another: what streams are compared with.
std::string
generate (MillraceGenerator *generator, MillraceRequest *request)
{
  Problem problem;
  char *text = millrace_generator_generate (generator, request, nullptr, problem.out ());
  EXPECT_TRUE (text) << problem.message ();
  return take_string (text);
}

Ref<MillraceStream>
start (MillraceGenerator *generator, MillraceRequest *request, GCancellable *cancellable = nullptr)
{
  Problem problem;
  auto stream = Ref<MillraceStream>::adopt (
      millrace_generator_stream (generator, request, cancellable, problem.out ()));
  EXPECT_TRUE (stream) << problem.message ();
  return stream;
}

int
integer (GVariant *dict, const char *name)
{
  int value = -1;
  g_variant_lookup (dict, name, "i", &value);
  return value;
}

} // namespace

TEST (LibraryStreams, all_ways_to_read_give_the_same_text)
{
  const auto generator = new_generator ();
  const auto request = new_request ("def fibonacci(n):", 24);
  const std::string expected = generate (generator.get (), request.get ());
  EXPECT_GT (expected.size (), 20u);

  Problem problem;
  EXPECT_EQ (read_all (start (generator.get (), request.get ()).get (), problem.out ()), expected);
  EXPECT_FALSE (problem) << problem.message ();

  std::string blocking;
  const auto blocked = start (generator.get (), request.get ());
  while (char *text = millrace_stream_next (blocked.get (), nullptr, problem.out ()))
    blocking += take_string (text);
  EXPECT_EQ (blocking, expected);
  EXPECT_EQ (millrace_stream_get_finish_reason (blocked.get ()), MILLRACE_FINISH_REASON_LENGTH);

  struct Heard {
    std::string text;
    MillraceFinishReason reason = MILLRACE_FINISH_REASON_NONE;
  } heard;
  const auto signalled = start (generator.get (), request.get ());
  g_signal_connect (signalled.get (), "text",
                    G_CALLBACK (+[] (MillraceStream *, const char *text, gpointer data) {
                      static_cast<Heard *> (data)->text += text;
                    }),
                    &heard);
  g_signal_connect (signalled.get (), "finished",
                    G_CALLBACK (+[] (MillraceStream *, MillraceFinishReason reason, gpointer data) {
                      static_cast<Heard *> (data)->reason = reason;
                    }),
                    &heard);
  run_until ([&] { return heard.reason != MILLRACE_FINISH_REASON_NONE; });
  EXPECT_EQ (heard.text, expected);
  EXPECT_EQ (heard.reason, MILLRACE_FINISH_REASON_LENGTH);

  Answer answer;
  millrace_generator_generate_async (generator.get (), request.get (), nullptr, Answer::callback (), &answer);
  EXPECT_EQ (
      take_string (millrace_generator_generate_finish (generator.get (), answer.result (), problem.out ())),
      expected);

  GVariant *statistics = millrace_stream_get_statistics (signalled.get ());
  EXPECT_EQ (integer (statistics, "completion-tokens"), 24);
  EXPECT_GT (integer (statistics, "prompt-tokens"), 3);
  double first = 0, total = 0;
  EXPECT_TRUE (g_variant_lookup (statistics, "first-text-ms", "d", &first));
  EXPECT_TRUE (g_variant_lookup (statistics, "total-ms", "d", &total));
  EXPECT_LE (first, total);
  g_variant_unref (statistics);
  millrace_generator_close (generator.get ());
}

TEST (LibraryStreams, the_pipeline_is_what_gst_launch_would_run)
{
  const auto generator = new_generator ();
  auto pipeline = Ref<GstElement>::adopt (millrace_generator_get_pipeline (generator.get (), nullptr));
  ASSERT_TRUE (pipeline);
  for (const char *name : {"source", "llm", "prompt", "scheduler", "sampler", "output", "sink"}) {
    auto element = Ref<GstElement>::adopt (gst_bin_get_by_name (GST_BIN (pipeline.get ()), name));
    EXPECT_TRUE (element) << name;
  }
  // A property of its elements is the default of requests that do not say.
  auto prompt = Ref<GstElement>::adopt (gst_bin_get_by_name (GST_BIN (pipeline.get ()), "prompt"));
  g_object_set (prompt.get (), "max-tokens", 3, "ignore-eos", TRUE, nullptr);
  auto request = Ref<MillraceRequest>::adopt (millrace_request_new_for_prompt ("import os"));
  const auto stream = start (generator.get (), request.get ());
  Problem problem;
  read_all (stream.get (), problem.out ());
  GVariant *statistics = millrace_stream_get_statistics (stream.get ());
  EXPECT_EQ (integer (statistics, "completion-tokens"), 3);
  g_variant_unref (statistics);
  generate (generator.get (), request.get ()); // the first is counted by the time the second runs
  GVariant *totals = millrace_generator_get_statistics (generator.get (), nullptr);
  guint64 finished = 0;
  EXPECT_TRUE (g_variant_lookup (totals, "finished", "t", &finished));
  EXPECT_GE (finished, 1u);
  g_variant_unref (totals);
}

TEST (LibraryStreams, an_unread_stream_pauses_itself_and_nobody_else)
{
  const auto generator = new_generator ();
  const auto request = new_request ("import os", 400);
  const std::string expected = generate (generator.get (), request.get ());
  g_object_set (request.get (), "buffer-size", 16u, nullptr);
  const auto unread = start (generator.get (), request.get ());
  while (!millrace_stream_is_paused (unread.get ()))
    g_thread_yield ();
  // Others run to their ends, one after another, while it stands still.
  const auto other = new_request ("def f(x):", 64);
  for (int i = 0; i < 3; i++)
    generate (generator.get (), other.get ());
  EXPECT_TRUE (millrace_stream_is_paused (unread.get ()));
  EXPECT_EQ (millrace_stream_get_finish_reason (unread.get ()), MILLRACE_FINISH_REASON_NONE);
  Problem problem;
  EXPECT_EQ (read_all (unread.get (), problem.out ()), expected);

  // One that is paused can be cancelled, and dropped.
  const auto cancelled = start (generator.get (), request.get ());
  while (!millrace_stream_is_paused (cancelled.get ()))
    g_thread_yield ();
  millrace_stream_cancel (cancelled.get ());
  read_all (cancelled.get (), problem.out ());
  EXPECT_TRUE (problem.is (G_IO_ERROR, G_IO_ERROR_CANCELLED)) << problem.message ();
}

TEST (LibraryStreams, text_is_told_while_more_is_generated)
{
  const auto generator = new_generator ();
  const auto endless = new_request ("import os", 0);
  g_object_set (endless.get (), "buffer-size", 64u, nullptr); // it cannot end before its text is read
  const auto stream = start (generator.get (), endless.get ());
  int parts = 0;
  g_signal_connect (stream.get (), "text",
                    G_CALLBACK (+[] (MillraceStream *self, const char *, gpointer data) {
                      if (++*static_cast<int *> (data) == 3)
                        millrace_stream_cancel (self);
                    }),
                    &parts);
  run_until (
      [&] { return millrace_stream_get_finish_reason (stream.get ()) != MILLRACE_FINISH_REASON_NONE; });
  EXPECT_GE (parts, 3);
  EXPECT_EQ (millrace_stream_get_finish_reason (stream.get ()), MILLRACE_FINISH_REASON_CANCELLED);
}

TEST (LibraryStreams, a_stream_that_is_dropped_ends_its_generation)
{
  const auto generator = new_generator ();
  const auto running = [&] {
    GVariant *statistics = millrace_generator_get_statistics (generator.get (), nullptr);
    const int count = integer (statistics, "running");
    g_variant_unref (statistics);
    return count;
  };
  const auto endless = new_request ("import os", 0);
  g_object_set (endless.get (), "buffer-size", 64u, nullptr);
  std::vector<Ref<MillraceStream>> streams;
  for (int i = 0; i < 4; i++)
    streams.push_back (start (generator.get (), endless.get ()));
  for (const auto &stream : streams) {
    while (!millrace_stream_is_paused (stream.get ()))
      g_thread_yield ();
  }
  EXPECT_EQ (running (), 4);
  streams.resize (1);
  while (running () != 1) // those that are paused go too
    g_thread_yield ();
  EXPECT_TRUE (millrace_stream_is_paused (streams.front ().get ()));
}

TEST (LibraryStreams, a_cancellable_ends_the_generation_or_only_the_wait)
{
  const auto generator = new_generator ();
  const auto request = new_request ("import os", 0);
  g_object_set (request.get (), "buffer-size", 64u, nullptr);
  auto cancellable = Ref<GCancellable>::adopt (g_cancellable_new ());
  Problem problem;
  {
    const auto stream = start (generator.get (), request.get (), cancellable.get ());
    g_cancellable_cancel (cancellable.get ());
    read_all (stream.get (), problem.out ());
    EXPECT_TRUE (problem.is (G_IO_ERROR, G_IO_ERROR_CANCELLED)) << problem.message ();
    EXPECT_EQ (millrace_stream_get_finish_reason (stream.get ()), MILLRACE_FINISH_REASON_CANCELLED);
  }
  {
    Answer answer;
    millrace_generator_generate_async (generator.get (), request.get (), cancellable.get (),
                                       Answer::callback (), &answer);
    EXPECT_EQ (millrace_generator_generate_finish (generator.get (), answer.result (), problem.out ()),
               nullptr);
    EXPECT_TRUE (problem.is (G_IO_ERROR, G_IO_ERROR_CANCELLED)) << problem.message ();
  }
  // A wait that is cancelled loses no text: with a pipeline that is paused none can come before.
  auto pipeline = Ref<GstElement>::adopt (millrace_generator_get_pipeline (generator.get (), nullptr));
  const auto small = new_request ("import os", 8);
  const std::string expected = generate (generator.get (), small.get ());
  gst_element_set_state (pipeline.get (), GST_STATE_PAUSED);
  const auto stream = start (generator.get (), small.get ());
  auto wait = Ref<GCancellable>::adopt (g_cancellable_new ());
  Answer first, second;
  millrace_stream_next_async (stream.get (), wait.get (), Answer::callback (), &first);
  millrace_stream_next_async (stream.get (), nullptr, Answer::callback (), &second);
  EXPECT_EQ (millrace_stream_next_finish (stream.get (), second.result (), problem.out ()), nullptr);
  EXPECT_TRUE (problem.is (G_IO_ERROR, G_IO_ERROR_PENDING)) << problem.message ();
  g_cancellable_cancel (wait.get ());
  EXPECT_EQ (millrace_stream_next_finish (stream.get (), first.result (), problem.out ()), nullptr);
  EXPECT_TRUE (problem.is (G_IO_ERROR, G_IO_ERROR_CANCELLED)) << problem.message ();
  EXPECT_EQ (millrace_stream_next (stream.get (), wait.get (), problem.out ()), nullptr);
  EXPECT_TRUE (problem.is (G_IO_ERROR, G_IO_ERROR_CANCELLED)) << problem.message ();
  gst_element_set_state (pipeline.get (), GST_STATE_PLAYING);
  EXPECT_EQ (read_all (stream.get (), problem.out ()), expected);
}

TEST (LibraryStreams, wrong_requests_fail_alone_and_by_name)
{
  const auto generator = new_generator ();
  const auto request = new_request ("import os", 4);
  g_object_set (request.get (), "temperature", 3000.0, nullptr);
  Problem problem;
  EXPECT_EQ (millrace_generator_stream (generator.get (), request.get (), nullptr, problem.out ()), nullptr);
  EXPECT_TRUE (problem.is (MILLRACE_ERROR, MILLRACE_ERROR_INVALID_REQUEST));
  EXPECT_EQ (problem.message (), "temperature must be between 0 and 100, got 3000");
  Answer answer;
  millrace_generator_generate_async (generator.get (), request.get (), nullptr, Answer::callback (), &answer);
  EXPECT_EQ (millrace_generator_generate_finish (generator.get (), answer.result (), problem.out ()),
             nullptr);
  EXPECT_TRUE (problem.is (MILLRACE_ERROR, MILLRACE_ERROR_INVALID_REQUEST));

  g_object_set (request.get (), "temperature", 0.0, "model", "no-such-model", nullptr);
  EXPECT_EQ (millrace_generator_stream (generator.get (), request.get (), nullptr, problem.out ()), nullptr);
  EXPECT_TRUE (problem.is (MILLRACE_ERROR, MILLRACE_ERROR_NO_MODEL)) << problem.message ();

  g_object_set (request.get (), "model", "demo-draft", nullptr);
  const gint32 tokens[] = {1, 1 << 30}; // what only the model knows to be wrong
  millrace_request_set_tokens (request.get (), tokens, 2);
  read_all (start (generator.get (), request.get ()).get (), problem.out ());
  EXPECT_TRUE (problem.is (MILLRACE_ERROR, MILLRACE_ERROR_INVALID_REQUEST)) << problem.message ();
  millrace_request_set_prompt (request.get (), "\xff\xfe");
  read_all (start (generator.get (), request.get ()).get (), problem.out ());
  EXPECT_TRUE (problem.is (MILLRACE_ERROR, MILLRACE_ERROR_INVALID_UTF8)) << problem.message ();
  const std::string long_prompt (200'000, 'a');
  millrace_request_set_prompt (request.get (), long_prompt.c_str ());
  read_all (start (generator.get (), request.get ()).get (), problem.out ());
  EXPECT_TRUE (problem.is (MILLRACE_ERROR, MILLRACE_ERROR_CONTEXT_LENGTH)) << problem.message ();

  millrace_request_set_prompt (request.get (), "import os");
  EXPECT_GT (generate (generator.get (), request.get ()).size (), 0u);
}

TEST (LibraryStreams, a_hundred_streams_from_one_main_loop)
{
  constexpr int kStreams = 100;
  const auto generator = new_generator ();
  struct Client {
    Ref<MillraceRequest> request;
    Ref<MillraceStream> stream;
    std::string text;
    bool done = false;

    void next ()
    {
      millrace_stream_next_async (
          stream.get (), nullptr,
          [] (GObject *source, GAsyncResult *result, gpointer data) {
            auto *self = static_cast<Client *> (data);
            Problem problem;
            char *text = millrace_stream_next_finish (MILLRACE_STREAM (source), result, problem.out ());
            EXPECT_FALSE (problem) << problem.message ();
            self->done = !text;
            if (!text)
              return;
            self->text += take_string (text);
            self->next ();
          },
          this);
    }
  };
  std::vector<Client> clients (kStreams);
  for (int i = 0; i < kStreams; i++) {
    const std::string prompt = "import os\n# " + std::to_string (i) + "\n";
    clients[static_cast<size_t> (i)].request = new_request (prompt.c_str (), 16);
    g_object_set (clients[static_cast<size_t> (i)].request.get (), "temperature", 0.8, "seed",
                  static_cast<guint64> (i), nullptr);
  }
  for (Client &client : clients) {
    client.stream = start (generator.get (), client.request.get ());
    client.next ();
  }
  run_until (
      [&] { return std::ranges::all_of (clients, [] (const Client &client) { return client.done; }); });
  // The same texts as alone.
  for (size_t i = 0; i < clients.size (); i += 9)
    EXPECT_EQ (clients[i].text, generate (generator.get (), clients[i].request.get ())) << i;
}

TEST (LibraryStreams, embeddings_and_tokens)
{
  const auto generator = new_generator ();
  const auto request = new_request ("import os", 1);
  Problem problem;
  Answer answer;
  millrace_generator_embed_async (generator.get (), request.get (), MILLRACE_POOLING_MEAN, 0, nullptr,
                                  Answer::callback (), &answer);
  gsize length = 0, again = 0;
  g_autofree gfloat *values =
      millrace_generator_embed_finish (generator.get (), answer.result (), &length, problem.out ());
  g_autofree gfloat *same = millrace_generator_embed (generator.get (), request.get (), MILLRACE_POOLING_MEAN,
                                                      0, nullptr, &again, problem.out ());
  ASSERT_TRUE (values && same) << problem.message ();
  ASSERT_EQ (length, again);
  double norm = 0;
  for (gsize i = 0; i < length; i++) {
    EXPECT_EQ (values[i], same[i]);
    norm += double{values[i]} * double{values[i]};
  }
  EXPECT_NEAR (norm, 1, 1e-5);
  EXPECT_EQ (millrace_generator_embed (generator.get (), request.get (), MILLRACE_POOLING_LAST, 1u << 20,
                                       nullptr, &again, problem.out ()),
             nullptr);
  EXPECT_TRUE (problem.is (MILLRACE_ERROR, MILLRACE_ERROR_INVALID_REQUEST)) << problem.message ();

  auto model = Ref<MillraceModel>::adopt (millrace_generator_get_model (generator.get (), "demo-draft"));
  gsize count = 0, count_async = 0;
  g_autofree gint32 *ids =
      millrace_model_tokenize (model.get (), "def f(x): # ä", FALSE, TRUE, &count, problem.out ());
  Answer tokens;
  millrace_model_tokenize_async (model.get (), "def f(x): # ä", FALSE, TRUE, nullptr, Answer::callback (),
                                 &tokens);
  g_autofree gint32 *ids_async =
      millrace_model_tokenize_finish (model.get (), tokens.result (), &count_async, problem.out ());
  ASSERT_EQ (count, count_async);
  ASSERT_GT (count, 3u);
  EXPECT_TRUE (std::equal (ids, ids + count, ids_async));
  EXPECT_EQ (take_string (millrace_model_detokenize (model.get (), ids, count, problem.out ())),
             "def f(x): # ä");
  Answer text;
  millrace_model_detokenize_async (model.get (), ids, count, nullptr, Answer::callback (), &text);
  EXPECT_EQ (take_string (millrace_model_detokenize_finish (model.get (), text.result (), problem.out ())),
             "def f(x): # ä");
  const gint32 wrong[] = {-1};
  EXPECT_EQ (millrace_model_detokenize (model.get (), wrong, 1, problem.out ()), nullptr);
  EXPECT_TRUE (problem.is (MILLRACE_ERROR, MILLRACE_ERROR_INVALID_REQUEST)) << problem.message ();
}

TEST (LibraryStreams, log_probabilities_come_with_the_tokens)
{
  const auto generator = new_generator ();
  const auto request = new_request ("import os", 5);
  g_object_set (request.get (), "logprobs", 2, nullptr);
  const auto stream = start (generator.get (), request.get ());
  Problem problem;
  const std::string text = read_all (stream.get (), problem.out ());
  GVariant *tokens = millrace_stream_get_logprobs (stream.get ());
  EXPECT_EQ (g_variant_n_children (tokens), 5u);
  std::string joined;
  for (gsize i = 0; i < g_variant_n_children (tokens); i++) {
    gint32 id = -1;
    const char *piece = nullptr;
    double logprob = 1;
    GVariant *top = nullptr;
    g_variant_get_child (tokens, i, "(i&sd@a(isd))", &id, &piece, &logprob, &top);
    EXPECT_LE (logprob, 0);
    EXPECT_EQ (g_variant_n_children (top), 2u);
    joined += piece;
    g_variant_unref (top);
  }
  EXPECT_EQ (joined, text);
  g_variant_unref (tokens);
}
