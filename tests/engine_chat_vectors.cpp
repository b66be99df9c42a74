// Renders public models' chat templates and compares with what the reference Jinja made of them
// (../shared/chat_templates, see its README).
// labels: oracle
// timeout: 300
#include "engine/chat/chat_template.hpp"
#include "tests/test_paths.hpp"

#include <simdjson.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <sstream>

using millrace::ChatTemplate;
using millrace::ChatTemplateError;

namespace
{

/// 2026-01-15T10:30:00, the time that the reference renders saw.
constexpr int64_t kNow = 1768473000;

std::string
read_text (const std::filesystem::path &path)
{
  std::ifstream file (path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf ();
  return text.str ();
}

/// `defaults` overlaid by the case's variables, and its messages: later members win.
std::string
variables_of (const simdjson::dom::element &defaults, const simdjson::dom::element &one_case)
{
  std::string merged = "{";
  const auto add = [&merged] (std::string_view key, const simdjson::dom::element &value) {
    if (merged.size () > 1)
      merged += ',';
    merged += '"' + std::string (key) + "\":" + simdjson::minify (value);
  };
  for (const auto member : simdjson::dom::object (defaults))
    add (member.key, member.value);
  for (const auto member : simdjson::dom::object (one_case["variables"]))
    add (member.key, member.value);
  add ("messages", one_case["messages"]);
  return merged + '}';
}

struct Outcome {
  std::string text;
  std::string error;
  bool is_raised = false;
};

Outcome
render (const std::string &source, const std::string &variables)
{
  Outcome outcome;
  try {
    outcome.text = ChatTemplate::compile (source)->render (variables, kNow);
  } catch (const ChatTemplateError &error) {
    outcome.error = "line " + std::to_string (error.line) + ": " + error.what ();
    outcome.is_raised = error.kind == ChatTemplateError::Kind::kRaised;
    if (outcome.is_raised)
      outcome.error = error.what ();
  }
  return outcome;
}

std::string
excerpt (const std::string &text, size_t at)
{
  return text.substr (at < 30 ? 0 : at - 30, 90);
}

} // namespace

TEST (ChatVectors, templates_of_public_models_render_as_the_reference_does)
{
  REQUIRE_ORACLES ("chat_templates");
  simdjson::dom::parser cases_parser;
  const simdjson::dom::element cases =
      cases_parser.load (oracle_path ("chat_templates/cases.json").string ());

  size_t strings = 0, equal = 0, raised = 0, raised_equal = 0, others = 0, others_fail = 0;
  std::map<std::string, size_t> failing_templates;
  for (const auto &file : std::filesystem::directory_iterator (oracle_path ("chat_templates/templates"))) {
    const std::string name = file.path ().stem ().string ();
    const std::string source = read_text (file.path ());
    simdjson::dom::parser expected_parser;
    const simdjson::dom::element expected =
        expected_parser.load (oracle_path ("chat_templates/expected/" + name + ".json").string ());
    for (const simdjson::dom::element one_case : cases["cases"].get_array ()) {
      const std::string case_name (one_case["name"].get_string ().value ());
      simdjson::dom::element wanted;
      if (expected[case_name].get (wanted))
        continue;
      const Outcome outcome = render (source, variables_of (cases["defaults"], one_case));
      if (wanted.is_string ()) {
        strings++;
        const std::string text (wanted.get_string ().value ());
        if (outcome.error.empty () && outcome.text == text) {
          equal++;
          continue;
        }
        failing_templates[name]++;
        const size_t at = static_cast<size_t> (
            std::mismatch (text.begin (), text.end (), outcome.text.begin (), outcome.text.end ()).first -
            text.begin ());
        std::cout << name << " / " << case_name << ": "
                  << (outcome.error.empty ()
                          ? "differs at byte " + std::to_string (at) + "\n  wanted: " + excerpt (text, at) +
                                "\n  got:    " + excerpt (outcome.text, at)
                          : outcome.error)
                  << '\n';
      } else if (wanted["type"].get_string ().value () == "TemplateError") {
        raised++;
        const std::string message (wanted["error"].get_string ().value ());
        if (outcome.is_raised && outcome.error == message)
          raised_equal++;
        else
          std::cout << name << " / " << case_name << ": wanted the template's error \"" << message
                    << "\", got " << (outcome.error.empty () ? "text" : outcome.error) << '\n';
      } else {
        others++;
        others_fail += !outcome.error.empty ();
      }
    }
  }
  std::cout << "strings " << equal << '/' << strings << ", template errors " << raised_equal << '/' << raised
            << ", Python errors that fail here too " << others_fail << '/' << others << '\n';
  for (const auto &[name, count] : failing_templates)
    std::cout << "  " << count << " failing: " << name << '\n';
  ASSERT_GT (strings, 2000u);
  EXPECT_GE (equal * 100, strings * 99) << equal << " of " << strings;
  EXPECT_EQ (raised_equal, raised);
}
