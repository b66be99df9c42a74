// labels: library
// timeout: 300
// The main loop goes on while models load and a hundred streams run: nothing that is called from it waits for work.
//
// That is checked by its structure: with work that cannot go on, in a pipeline that is paused, every call returns and the
// loop turns. How long the loop's longest gap was, by a timer of 1 ms, is printed and not judged: a busy
// machine has gaps of its own.

#include "tests/library_harness.hpp"

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <string>
#include <vector>

using namespace millrace::testing;
using millrace::Ref;

namespace
{

/// A timer of 1 ms in the main loop: how often it came, its longest gap, and the longest time that one turn of the loop
/// computed (of this thread alone).
class Heartbeat
{
public:
  Heartbeat ()
  {
    last_us_ = g_get_monotonic_time ();
    last_cpu_us_ = cpu_us ();
    source_ = g_timeout_add_full (
        G_PRIORITY_HIGH, 1,
        [] (gpointer data) -> gboolean {
          static_cast<Heartbeat *> (data)->beat ();
          return G_SOURCE_CONTINUE;
        },
        this, nullptr);
  }
  ~Heartbeat () { g_source_remove (source_); }
  Heartbeat (const Heartbeat &) = delete;
  Heartbeat &operator= (const Heartbeat &) = delete;

  int beats () const { return beats_; }
  void print (const char *during) const
  {
    std::printf ("%s: %d beats, longest gap %.2f ms, longest computation %.2f ms\n", during, beats_,
                 static_cast<double> (gap_us_) / 1000, static_cast<double> (cpu_gap_us_) / 1000);
  }

private:
  static gint64 cpu_us ()
  {
    timespec time = {};
    clock_gettime (CLOCK_THREAD_CPUTIME_ID, &time);
    return gint64{time.tv_sec} * 1'000'000 + time.tv_nsec / 1000;
  }
  void beat ()
  {
    const gint64 now = g_get_monotonic_time (), cpu = cpu_us ();
    gap_us_ = std::max (gap_us_, now - last_us_);
    cpu_gap_us_ = std::max (cpu_gap_us_, cpu - last_cpu_us_);
    last_us_ = now;
    last_cpu_us_ = cpu;
    beats_++;
  }

  guint source_ = 0;
  int beats_ = 0;
  gint64 last_us_ = 0, last_cpu_us_ = 0, gap_us_ = 0, cpu_gap_us_ = 0;
};

Ref<MillraceStream>
start (MillraceGenerator *generator, MillraceRequest *request)
{
  Problem problem;
  auto stream =
      Ref<MillraceStream>::adopt (millrace_generator_stream (generator, request, nullptr, problem.out ()));
  EXPECT_TRUE (stream) << problem.message ();
  return stream;
}

} // namespace

TEST (LibraryMainLoop, calls_return_while_the_pipeline_stands_still)
{
  const auto generator = new_generator ();
  auto pipeline = Ref<GstElement>::adopt (millrace_generator_get_pipeline (generator.get (), nullptr));
  gst_element_set_state (pipeline.get (), GST_STATE_PAUSED);
  const auto request = new_request ("import os", 8);
  std::vector<Ref<MillraceStream>> streams;
  Answer answers[100], whole;
  for (Answer &answer : answers) { // more than the scheduler's queue takes
    streams.push_back (start (generator.get (), request.get ()));
    millrace_stream_next_async (streams.back ().get (), nullptr, Answer::callback (), &answer);
  }
  millrace_generator_generate_async (generator.get (), request.get (), nullptr, Answer::callback (), &whole);
  GVariant *statistics = millrace_generator_get_statistics (generator.get (), nullptr);
  g_variant_unref (statistics);
  Heartbeat heart;
  run_until ([&] { return heart.beats () >= 20; });
  for (const Answer &answer : answers)
    EXPECT_FALSE (answer.there ());
  for (const auto &stream : streams)
    millrace_stream_cancel (stream.get ());
  gst_element_set_state (pipeline.get (), GST_STATE_PLAYING);
  Problem problem;
  EXPECT_NE (
      take_string (millrace_generator_generate_finish (generator.get (), whole.result (), problem.out ())),
      "(null)")
      << problem.message ();
  for (size_t i = 0; i < streams.size (); i++) {
    EXPECT_EQ (millrace_stream_next_finish (streams[i].get (), answers[i].result (), problem.out ()),
               nullptr);
    EXPECT_TRUE (problem.is (G_IO_ERROR, G_IO_ERROR_CANCELLED)) << problem.message ();
  }
}

TEST (LibraryMainLoop, the_loop_turns_while_a_hundred_streams_run)
{
  auto generator = Ref<MillraceGenerator>::adopt (millrace_generator_new ());
  Problem problem;
  {
    Heartbeat heart;
    Answer loaded, added;
    millrace_model_load_async ("demo", MILLRACE_WEIGHTS_AUTO, 0, nullptr, Answer::callback (), &loaded);
    auto model = Ref<MillraceModel>::adopt (millrace_model_load_finish (loaded.result (), problem.out ()));
    ASSERT_TRUE (model) << problem.message ();
    millrace_generator_add_model_async (generator.get (), model.get (), nullptr, Answer::callback (), &added);
    ASSERT_TRUE (millrace_generator_add_model_finish (generator.get (), added.result (), problem.out ()));
    heart.print ("loading");
  }
  {
    Heartbeat heart;
    int left = 100, texts = 0;
    std::vector<Ref<MillraceStream>> streams;
    struct Counts {
      int *left, *texts;
    } counts{&left, &texts};
    for (int i = 0; i < 100; i++) {
      const auto request = new_request (("# " + std::to_string (i) + "\nimport os\n").c_str (), 16);
      streams.push_back (start (generator.get (), request.get ()));
      g_signal_connect (streams.back ().get (), "text",
                        G_CALLBACK (+[] (gpointer, const char *, Counts *into) { ++*into->texts; }), &counts);
      g_signal_connect (streams.back ().get (), "finished",
                        G_CALLBACK (+[] (gpointer, MillraceFinishReason, Counts *into) { --*into->left; }),
                        &counts);
    }
    run_until ([&] { return left == 0; });
    EXPECT_GE (texts, 100);
    EXPECT_GT (heart.beats (), 1);
    heart.print ("a hundred streams");
  }
  {
    Heartbeat heart;
    Answer closed;
    const auto request = new_request ("import os", 0);
    const auto endless = start (generator.get (), request.get ());
    millrace_generator_close_async (generator.get (), nullptr, Answer::callback (), &closed);
    EXPECT_TRUE (millrace_generator_close_finish (generator.get (), closed.result (), problem.out ()));
    heart.print ("closing");
  }
}
