// labels: library
// timeout: 300
// A generator's models: how they come and go, what is told of it, and that nothing outlives its last reference.

#include "tests/library_harness.hpp"

#include "tests/test_paths.hpp"

#include <string>
#include <vector>

using namespace millrace::testing;
using millrace::Ref;

namespace
{

const char *
state_name (MillraceGeneratorState state)
{
  static const char *const names[] = {"empty", "loading", "ready", "closed"};
  return names[state];
}

/// What a generator tells, in order.
struct Diary {
  std::vector<std::string> lines;

  explicit Diary (MillraceGenerator *generator)
  {
    g_signal_connect (generator, "model-loaded",
                      G_CALLBACK (+[] (gpointer, MillraceModel *model, Diary *self) {
                        self->lines.push_back (std::string ("loaded ") + millrace_model_get_name (model));
                      }),
                      this);
    g_signal_connect (generator, "model-unloaded",
                      G_CALLBACK (+[] (gpointer, MillraceModel *model, Diary *self) {
                        self->lines.push_back (std::string ("unloaded ") + millrace_model_get_name (model));
                      }),
                      this);
    g_signal_connect (generator, "error",
                      G_CALLBACK (+[] (gpointer, MillraceModel *model, GError *, Diary *self) {
                        self->lines.push_back (std::string ("error ") + millrace_model_get_name (model));
                      }),
                      this);
    g_signal_connect (generator, "items-changed",
                      G_CALLBACK (+[] (gpointer, guint position, guint removed, guint added, Diary *self) {
                        self->lines.push_back ("items " + std::to_string (position) + " -" +
                                               std::to_string (removed) + " +" + std::to_string (added));
                      }),
                      this);
    g_signal_connect (generator, "notify::state",
                      G_CALLBACK (+[] (MillraceGenerator *source, GParamSpec *, Diary *self) {
                        self->lines.push_back (state_name (millrace_generator_get_state (source)));
                      }),
                      this);
  }
};

Ref<MillraceModel>
load (const char *name)
{
  Answer answer;
  millrace_model_load_async (name, MILLRACE_WEIGHTS_AUTO, 1, nullptr, Answer::callback (), &answer);
  Problem problem;
  auto model = Ref<MillraceModel>::adopt (millrace_model_load_finish (answer.result (), problem.out ()));
  EXPECT_TRUE (model) << problem.message ();
  return model;
}

bool
add (MillraceGenerator *generator, MillraceModel *model, GError **error)
{
  Answer answer;
  millrace_generator_add_model_async (generator, model, nullptr, Answer::callback (), &answer);
  return millrace_generator_add_model_finish (generator, answer.result (), error);
}

void
close (MillraceGenerator *generator)
{
  Answer answer;
  millrace_generator_close_async (generator, nullptr, Answer::callback (), &answer);
  Problem problem;
  EXPECT_TRUE (millrace_generator_close_finish (generator, answer.result (), problem.out ()));
}

} // namespace

