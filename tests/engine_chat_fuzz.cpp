// Broken templates give an error or some text, never a crash: mutations of real templates and of snippets.
// labels: property
// timeout: 240
#include "engine/chat/chat_template.hpp"
#include "tests/test_paths.hpp"

#include <simdjson.h>

#include <fstream>
#include <random>
#include <sstream>

using millrace::ChatTemplate;
using millrace::ChatTemplateError;

namespace
{

std::vector<std::string>
seeds ()
{
  std::vector<std::string> sources;
  simdjson::dom::parser parser;
  const simdjson::dom::element data = parser.load (source_path ("tests/data/chat/snippets.json").string ());
  for (const simdjson::dom::element one_case : data["cases"].get_array ())
    sources.emplace_back (one_case["template"].get_string ().value ());
  if (std::filesystem::exists (oracle_path ("chat_templates/templates"))) {
    for (const auto &file : std::filesystem::directory_iterator (oracle_path ("chat_templates/templates"))) {
      std::ifstream stream (file.path (), std::ios::binary);
      std::stringstream text;
      text << stream.rdbuf ();
      sources.push_back (text.str ());
    }
  }
  return sources;
}

/// What a mutation may put in: pieces that change what the template means.
const char *const kPieces[] = {"{{",          "}}",
                               "{%",          "%}",
                               "{#",          "#}",
                               "-",           "(",
                               ")",           "[",
                               "]",           "{",
                               "}",           "|",
                               ".",           ",",
                               "'",           "\"",
                               "\\",          "\n",
                               " is ",        " in ",
                               " not ",       " if ",
                               " or ",        "else",
                               "endif",       "endfor",
                               "loop",        "caller",
                               "none",        "-1",
                               "0",           "9**9",
                               "[::-1]",      "~",
                               "%",           "**",
                               "{% else %}",  "{% endfor %}",
                               "{% break %}", "{% set x = x %}",
                               "é",           "|list",
                               "|tojson",     "()"};

std::string
mutate (const std::string &source, const std::vector<std::string> &all, std::mt19937_64 &random)
{
  std::string text = source;
  const auto pick = [&] (size_t below) { return static_cast<size_t> (random () % (below ? below : 1)); };
  for (size_t changes = 1 + pick (4); changes-- > 0;) {
    const size_t at = pick (text.size () + 1);
    switch (pick (6)) {
    case 0:
      text.erase (at, pick (12));
      break;
    case 1:
      text.insert (at, kPieces[pick (std::size (kPieces))]);
      break;
    case 2:
      text.insert (at, text.substr (pick (text.size ()), pick (60)));
      break;
    case 3: {
      const std::string &other = all[pick (all.size ())];
      text.insert (at, other.substr (pick (other.size ()), pick (80)));
      break;
    }
    case 4:
      if (at < text.size ())
        text[at] = static_cast<char> (random ());
      break;
    default:
      text.resize (at);
    }
  }
  return text;
}

} // namespace

TEST (ChatFuzz, broken_templates_never_crash)
{
  const char *given = std::getenv ("MILLRACE_FUZZ_SEED");
  const uint64_t seed = given ? std::stoull (given) : 20260115;
  const char *rounds_given = std::getenv ("MILLRACE_FUZZ_ROUNDS");
  const size_t rounds = rounds_given ? std::stoul (rounds_given) : 6000;
  std::cout << "seed " << seed << '\n';
  std::mt19937_64 random (seed);
  const auto sources = seeds ();
  const std::string variables =
      R"({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "hé"},
    {"role": "assistant", "content": "<think>x</think>y", "tool_calls": [{"type": "function", "id": "123456789",
      "function": {"name": "f", "arguments": {"a": 1.5, "b": [null, true]}}}]}, {"role": "tool", "content": "r"}],
    "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object",
      "properties": {"a": {"type": "number"}}, "required": ["a"]}}}],
    "add_generation_prompt": true, "bos_token": "<s>", "eos_token": "</s>", "documents": null, "l": [3, 1, 2],
    "s": "Hello World", "d": {"x": 1, "y": {"z": "q"}}, "a": 1, "b": 2.5, "n": null, "users": [{"name": "Bob"}]})";
  millrace::RenderLimits limits;
  limits.operations = 200'000;
  limits.memory_bytes = 8 << 20;
  limits.output_bytes = 1 << 20;
  size_t rendered = 0, refused = 0, failed = 0;
  for (size_t i = 0; i < rounds; i++) {
    const std::string source = mutate (sources[random () % sources.size ()], sources, random);
    std::shared_ptr<const ChatTemplate> compiled;
    try {
      compiled = ChatTemplate::compile (source);
    } catch (const ChatTemplateError &error) {
      EXPECT_EQ (error.kind, ChatTemplateError::Kind::kSyntax) << source;
      refused++;
      continue;
    }
    try {
      const std::string text = compiled->render (variables, 1768473000, limits);
      EXPECT_LE (text.size (), limits.output_bytes);
      EXPECT_EQ (compiled->render (variables, 1768473000, limits), text)
          << "rendering twice differs: " << source;
      rendered++;
    } catch (const ChatTemplateError &error) {
      EXPECT_NE (error.kind, ChatTemplateError::Kind::kSyntax) << source;
      failed++;
    }
  }
  std::cout << rendered << " rendered, " << failed << " failed, " << refused << " refused\n";
  EXPECT_GT (rendered, rounds / 20);
  EXPECT_GT (refused, rounds / 20);
}
