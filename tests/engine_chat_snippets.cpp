// Small templates and the demo model's template against what the reference Jinja makes of them
// (tests/data/chat; make_snippets.py there writes the expectations).
// labels: unit
#include "engine/chat/chat_template.hpp"
#include "tests/test_paths.hpp"

#include <simdjson.h>

#include <thread>

using millrace::ChatTemplate;
using millrace::ChatTemplateError;

namespace
{

/// 2026-01-15T10:30:00
constexpr int64_t kNow = 1768473000;

std::string
render (std::string_view source, std::string_view variables)
{
  return ChatTemplate::compile (source)->render (variables, kNow);
}

/// The error of a template that must not render; a failure of the test when it does.
ChatTemplateError
error_of (std::string_view source, std::string_view variables = "{}")
{
  try {
    const std::string text = render (source, variables);
    ADD_FAILURE () << source << " rendered as " << text;
  } catch (const ChatTemplateError &error) {
    return error;
  }
  return {ChatTemplateError::Kind::kRuntime, 0, ""};
}

} // namespace

TEST (ChatSnippets, every_snippet_renders_or_fails_as_the_reference_does)
{
  simdjson::dom::parser parser;
  const simdjson::dom::element data = parser.load (source_path ("tests/data/chat/snippets.json").string ());
  const std::string variables = simdjson::minify (data["variables"].value ());
  size_t rendered = 0, failed = 0;
  for (const simdjson::dom::element one_case : data["cases"].get_array ()) {
    const std::string_view source = one_case["template"].get_string ();
    std::string_view expected;
    if (!one_case["expected"].get_string ().get (expected)) {
      rendered++;
      try {
        EXPECT_EQ (render (source, variables), expected) << source;
      } catch (const ChatTemplateError &error) {
        ADD_FAILURE () << source << "\nfails: " << error.what ();
      }
      continue;
    }
    failed++;
    const auto error = error_of (source, variables);
    EXPECT_STREQ (error.what (), std::string (one_case["error"].get_string ().value ()).c_str ()) << source;
    EXPECT_EQ (error.kind == ChatTemplateError::Kind::kRaised, one_case["raised"].get_bool ().value ())
        << source;
  }
  std::cout << rendered << " rendered, " << failed << " refused\n";
  EXPECT_GT (rendered, 400u);
  EXPECT_GT (failed, 100u);
}

TEST (ChatSnippets, demo_template_renders_its_conversations)
{
  simdjson::dom::parser config_parser, parser;
  const simdjson::dom::element config =
      config_parser.load (source_path ("models/demo/tokenizer_config.json").string ());
  const std::string_view source = config["chat_template"].get_string ();
  const auto compiled = ChatTemplate::compile (source);
  size_t count = 0;
  const simdjson::dom::element cases =
      parser.load (source_path ("tests/data/chat/demo_conversations.json").string ());
  for (const simdjson::dom::element one_case : cases.get_array ()) {
    const std::string variables = simdjson::minify (one_case["variables"].value ());
    const std::string_view name = one_case["name"].get_string ();
    std::string_view expected;
    count++;
    if (!one_case["expected"].get_string ().get (expected)) {
      EXPECT_EQ (compiled->render (variables, kNow), expected) << name;
      continue;
    }
    const auto error = error_of (source, variables);
    EXPECT_STREQ (error.what (), std::string (one_case["error"].get_string ().value ()).c_str ()) << name;
  }
  EXPECT_EQ (count, 13u);
}

TEST (ChatSnippets, errors_name_their_kind_and_line)
{
  const auto syntax = error_of ("a\nb\n{% if %}");
  EXPECT_EQ (syntax.kind, ChatTemplateError::Kind::kSyntax);
  EXPECT_EQ (syntax.line, 3) << syntax.what ();

  const auto runtime = error_of ("a\n\n{{ x.y.z }}");
  EXPECT_EQ (runtime.kind, ChatTemplateError::Kind::kRuntime);
  EXPECT_EQ (runtime.line, 3);
  EXPECT_STREQ (runtime.what (), "'x' is undefined");

  const auto raised = error_of ("{{ raise_exception('roles must \"alternate\"') }}");
  EXPECT_EQ (raised.kind, ChatTemplateError::Kind::kRaised);
  EXPECT_EQ (raised.line, 1);
  EXPECT_STREQ (raised.what (), "roles must \"alternate\"");
}