TEST (LibraryGenerator, models_come_and_go_while_others_run)
{
  auto generator = Ref<MillraceGenerator>::adopt (millrace_generator_new ());
  Diary diary (generator.get ());
  EXPECT_EQ (millrace_generator_get_state (generator.get ()), MILLRACE_GENERATOR_STATE_EMPTY);
  Problem problem;
  const auto draft = load ("demo-draft"), demo = load ("demo");
  ASSERT_TRUE (add (generator.get (), draft.get (), problem.out ())) << problem.message ();
  const std::vector<std::string> expected = {"loading", "items 0 -0 +1", "ready", "loaded demo-draft"};
  EXPECT_EQ (diary.lines, expected);
  EXPECT_FALSE (add (generator.get (), draft.get (), problem.out ()));
  EXPECT_TRUE (problem.is (MILLRACE_ERROR, MILLRACE_ERROR_INVALID_REQUEST)) << problem.message ();

  auto endless = new_request ("import os", 0);
  g_object_set (endless.get (), "buffer-size", 64u, nullptr); // nobody reads it, so it does not end
  auto running = Ref<MillraceStream>::adopt (
      millrace_generator_stream (generator.get (), endless.get (), nullptr, problem.out ()));
  ASSERT_TRUE (add (generator.get (), demo.get (), problem.out ())) << problem.message ();
  EXPECT_EQ (g_list_model_get_n_items (G_LIST_MODEL (generator.get ())), 2u);
  EXPECT_EQ (g_list_model_get_item_type (G_LIST_MODEL (generator.get ())), MILLRACE_TYPE_MODEL);
  auto second = Ref<MillraceModel>::adopt (
      static_cast<MillraceModel *> (g_list_model_get_item (G_LIST_MODEL (generator.get ()), 1)));
  EXPECT_EQ (second.get (), demo.get ());
  EXPECT_EQ (g_list_model_get_item (G_LIST_MODEL (generator.get ()), 2), nullptr);

  Answer warm;
  millrace_generator_warm_up_async (generator.get (), "demo", nullptr, Answer::callback (), &warm);
  EXPECT_TRUE (millrace_generator_warm_up_finish (generator.get (), warm.result (), problem.out ()))
      << problem.message ();
  const auto request = new_request ("import os", 4);
  g_object_set (request.get (), "model", "demo", nullptr);
  EXPECT_NE (
      take_string (millrace_generator_generate (generator.get (), request.get (), nullptr, problem.out ())),
      "(null)")
      << problem.message ();

  // The one that is removed ends what it does; the other goes on.
  diary.lines.clear ();
  Answer removed;
  millrace_generator_remove_model_async (generator.get (), "demo-draft", nullptr, Answer::callback (),
                                         &removed);
  EXPECT_TRUE (millrace_generator_remove_model_finish (generator.get (), removed.result (), problem.out ()));
  EXPECT_EQ (diary.lines, (std::vector<std::string>{"items 0 -1 +0", "ready", "unloaded demo-draft"}));
  read_all (running.get (), problem.out ());
  EXPECT_TRUE (problem.is (MILLRACE_ERROR, MILLRACE_ERROR_CLOSED)) << problem.message ();
  EXPECT_NE (
      take_string (millrace_generator_generate (generator.get (), request.get (), nullptr, problem.out ())),
      "(null)");

  diary.lines.clear ();
  close (generator.get ());
  EXPECT_EQ (diary.lines.front (), "items 0 -1 +0");
  EXPECT_EQ (diary.lines.back (), "unloaded demo");
  EXPECT_FALSE (add (generator.get (), draft.get (), problem.out ()));
  EXPECT_TRUE (problem.is (MILLRACE_ERROR, MILLRACE_ERROR_CLOSED)) << problem.message ();
  EXPECT_EQ (millrace_generator_generate (generator.get (), request.get (), nullptr, problem.out ()),
             nullptr);
  EXPECT_TRUE (problem.is (MILLRACE_ERROR, MILLRACE_ERROR_CLOSED)) << problem.message ();
}

// An interpreter that ends then can let nobody else let go of what is its own.
TEST (LibraryGenerator, who_hears_that_a_model_is_gone_has_the_last_reference)
{
  struct Told {
    MillraceModel *model;
    guint references = 0;
  };
  const GAsyncReadyCallback callback = [] (GObject *, GAsyncResult *, gpointer data) {
    auto &told = *static_cast<Told *> (data);
    told.references = G_OBJECT (told.model)->ref_count;
  };
  const auto model = load ("demo-draft");
  Problem problem;
  for (const bool closes : {false, true}) {
    const auto generator = Ref<MillraceGenerator>::adopt (millrace_generator_new ());
    ASSERT_TRUE (add (generator.get (), model.get (), problem.out ())) << problem.message ();
    Told told{model.get ()};
    if (closes)
      millrace_generator_close_async (generator.get (), nullptr, callback, &told);
    else
      millrace_generator_remove_model_async (generator.get (), nullptr, nullptr, callback, &told);
    run_until ([&] { return told.references > 0; });
    EXPECT_EQ (told.references, 1u) << (closes ? "closed" : "removed");
  }
}

