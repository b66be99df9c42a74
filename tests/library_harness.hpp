// A GLib application in a test: a main loop, waits that end when something happens, and errors that fail the test.
#pragma once

#include "library/ref.hpp"

#include <gtest/gtest.h>
#include <millrace/millrace.h>

#include <functional>
#include <string>
#include <utility>

namespace millrace::testing
{

/// Runs the default main context until `done`; a test that waits for ever is ended by its timeout.
template <typename F>
void
run_until (F &&done)
{
  while (!done ())
    g_main_context_iteration (nullptr, TRUE);
}

/// An asynchronous call: pass callback () and this; result () runs the main loop until it has been answered.
class Answer
{
public:
  Answer () = default;
  Answer (const Answer &) = delete;
  Answer &operator= (const Answer &) = delete;
  ~Answer () { g_clear_object (&result_); }

  static GAsyncReadyCallback callback ()
  {
    return [] (GObject *, GAsyncResult *result, gpointer data) {
      static_cast<Answer *> (data)->result_ = G_ASYNC_RESULT (g_object_ref (result));
    };
  }
  bool there () const { return result_; }
  GAsyncResult *result ()
  {
    run_until ([this] { return there (); });
    return result_;
  }

private:
  GAsyncResult *result_ = nullptr;
};

/// A GError that is freed, and compared by value.
class Problem
{
public:
  Problem () = default;
  Problem (const Problem &) = delete;
  Problem &operator= (const Problem &) = delete;
  ~Problem () { g_clear_error (&error_); }
  GError **out ()
  {
    g_clear_error (&error_);
    return &error_;
  }
  bool is (GQuark domain, int code) const { return g_error_matches (error_, domain, code); }
  explicit operator bool () const { return error_; }
  std::string message () const { return error_ ? error_->message : ""; }

private:
  GError *error_ = nullptr;
};

inline std::string
take_string (char *text)
{
  std::string copy = text ? text : "(null)";
  g_free (text);
  return copy;
}

/// The draft model: the smaller of the two that come with the sources.
inline Ref<MillraceModel>
open_small_model ()
{
  Problem problem;
  auto model = Ref<MillraceModel>::adopt (
      millrace_model_open ("demo-draft", MILLRACE_WEIGHTS_AUTO, 1, problem.out ()));
  EXPECT_TRUE (model) << problem.message ();
  return model;
}

/// With the small model in it.
inline Ref<MillraceGenerator>
new_generator ()
{
  auto generator = Ref<MillraceGenerator>::adopt (millrace_generator_new ());
  const auto model = open_small_model ();
  Problem problem;
  EXPECT_TRUE (millrace_generator_add_model (generator.get (), model.get (), nullptr, problem.out ()))
      << problem.message ();
  return generator;
}

inline Ref<MillraceRequest>
new_request (const char *prompt, int max_tokens)
{
  auto request = Ref<MillraceRequest>::adopt (millrace_request_new_for_prompt (prompt));
  g_object_set (request.get (), "max-tokens", max_tokens, "ignore-eos", TRUE, nullptr);
  return request;
}

/// All that a stream has to say, read from the main loop.
inline std::string
read_all (MillraceStream *stream, GError **error)
{
  std::string whole;
  for (;;) {
    Answer answer;
    millrace_stream_next_async (stream, nullptr, Answer::callback (), &answer);
    char *text = millrace_stream_next_finish (stream, answer.result (), error);
    if (!text)
      return whole;
    whole += text;
    g_free (text);
  }
}

} // namespace millrace::testing