TEST (ChatSnippets, other_templates_cannot_be_loaded)
{
  for (const char *source :
       {"{% include 'x' %}", "{% import 'x' as y %}", "{% from 'x' import y %}", "{% extends 'x' %}"}) {
    const auto error = error_of (source);
    EXPECT_EQ (error.kind, ChatTemplateError::Kind::kRuntime);
    EXPECT_NE (std::string (error.what ()).find ("not available in chat templates"), std::string::npos)
        << error.what ();
  }
  EXPECT_EQ (render ("{% if false %}{% include 'x' %}{% endif %}ok", "{}"), "ok");
}

TEST (ChatSnippets, variables_must_be_a_json_object)
{
  for (const char *variables : {"", "[]", "1", "{", "{\"a\": }", "{\"a\": \"\xff\"}"})
    EXPECT_EQ (error_of ("x", variables).kind, ChatTemplateError::Kind::kRuntime) << variables;
}

TEST (ChatSnippets, numbers_of_json_keep_their_kind)
{
  const char *variables = R"({"i": 1, "f": 1.0, "e": 1e3, "most": 9223372036854775807,
                              "over": 9223372036854775808, "big": 123456789012345678901234567890})";
  EXPECT_EQ (render ("{{ i }} {{ f }} {{ e }} {{ most }} {{ over }} {{ big }}", variables),
             "1 1.0 1000.0 9223372036854775807 9.223372036854776e+18 1.2345678901234568e+29");
}

TEST (ChatSnippets, members_keep_their_order_and_the_last_of_a_name_wins)
{
  EXPECT_EQ (render ("{{ d }}", R"({"d": {"z": 1, "a": 2, "z": 3, "b": 4}})"), "{'z': 3, 'a': 2, 'b': 4}");
  // enough members for the sorted index
  std::string members, expected;
  for (int i = 40; i-- > 0;) {
    members += (members.empty () ? "\"k" : ", \"k") + std::to_string (i) + "\": " + std::to_string (i);
    expected += std::to_string (i) + " ";
  }
  const std::string variables = "{\"d\": {" + members + "}}";
  EXPECT_EQ (render ("{% for k in d %}{{ d[k] }} {% endfor %}", variables), expected);
  EXPECT_EQ (render ("{{ d.k17 }}{{ d.k40 is defined }}{{ 'k3' in d }}", variables), "17FalseTrue");
}

TEST (ChatSnippets, time_is_what_the_caller_says)
{
  const auto compiled = ChatTemplate::compile ("{{ strftime_now('%Y-%m-%d %H:%M:%S %a %j %U %V') }}");
  EXPECT_EQ (compiled->render ("{}", 0), "1970-01-01 00:00:00 Thu 001 00 01");
  EXPECT_EQ (compiled->render ("{}", -1), "1969-12-31 23:59:59 Wed 365 52 01");
  EXPECT_EQ (compiled->render ("{}", 951782400), "2000-02-29 00:00:00 Tue 060 09 09");
  EXPECT_EQ (compiled->render ("{}", 1735689599), "2024-12-31 23:59:59 Tue 366 52 01");
  EXPECT_EQ (compiled->render ("{}", 4102444799), "2099-12-31 23:59:59 Thu 365 52 53");
}

TEST (ChatSnippets, one_template_renders_on_many_threads)
{
  const auto compiled =
      ChatTemplate::compile ("{% macro m(x) %}<{{ x }}é>{% endmacro %}{% set ns = namespace(t='') %}"
                             "{% for i in range(50) %}{% set ns.t = ns.t ~ m(v ~ 'ü'[0]) %}{% endfor %}{{ "
                             "ns.t|length }}{{ ns.t[-4:] }}");
  std::vector<std::string> results (4);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < results.size (); t++) {
    threads.emplace_back ([&, t] {
      for (int i = 0; i < 20; i++)
        results[t] = compiled->render ("{\"v\": " + std::to_string (t) + "}", kNow);
    });
  }
  for (auto &thread : threads)
    thread.join ();
  for (size_t t = 0; t < results.size (); t++)
    EXPECT_EQ (results[t], "250" + std::to_string (t) + "üé>");
}
