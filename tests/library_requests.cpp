// labels: unit library
// MillraceRequest without a model: what it says of wrong values, and the JSON that it becomes.

#include "library/request.hpp"
#include "tests/library_harness.hpp"

#include <string>

using namespace millrace;
using namespace millrace::testing;

namespace
{

Ref<MillraceRequest>
request_for (const char *prompt)
{
  return Ref<MillraceRequest>::adopt (millrace_request_new_for_prompt (prompt));
}

template <typename T>
bool
set (MillraceRequest *request, const char *name, GType type, void (*setter) (GValue *, T), T value,
     GError **error)
{
  GValue item = G_VALUE_INIT;
  g_value_init (&item, type);
  setter (&item, value);
  const bool done = millrace_request_set_parameter (request, name, &item, error);
  g_value_unset (&item);
  return done;
}

} // namespace

TEST (LibraryRequests, wrong_values_are_named_with_their_range)
{
  const struct {
    const char *name;
    double value;
    const char *message;
  } kCases[] = {
      {"temperature", 3000, "temperature must be between 0 and 100, got 3000"},
      {"temperature", -1, "temperature must be between 0 and 100, got -1"},
      {"temperature", NAN, "temperature must be between 0 and 100, got nan"},
      {"top-p", 0, "top_p must be greater than 0 and at most 1, got 0"},
      {"top_p", 1.5, "top_p must be greater than 0 and at most 1, got 1.5"},
      {"min-p", 2, "min_p must be between 0 and 1, got 2"},
      {"top-k", -1, "top_k must not be negative, got -1"},
      {"top-k", 1.5, "top-k: must be an integer between -2147483648 and 2147483647, got 1.500000"},
      {"max-tokens", 1e12,
       "max-tokens: must be an integer between -2147483648 and 2147483647, got 1000000000000.000000"},
      {"max-tokens", -5, "max_tokens must not be negative, got -5"},
      {"logprobs", 21, "logprobs must be between 0 and 20, got 21"},
      {"presence-penalty", 101, "presence_penalty must be between -100 and 100, got 101"},
      {"timeout-ms", -1, "timeout-ms: must be at least 0, got -1"},
      {"stop", 1, "stop: must be a list of strings, got 1.000000"},
      {"no-such-thing", 1, "no-such-thing: is not a known field"},
  };
  const auto request = request_for ("x");
  g_autofree char *before = millrace_request_to_json (request.get ());
  for (const auto &[name, value, message] : kCases) {
    Problem problem;
    EXPECT_FALSE (set (request.get (), name, G_TYPE_DOUBLE, g_value_set_double, value, problem.out ()))
        << name;
    EXPECT_TRUE (problem.is (MILLRACE_ERROR, MILLRACE_ERROR_INVALID_REQUEST)) << name;
    EXPECT_EQ (problem.message (), message);
  }
  g_autofree char *after = millrace_request_to_json (request.get ());
  EXPECT_STREQ (before, after) << "a refused value was kept";
}

TEST (LibraryRequests, numbers_of_any_type_are_taken_when_they_stay_the_same)
{
  const auto request = request_for ("x");
  Problem problem;
  EXPECT_TRUE (
      set (request.get (), "max_tokens", G_TYPE_INT64, g_value_set_int64, gint64{7}, problem.out ()));
  EXPECT_TRUE (set (request.get (), "min-tokens", G_TYPE_DOUBLE, g_value_set_double, 3.0, problem.out ()));
  EXPECT_TRUE (set (request.get (), "temperature", G_TYPE_INT, g_value_set_int, 2, problem.out ()));
  EXPECT_TRUE (
      set (request.get (), "seed", G_TYPE_UINT64, g_value_set_uint64, guint64{G_MAXUINT64}, problem.out ()));
  EXPECT_TRUE (set (request.get (), "buffer-size", G_TYPE_INT, g_value_set_int, 5, problem.out ()));
  EXPECT_FALSE (problem) << problem.message ();
  EXPECT_EQ (take_string (millrace_request_to_json (request.get ())),
             R"({"prompt":"x","max_tokens":7,"min_tokens":3,"temperature":2,"seed":18446744073709551615})");
}

