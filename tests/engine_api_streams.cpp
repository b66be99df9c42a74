// Streams and bodies of random answers: all of it valid JSON, and the same text however it was cut and interleaved.
//
// labels: unit property http
#include "engine/api/parse.hpp"
#include "engine/api/reply_writer.hpp"
#include "tests/seed.hpp"

#include <gtest/gtest.h>
#include <simdjson.h>

#include <map>

using namespace millrace;

namespace
{

using simdjson::dom::element;

struct Parts {
  std::string reasoning, content;
  bool operator== (const Parts &) const = default;
};

std::ostream &
operator<< (std::ostream &out, const Parts &parts)
{
  return out << "reasoning \"" << parts.reasoning << "\", content \"" << parts.content << '"';
}

struct Answer {
  std::vector<std::string> characters; ///< or longer pieces: where it may be cut
  bool starts_thinking = false;
  FinishReason finish = FinishReason::kStop;
};

using Random = std::mt19937_64;

size_t
below (Random &random, size_t n)
{
  return static_cast<size_t> (random () % n);
}

Answer
random_answer (Random &random)
{
  static const std::vector<std::string> kPieces = {"a",  "b",       " ",        "\n", "é",     "漢",     "😀",
                                                   "\"", "\\",      "\x01",     "\t", "\x7f",  "\u2028", "/",
                                                   "<",  "<think>", "</think>", "}",  "data:", "\r"};
  static constexpr FinishReason kEnds[] = {FinishReason::kStop, FinishReason::kLength, FinishReason::kTimeout,
                                           FinishReason::kCancelled};
  Answer answer;
  answer.starts_thinking = below (random, 4) == 0;
  answer.finish = kEnds[below (random, 4)];
  if (below (random, 3) == 0)
    answer.characters.push_back ("<think>");
  for (size_t i = below (random, 30); i > 0; i--)
    answer.characters.push_back (kPieces[below (random, kPieces.size ())]);
  return answer;
}

/// Everything that a writer says, with each answer cut into pieces of at most `longest` characters.
std::string
written (const ApiRequest &request, const std::vector<Answer> &answers, size_t longest, bool tokens,
         Random &random)
{
  const auto writer = ReplyWriter::create (request, {"id\"1", 1700000000});
  std::string out;
  writer->begin (out);
  std::vector<size_t> at (answers.size (), 0);
  std::vector<size_t> open;
  for (size_t i = 0; i < answers.size (); i++)
    open.push_back (i);
  while (!open.empty ()) {
    const size_t chosen = below (random, open.size ());
    const size_t index = open[chosen];
    const Answer &answer = answers[index];
    std::string text;
    std::vector<TokenText> token_texts;
    for (size_t n = longest ? below (random, longest + 1) : SIZE_MAX;
         n > 0 && at[index] < answer.characters.size (); n--) {
      const std::string &piece = answer.characters[at[index]++];
      text += piece;
      TokenText token{piece, piece, 1, -1.25F, {}};
      token.top = {token, {"z", "z", 2, -2, {}}};
      token_texts.push_back (token);
    }
    GenerationDelta delta;
    delta.index = static_cast<int> (index);
    delta.text = text;
    delta.starts_thinking = answer.starts_thinking;
    if (tokens)
      delta.tokens = token_texts;
    if (at[index] == answer.characters.size () && (longest == 0 || below (random, 2))) {
      delta.finish = answer.finish;
      delta.usage = {10 + static_cast<int> (index), static_cast<int> (answer.characters.size ())};
      delta.cached_tokens = static_cast<int> (index);
      delta.total_us = 100;
      open.erase (open.begin () + static_cast<ptrdiff_t> (chosen));
    }
    writer->deliver (delta, out);
    if (below (random, 4) == 0)
      out += writer->keep_alive ();
  }
  EXPECT_TRUE (writer->ended ());
  return out;
}

/// The JSON texts of a stream, whose frame must be exact.
std::vector<std::string>
payloads (const std::string &stream, bool lines)
{
  std::vector<std::string> out;
  const std::string_view separator = lines ? "\n" : "\n\n";
  for (size_t at = 0; at < stream.size ();) {
    const size_t end = stream.find (separator, at);
    if (end == std::string::npos) {
      ADD_FAILURE () << "unterminated: " << stream.substr (at);
      break;
    }
    std::string event = stream.substr (at, end - at);
    at = end + separator.size ();
    if (event == ": keep-alive" || event == "data: [DONE]")
      continue;
    if (!lines) {
      std::string type;
      if (event.rfind ("event: ", 0) == 0) {
        type = event.substr (7, event.find ('\n') - 7);
        event.erase (0, event.find ('\n') + 1);
        EXPECT_NE (event.find ("\"type\":\"" + type + "\""), std::string::npos) << event;
      }
      EXPECT_EQ (event.rfind ("data: ", 0), 0u) << event;
      event.erase (0, 6);
    }
    EXPECT_EQ (event.find_first_of ("\n\r"), std::string::npos) << event;
    out.push_back (event);
  }
  return out;
}

std::string
text_at (const element &json, const char *pointer)
{
  std::string_view text;
  return json.at_pointer (pointer).get (text) ? std::string () : std::string (text);
}

int64_t
number_at (const element &json, const char *pointer)
{
  int64_t number = -1;
  return json.at_pointer (pointer).get (number) ? -1 : number;
}

/// What a stream's client puts together.
std::map<int64_t, Parts>
streamed (Dialect dialect, const std::string &stream)
{
  std::map<int64_t, Parts> out;
  const bool ollama = dialect == Dialect::kOllamaChat || dialect == Dialect::kOllamaGenerate;
  simdjson::dom::parser parser;
  int64_t sequence = 0;
  for (const std::string &payload : payloads (stream, ollama)) {
    element json;
    EXPECT_FALSE (parser.parse (payload).get (json)) << payload;
    const std::string type = text_at (json, "/type");
    if (dialect == Dialect::kChat || dialect == Dialect::kCompletion) {
      const int64_t index = number_at (json, "/choices/0/index");
      if (index < 0)
        continue; // usage
      out[index].content +=
          text_at (json, dialect == Dialect::kChat ? "/choices/0/delta/content" : "/choices/0/text");
      out[index].reasoning += text_at (json, "/choices/0/delta/reasoning_content");
    } else if (ollama) {
      out[0].content += text_at (json, dialect == Dialect::kOllamaChat ? "/message/content" : "/response");
      out[0].reasoning += text_at (json, dialect == Dialect::kOllamaChat ? "/message/thinking" : "/thinking");
    } else if (dialect == Dialect::kMessages) {
      out[0].content += text_at (json, "/delta/text");
      out[0].reasoning += text_at (json, "/delta/thinking");
    } else {
      EXPECT_EQ (number_at (json, "/sequence_number"), sequence++) << payload;
      if (type == "response.output_text.delta")
        out[0].content += text_at (json, "/delta");
      else if (type == "response.reasoning_text.delta")
        out[0].reasoning += text_at (json, "/delta");
      const bool done = type == "response.output_text.done";
      EXPECT_TRUE (!done || text_at (json, "/text") == out[0].content) << payload;
    }
  }
  return out;
}

/// What is in a body.
std::map<int64_t, Parts>
collected (Dialect dialect, const std::string &body)
{
  std::map<int64_t, Parts> out;
  simdjson::dom::parser parser;
  element json;
  EXPECT_FALSE (parser.parse (body).get (json)) << body;
  simdjson::dom::array entries;
  if (!json["choices"].get (entries)) {
    for (const element choice : entries) {
      Parts &parts = out[number_at (choice, "/index")];
      parts = {text_at (choice, "/message/reasoning_content"),
               text_at (choice, dialect == Dialect::kChat ? "/message/content" : "/text")};
    }
  } else if (!json["content"].get (entries)) {
    out[0];
    for (const element block : entries) {
      out[0].reasoning += text_at (block, "/thinking");
      out[0].content += text_at (block, "/text");
    }
  } else if (!json["output"].get (entries)) {
    for (const element item : entries)
      (text_at (item, "/type") == "reasoning" ? out[0].reasoning : out[0].content) +=
          text_at (item, "/content/0/text");
  } else if (dialect == Dialect::kOllamaChat) {
    out[0] = {text_at (json, "/message/thinking"), text_at (json, "/message/content")};
  } else {
    out[0] = {text_at (json, "/thinking"), text_at (json, "/response")};
  }
  return out;
}

struct Route {
  Dialect dialect;
  const char *body;   ///< without its closing brace
  bool many;          ///< takes n
  const char *tokens; ///< asks for log-probabilities; null: cannot
};

constexpr Route kRoutes[] = {
    {Dialect::kChat, R"({"messages":[{"role":"user","content":"x"}])", true,
     R"(,"logprobs":true,"top_logprobs":2)"},
    {Dialect::kCompletion, R"({"prompt":["x","y"])", true, R"(,"logprobs":2)"},
    {Dialect::kResponses, R"({"input":"x","metadata":{"a":"\"é"})", false, nullptr},
    {Dialect::kMessages, R"({"max_tokens":5,"messages":[{"role":"user","content":"x"}])", false, nullptr},
    {Dialect::kOllamaChat, R"({"messages":[{"role":"user","content":"x"}])", false, R"(,"logprobs":true)"},
    {Dialect::kOllamaGenerate, R"({"prompt":"x")", false, R"(,"logprobs":true)"},
};

} // namespace