TEST (LibraryGenerator, what_cannot_be_loaded_is_an_error)
{
  Answer answer;
  millrace_model_load_async ("no-such-model", MILLRACE_WEIGHTS_AUTO, 1, nullptr, Answer::callback (),
                             &answer);
  Problem problem;
  EXPECT_EQ (millrace_model_load_finish (answer.result (), problem.out ()), nullptr);
  EXPECT_TRUE (problem.is (MILLRACE_ERROR, MILLRACE_ERROR_LOAD)) << problem.message ();

  auto cancellable = Ref<GCancellable>::adopt (g_cancellable_new ());
  Answer cancelled;
  millrace_model_load_async ("demo-draft", MILLRACE_WEIGHTS_AUTO, 1, cancellable.get (), Answer::callback (),
                             &cancelled);
  g_cancellable_cancel (cancellable.get ());
  EXPECT_EQ (millrace_model_load_finish (cancelled.result (), problem.out ()), nullptr);
  EXPECT_TRUE (problem.is (G_IO_ERROR, G_IO_ERROR_CANCELLED)) << problem.message ();
}

TEST (LibraryGenerator, a_failed_pipeline_is_told_and_removed)
{
  const auto generator = new_generator ();
  Diary diary (generator.get ());
  const auto endless = new_request ("import os", 0);
  g_object_set (endless.get (), "buffer-size", 64u, nullptr);
  Problem problem;
  auto stream = Ref<MillraceStream>::adopt (
      millrace_generator_stream (generator.get (), endless.get (), nullptr, problem.out ()));
  {
    auto pipeline = Ref<GstElement>::adopt (millrace_generator_get_pipeline (generator.get (), nullptr));
    auto sink = Ref<GstElement>::adopt (gst_bin_get_by_name (GST_BIN (pipeline.get ()), "sink"));
    GST_ELEMENT_ERROR (sink.get (), LIBRARY, FAILED, ("made to fail"), (nullptr));
  }
  run_until ([&] { return !diary.lines.empty () && diary.lines.back () == "unloaded demo-draft"; });
  EXPECT_EQ (diary.lines,
             (std::vector<std::string>{"items 0 -1 +0", "empty", "error demo-draft", "unloaded demo-draft"}));
}

TEST (LibraryGenerator, dropping_every_reference_in_mid_stream_frees_all)
{
  GWeakRef model, pipeline, stream;
  {
    auto generator = new_generator ();
    auto held = Ref<MillraceModel>::adopt (millrace_generator_get_model (generator.get (), nullptr));
    auto bin = Ref<GstElement>::adopt (millrace_generator_get_pipeline (generator.get (), nullptr));
    const auto endless = new_request ("import os", 0);
    g_object_set (endless.get (), "buffer-size", 64u, nullptr);
    Problem problem;
    std::vector<Ref<MillraceStream>> streams;
    for (int i = 0; i < 8; i++) {
      streams.push_back (Ref<MillraceStream>::adopt (
          millrace_generator_stream (generator.get (), endless.get (), nullptr, problem.out ())));
      g_signal_connect (streams.back ().get (), "text",
                        G_CALLBACK (+[] (gpointer, const char *, gpointer) {}), nullptr);
    }
    g_free (millrace_stream_next (streams.back ().get (), nullptr, problem.out ())); // they run
    g_weak_ref_init (&model, held.get ());
    g_weak_ref_init (&pipeline, bin.get ());
    g_weak_ref_init (&stream, streams.front ().get ());
    EXPECT_TRUE (Ref<GObject>::adopt (static_cast<GObject *> (g_weak_ref_get (&stream))));
  }
  EXPECT_EQ (g_weak_ref_get (&stream), nullptr);
  // A thread of the library stops the pipeline; then the model goes too.
  for (GWeakRef *weak : {&pipeline, &model}) {
    while (gpointer alive = g_weak_ref_get (weak)) {
      g_object_unref (alive);
      g_thread_yield ();
    }
    g_weak_ref_clear (weak);
  }
  g_weak_ref_clear (&stream);
}

TEST (LibraryGenerator, a_stream_outlives_its_generator)
{
  auto generator = new_generator ();
  const auto request = new_request ("import os", 32);
  Problem problem;
  auto stream = Ref<MillraceStream>::adopt (
      millrace_generator_stream (generator.get (), request.get (), nullptr, problem.out ()));
  generator = nullptr;
  EXPECT_GT (read_all (stream.get (), problem.out ()).size (), 10u);
  EXPECT_FALSE (problem) << problem.message ();
  EXPECT_EQ (millrace_stream_get_finish_reason (stream.get ()), MILLRACE_FINISH_REASON_LENGTH);
}