TEST (LibraryRequests, properties_out_of_range_are_found_when_it_is_checked)
{
  const auto request = request_for ("x");
  g_object_set (request.get (), "temperature", 3000.0, nullptr);
  Problem problem;
  EXPECT_FALSE (millrace_request_validate (request.get (), problem.out ()));
  EXPECT_EQ (problem.message (), "temperature must be between 0 and 100, got 3000");
  g_object_set (request.get (), "temperature", 1.0, "min-tokens", 9, "max-tokens", 8, nullptr);
  EXPECT_FALSE (millrace_request_validate (request.get (), problem.out ()));
  EXPECT_EQ (problem.message (), "min_tokens must not exceed max_tokens (8), got 9");
  const auto empty = Ref<MillraceRequest>::adopt (millrace_request_new ());
  EXPECT_FALSE (millrace_request_validate (empty.get (), problem.out ()));
  EXPECT_EQ (problem.message (), "prompt: one of prompt, messages and tokens is needed");
}

TEST (LibraryRequests, the_error_domain_has_the_name_that_bindings_look_for)
{
  EXPECT_STREQ (g_quark_to_string (MILLRACE_ERROR), "millrace-error-quark");
}

TEST (LibraryRequests, what_was_set_is_sent_and_nothing_else)
{
  const auto request = request_for ("a \"b\"\n");
  EXPECT_EQ (take_string (millrace_request_to_json (request.get ())), R"({"prompt":"a \"b\"\n"})");

  const char *stops[] = {"\n", "END", nullptr};
  g_object_set (request.get (), "stop", stops, "priority", MILLRACE_PRIORITY_HIGH, "timeout-ms", 5,
                "logprobs", -1, "prediction", "abc", nullptr);
  EXPECT_EQ (
      take_string (millrace_request_to_json (request.get ())),
      R"({"prompt":"a \"b\"\n","logprobs":false,"stop":["\n","END"],"priority":"high","timeout_ms":5,"prediction":"abc"})");

  const gint32 tokens[] = {5, 6};
  millrace_request_set_tokens (request.get (), tokens, 2);
  EXPECT_NE (take_string (millrace_request_to_json (request.get ())).find (R"("tokens":[5,6])"),
             std::string::npos);
  g_autofree char *prompt = nullptr;
  g_object_get (request.get (), "prompt", &prompt, nullptr);
  EXPECT_EQ (prompt, nullptr);

  const auto chat = Ref<MillraceRequest>::adopt (millrace_request_new_for_message ("be short", "hi"));
  millrace_request_add_message (chat.get (), "assistant", "hello");
  EXPECT_EQ (
      take_string (millrace_request_to_json (chat.get ())),
      R"({"messages":[{"role":"system","content":"be short"},{"role":"user","content":"hi"},{"role":"assistant","content":"hello"}]})");
}

TEST (LibraryRequests, json_survives_a_round_trip_field_by_field)
{
  const auto request = Ref<MillraceRequest>::adopt (millrace_request_new ());
  const char *json =
      R"({"messages":[{"role":"user","content":"hi"}],"tools":[{"type":"function"}],"temperature":0.1,"top_k":40,)"
      R"("logit_bias":{"3":-100,"7":1.5},"stop_token_ids":[9],"seed":7,"logprobs":2,"stop":"x","priority":"low"})";
  Problem problem;
  ASSERT_TRUE (millrace_request_parse_json (request.get (), json, -1, problem.out ())) << problem.message ();
  millrace_request_add_message (request.get (), "assistant", "yes?");
  const std::string again = take_string (millrace_request_to_json (request.get ()));

  Request first, second;
  PromptInput first_prompt, second_prompt;
  ASSERT_FALSE (parse_request (json, first, first_prompt));
  const auto error = parse_request (again, second, second_prompt);
  ASSERT_FALSE (error) << error.message << "\n" << again;
  EXPECT_EQ (second.sampling.temperature, first.sampling.temperature);
  EXPECT_EQ (second.sampling.top_k, first.sampling.top_k);
  EXPECT_EQ (second.sampling.logit_bias, first.sampling.logit_bias);
  EXPECT_EQ (second.sampling.stop_token_ids, first.sampling.stop_token_ids);
  EXPECT_EQ (second.sampling.seed, first.sampling.seed);
  EXPECT_EQ (second.sampling.logprobs, first.sampling.logprobs);
  EXPECT_EQ (second.sampling.stop, first.sampling.stop);
  EXPECT_EQ (second.priority, first.priority);
  EXPECT_EQ (second_prompt.tools_json, first_prompt.tools_json);
  EXPECT_EQ (second_prompt.messages_json,
             R"([{"role":"user","content":"hi"},{"role":"assistant","content":"yes?"}])");

  EXPECT_FALSE (
      millrace_request_parse_json (request.get (), R"({"prompt":"x","top_p":7})", -1, problem.out ()));
  EXPECT_EQ (problem.message (), "top_p must be greater than 0 and at most 1, got 7");
  EXPECT_EQ (take_string (millrace_request_to_json (request.get ())), again) << "a refused object changed it";
}