TEST (ApiStreams, text_is_the_same_however_it_is_cut)
{
  Random random (test_seed ());
  const int rounds = test_rounds (3000);
  for (int round = 0; round < rounds; round++) {
    const Route &route = kRoutes[below (random, std::size (kRoutes))];
    std::string body = route.body;
    if (route.many && below (random, 2))
      body += ",\"n\":" + std::to_string (1 + below (random, 4));
    const bool tokens = route.tokens && below (random, 2);
    if (tokens)
      body += route.tokens;
    const char *const usage =
        route.many && below (random, 2) ? R"(,"stream_options":{"include_usage":true})" : "";
    ApiRequest whole, stream;
    const ApiLimits limits = {{"m\"é"}, 128, true};
    ASSERT_FALSE (parse_api_request (route.dialect, body + ",\"stream\":false}", limits, 0, whole)) << body;
    ASSERT_FALSE (
        parse_api_request (route.dialect, body + ",\"stream\":true" + usage + "}", limits, 0, stream))
        << body;
    std::vector<Answer> answers;
    for (size_t i = 0; i < whole.generations.size (); i++)
      answers.push_back (random_answer (random));

    const std::string at_once = written (whole, answers, 0, tokens, random);
    EXPECT_EQ (written (whole, answers, 1 + below (random, 5), tokens, random), at_once);
    const auto parts = collected (route.dialect, at_once);
    EXPECT_EQ (parts.size (), answers.size ());
    EXPECT_EQ (streamed (route.dialect, written (stream, answers, 1 + below (random, 5), tokens, random)),
               parts)
        << at_once;
    if (::testing::Test::HasFailure ())
      return;
  }
}
