// Bodies and streams, byte for byte, in each dialect.
//
// labels: unit http
#include "engine/api/parse.hpp"
#include "engine/api/reply_writer.hpp"

#include <gtest/gtest.h>
#include <simdjson.h>

#include <cmath>
#include <limits>

using namespace millrace;

namespace
{

const ReplyIdentity kIdentity = {"1", 1700000000};

ApiRequest
request (Dialect dialect, const std::string &body)
{
  ApiRequest out;
  const ApiError error = parse_api_request (dialect, body, {{"demo"}, 128, true}, 0, out);
  EXPECT_FALSE (error) << body << "\n" << error.message;
  return out;
}

struct News {
  std::string_view text;
  int index = 0;
  FinishReason finish = FinishReason::kNone;
  std::vector<TokenText> tokens = {};
  std::string_view stop_string = {};
};

/// All generations have 7 tokens in their prompt, 3 of them cached, and 5 in their answer.
std::string
reply (Dialect dialect, const std::string &body, const std::vector<News> &all)
{
  const auto writer = ReplyWriter::create (request (dialect, body), kIdentity);
  std::string out;
  writer->begin (out);
  for (const News &news : all) {
    EXPECT_FALSE (writer->ended ());
    GenerationDelta delta;
    delta.index = news.index;
    delta.text = news.text;
    delta.tokens = news.tokens;
    delta.finish = news.finish;
    delta.stop_string = news.stop_string;
    if (news.finish != FinishReason::kNone) {
      delta.usage = {7, 5};
      delta.cached_tokens = 3;
      delta.accepted_drafts = 2;
      delta.rejected_drafts = 1;
      delta.queued_us = 500;
      delta.prompt_us = 1500;
      delta.total_us = 5000;
    }
    writer->deliver (delta, out);
  }
  EXPECT_TRUE (writer->ended ());
  const std::string before = out;
  GenerationDelta late;
  late.text = "late";
  writer->deliver (late, out);
  writer->abort (invalid_request ("", "late"), out);
  EXPECT_EQ (out, before);
  return out;
}

const std::vector<News> kHello = {{"Hel"}, {"lo", 0, FinishReason::kStop}};
const std::vector<News> kThought = {{"<think>hm"}, {"</think>\n\nyes"}, {"", 0, FinishReason::kLength}};
const std::vector<News> kTokens = {
    {"a",
     0,
     FinishReason::kNone,
     {{"a", "a", 1, -0.5F, {{"a", "a", 1, -0.5F, {}}, {"é", "é", 2, -1.5F, {}}}}}},
    {"", 0, FinishReason::kStop, {{"\xef\xbf\xbd", "\xc3", 3, -INFINITY, {}}}}};

#define CHAT R"({"messages":[{"role":"user","content":"hi"}])"
#define CHAT_HEAD                                                                                            \
  R"({"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"demo","system_fingerprint":null,)"
#define CHUNK                                                                                                \
  R"(data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"demo","system_fingerprint":null,"choices":[)"
#define USAGE                                                                                                \
  R"("usage":{"prompt_tokens":7,"completion_tokens":5,"total_tokens":12,"prompt_tokens_details":{"cached_tokens":3},"completion_tokens_details":{"reasoning_tokens":0,"accepted_prediction_tokens":2,"rejected_prediction_tokens":1}})"
/// Nobody has said how many tokens were reasoning.
#define USAGE_THOUGHT                                                                                        \
  R"("usage":{"prompt_tokens":7,"completion_tokens":5,"total_tokens":12,"prompt_tokens_details":{"cached_tokens":3},"completion_tokens_details":{"accepted_prediction_tokens":2,"rejected_prediction_tokens":1}})"
#define TEXT                                                                                                 \
  R"({"id":"cmpl-1","object":"text_completion","created":1700000000,"model":"demo","system_fingerprint":null,"choices":[)"

} // namespace

TEST (ApiWriters, chat)
{
  EXPECT_EQ (reply (Dialect::kChat, CHAT "}", kHello), CHAT_HEAD
             R"("choices":[{"index":0,"message":{"role":"assistant","content":"Hello","refusal":null},)"
             R"("logprobs":null,"finish_reason":"stop"}],)" USAGE "}");
  EXPECT_EQ (
      reply (Dialect::kChat, CHAT "}", kThought), CHAT_HEAD
      R"("choices":[{"index":0,"message":{"role":"assistant","content":"yes","reasoning_content":"hm",)"
      R"("refusal":null},"logprobs":null,"finish_reason":"length"}],)" USAGE_THOUGHT "}");
  EXPECT_EQ (
      reply (Dialect::kChat, CHAT R"(,"logprobs":true,"top_logprobs":2})", kTokens), CHAT_HEAD
      R"("choices":[{"index":0,"message":{"role":"assistant","content":"a","refusal":null},"logprobs":{"content":[)"
      R"({"token":"a","logprob":-0.5,"bytes":[97],"top_logprobs":[{"token":"a","logprob":-0.5,"bytes":[97]},)"
      R"({"token":"é","logprob":-1.5,"bytes":[195,169]}]},)"
      "{\"token\":\"\xef\xbf\xbd\",\"logprob\":-9999.0,\"bytes\":[195],\"top_logprobs\":[]}"
      R"(],"refusal":null},"finish_reason":"stop"}],)" USAGE "}");
}

TEST (ApiWriters, chat_stream)
{
  EXPECT_EQ (reply (Dialect::kChat, CHAT R"(,"stream":true})", kHello), CHUNK
             R"({"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]})"
             "\n\n" CHUNK R"({"index":0,"delta":{"content":"Hel"},"logprobs":null,"finish_reason":null}]})"
             "\n\n" CHUNK R"({"index":0,"delta":{"content":"lo"},"logprobs":null,"finish_reason":null}]})"
             "\n\n" CHUNK R"({"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]})"
             "\n\ndata: [DONE]\n\n");
  EXPECT_EQ (
      reply (Dialect::kChat, CHAT R"(,"stream":true,"stream_options":{"include_usage":true}})", kThought),
      CHUNK
      R"({"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":null})"
      "\n\n" CHUNK
      R"({"index":0,"delta":{"reasoning_content":"hm"},"logprobs":null,"finish_reason":null}],"usage":null})"
      "\n\n" CHUNK
      R"({"index":0,"delta":{"content":"yes"},"logprobs":null,"finish_reason":null}],"usage":null})"
      "\n\n" CHUNK R"({"index":0,"delta":{},"logprobs":null,"finish_reason":"length"}],"usage":null})"
      "\n\n" CHUNK "]," USAGE_THOUGHT "}\n\ndata: [DONE]\n\n");
  EXPECT_EQ (
      reply (Dialect::kChat, CHAT R"(,"stream":true,"logprobs":true})", kTokens), CHUNK
      R"({"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]})"
      "\n\n" CHUNK
      R"({"index":0,"delta":{"content":"a"},"logprobs":{"content":[{"token":"a","logprob":-0.5,"bytes":[97],)"
      R"("top_logprobs":[{"token":"a","logprob":-0.5,"bytes":[97]},{"token":"é","logprob":-1.5,"bytes":[195,169]}]}],)"
      R"("refusal":null},"finish_reason":null}]})"
      "\n\n" CHUNK
      "{\"index\":0,\"delta\":{\"content\":\"\"},\"logprobs\":{\"content\":[{\"token\":\"\xef\xbf\xbd\","
      R"("logprob":-9999.0,"bytes":[195],"top_logprobs":[]}],"refusal":null},"finish_reason":null}]})"
      "\n\n" CHUNK R"({"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]})"
      "\n\ndata: [DONE]\n\n");
}

TEST (ApiWriters, choices_in_order_however_they_come)
{
  const std::vector<News> news = {
      {"b", 1}, {"a", 0}, {"B", 1, FinishReason::kStop}, {"A", 0, FinishReason::kTimeout}};
  EXPECT_EQ (
      reply (Dialect::kChat, CHAT R"(,"n":2})", news), CHAT_HEAD
      R"("choices":[{"index":0,"message":{"role":"assistant","content":"aA","refusal":null},)"
      R"("logprobs":null,"finish_reason":"timeout"},{"index":1,"message":{"role":"assistant","content":"bB",)"
      R"("refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":7,)"
      R"("completion_tokens":10,"total_tokens":17,"prompt_tokens_details":{"cached_tokens":3},"completion_tokens_details":{)"
      R"("reasoning_tokens":0,"accepted_prediction_tokens":4,"rejected_prediction_tokens":2}}})");
  const std::string stream = reply (Dialect::kChat, CHAT R"(,"n":2,"stream":true})", news);
  EXPECT_NE (stream.find (R"("index":1,"delta":{"role":"assistant","content":""})"), std::string::npos);
  EXPECT_NE (stream.find (R"("index":0,"delta":{},"logprobs":null,"finish_reason":"timeout"}]})"
                          "\n\ndata: [DONE]\n\n"),
             std::string::npos);
}

TEST (ApiWriters, completions)
{
  EXPECT_EQ (reply (Dialect::kCompletion, R"({"prompt":"say \"","echo":true})", kHello),
             TEXT R"({"index":0,"text":"say \"Hello","logprobs":null,"finish_reason":"stop"}],)" USAGE "}");
  EXPECT_EQ (
      reply (Dialect::kCompletion, R"({"prompt":"x"})", kThought),
      TEXT R"({"index":0,"text":"<think>hm</think>\n\nyes","logprobs":null,"finish_reason":"length"}],)" USAGE
           "}");
  EXPECT_EQ (reply (Dialect::kCompletion, R"({"prompt":["x","y"],"stream":true,"echo":true})",
                    {{"b", 1, FinishReason::kStop}, {"a", 0, FinishReason::kStop}}),
             "data: " TEXT R"({"index":0,"text":"x","logprobs":null,"finish_reason":null}]})"
             "\n\ndata: " TEXT R"({"index":1,"text":"y","logprobs":null,"finish_reason":null}]})"
             "\n\ndata: " TEXT R"({"index":1,"text":"b","logprobs":null,"finish_reason":null}]})"
             "\n\ndata: " TEXT R"({"index":1,"text":"","logprobs":null,"finish_reason":"stop"}]})"
             "\n\ndata: " TEXT R"({"index":0,"text":"a","logprobs":null,"finish_reason":null}]})"
             "\n\ndata: " TEXT R"({"index":0,"text":"","logprobs":null,"finish_reason":"stop"}]})"
             "\n\ndata: [DONE]\n\n");
  const std::string logprobs =
      "{\"tokens\":[\"a\",\"\xef\xbf\xbd\"],\"token_logprobs\":[-0.5,-9999.0],"
      "\"top_logprobs\":[{\"a\":-0.5,\"é\":-1.5},{\"\xef\xbf\xbd\":-9999.0}],\"text_offset\":[0,1]}";
  EXPECT_EQ (reply (Dialect::kCompletion, R"({"prompt":"x","logprobs":2})", kTokens),
             TEXT R"({"index":0,"text":"a","logprobs":)" + logprobs +
                 R"(,"finish_reason":"stop"}],)" USAGE "}");
  const std::string stream =
      reply (Dialect::kCompletion, R"({"prompt":"x","logprobs":2,"stream":true})", kTokens);
  EXPECT_NE (stream.find ("\"text_offset\":[1]"), std::string::npos) << stream;
}

TEST (ApiWriters, prompts_are_counted_once)
{
  const std::string body = reply (Dialect::kCompletion, R"({"prompt":["x","y"],"n":2})",
                                  {{"", 3, FinishReason::kStop},
                                   {"", 1, FinishReason::kStop},
                                   {"", 0, FinishReason::kStop},
                                   {"", 2, FinishReason::kStop}});
  EXPECT_NE (
      body.find (
          R"("prompt_tokens":14,"completion_tokens":20,"total_tokens":34,"prompt_tokens_details":{"cached_tokens":6})"),
      std::string::npos)
      << body;
}

TEST (ApiWriters, embeddings)
{
  const std::vector<float> first = {1.0F, -0.5F, 0.1F}, second = {2.0F};
  const auto embed = [&] (const char *body) {
    const auto writer = ReplyWriter::create (request (Dialect::kEmbedding, body), kIdentity);
    std::string out;
    writer->begin (out);
    GenerationDelta delta;
    delta.index = 1;
    delta.embedding = second;
    delta.finish = FinishReason::kStop;
    delta.usage = {2, 0};
    writer->deliver (delta, out);
    EXPECT_EQ (out, "");
    delta.index = 0;
    delta.embedding = first;
    delta.usage = {3, 0};
    writer->deliver (delta, out);
    EXPECT_TRUE (writer->ended ());
    EXPECT_STREQ (writer->content_type (), "application/json");
    return out;
  };
  EXPECT_EQ (
      embed (R"({"input":["a","b"]})"),
      R"({"object":"list","data":[{"object":"embedding","index":0,"embedding":[1,-0.5,0.1]},)"
      R"({"object":"embedding","index":1,"embedding":[2]}],"model":"demo","usage":{"prompt_tokens":5,"total_tokens":5}})");
  EXPECT_EQ (
      embed (R"({"input":["a","b"],"encoding_format":"base64"})"),
      R"({"object":"list","data":[{"object":"embedding","index":0,"embedding":"AACAPwAAAL/NzMw9"},)"
      R"({"object":"embedding","index":1,"embedding":"AAAAQA=="}],"model":"demo","usage":{"prompt_tokens":5,"total_tokens":5}})");
}

TEST (ApiWriters, ollama)
{
#define LINE R"({"model":"demo","created_at":"2023-11-14T22:13:20Z",)"
#define END(reason)                                                                                          \
  R"("done":true,"done_reason":")" reason                                                                    \
  R"(","total_duration":5000000,"load_duration":0,"prompt_eval_count":7,"prompt_eval_duration":1000000,"eval_count":5,"eval_duration":3500000})"
  EXPECT_EQ (reply (Dialect::kOllamaChat, CHAT "}", kThought),
             LINE R"("message":{"role":"assistant","content":"","thinking":"hm"},"done":false})"
                  "\n" LINE R"("message":{"role":"assistant","content":"yes"},"done":false})"
                  "\n" LINE R"("message":{"role":"assistant","content":""},)" END ("length") "\n");
  EXPECT_EQ (reply (Dialect::kOllamaChat, CHAT R"(,"stream":false})", kThought),
             LINE R"("message":{"role":"assistant","content":"yes","thinking":"hm"},)" END ("length"));
  EXPECT_EQ (reply (Dialect::kOllamaGenerate, R"({"prompt":"x","raw":true})", kHello),
             LINE R"("response":"Hel","done":false})"
                  "\n" LINE R"("response":"lo","done":false})"
                  "\n" LINE R"("response":"",)" END ("stop") "\n");
  EXPECT_EQ (reply (Dialect::kOllamaGenerate, R"({"prompt":"x","stream":false})", kThought),
             LINE R"("response":"yes","thinking":"hm",)" END ("length"));
}

TEST (ApiWriters, anthropic)
{
  const std::string chat = R"({"max_tokens":5,"messages":[{"role":"user","content":"hi"}])";
  const std::string head = R"({"id":"msg_1","type":"message","role":"assistant","model":"demo","content":[)";
  const std::string usage =
      R"("usage":{"input_tokens":4,"cache_creation_input_tokens":0,"cache_read_input_tokens":3,"output_tokens":5})";
  EXPECT_EQ (reply (Dialect::kMessages, chat + "}", kHello),
             head + R"({"type":"text","text":"Hello"}],"stop_reason":"end_turn","stop_sequence":null,)" +
                 usage + "}");
  EXPECT_EQ (reply (Dialect::kMessages, chat + "}", kThought),
             head +
                 R"({"type":"thinking","thinking":"hm","signature":""},{"type":"text","text":"yes"}],)"
                 R"("stop_reason":"max_tokens","stop_sequence":null,)" +
                 usage + "}");
  EXPECT_EQ (reply (Dialect::kMessages, chat + "}", {{"a", 0, FinishReason::kStop, {}, "\n\n"}}),
             head + R"({"type":"text","text":"a"}],"stop_reason":"stop_sequence","stop_sequence":"\n\n",)" +
                 usage + "}");
  EXPECT_EQ (
      reply (Dialect::kMessages, chat + R"(,"stream":true})", kThought),
      "event: message_start\ndata: {\"type\":\"message_start\",\"message\":" + head +
          R"(],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":0,"cache_creation_input_tokens":0,)"
          R"("cache_read_input_tokens":0,"output_tokens":0}}})"
          "\n\nevent: content_block_start\ndata: "
          R"({"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}})"
          "\n\nevent: content_block_delta\ndata: "
          R"({"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}})"
          "\n\nevent: content_block_stop\ndata: "
          R"({"type":"content_block_stop","index":0})"
          "\n\nevent: content_block_start\ndata: "
          R"({"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}})"
          "\n\nevent: content_block_delta\ndata: "
          R"({"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"yes"}})"
          "\n\nevent: content_block_stop\ndata: "
          R"({"type":"content_block_stop","index":1})"
          "\n\nevent: message_delta\ndata: "
          R"({"type":"message_delta","delta":{"stop_reason":"max_tokens","stop_sequence":null},)" +
          usage + "}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
}

TEST (ApiWriters, responses)
{
  const std::string members =
      R"("store":false,"text":{"format":{"type":"text"}},"instructions":"be","max_output_tokens":9,"metadata":{"k":"v"},)"
      R"("parallel_tool_calls":true,"temperature":null,"top_p":null,"top_logprobs":0,"tool_choice":"auto","truncation":"disabled",)"
      R"("previous_response_id":null,"user":null,"prompt_cache_key":null,"safety_identifier":null,"max_tool_calls":null,)"
      R"("service_tier":"default","tools":[],"reasoning":{"effort":null,"summary":null},)";
  const auto head = [] (const char *status, const char *incomplete) {
    return std::string (R"({"id":"resp_1","object":"response","created_at":1700000000,"status":")") + status +
           R"(","background":false,"error":null,"incomplete_details":)" + incomplete +
           R"(,"model":"demo","output":[)";
  };
  const auto message = [] (const std::string &text) {
    return R"({"id":"msg_1","type":"message","role":"assistant","status":"completed","content":[{"type":"output_text","text":")" +
           text + R"(","annotations":[],"logprobs":[]}]})";
  };
  const std::string usage =
      R"("usage":{"input_tokens":7,"input_tokens_details":{"cached_tokens":3,"cache_write_tokens":0},"output_tokens":5,)"
      R"("output_tokens_details":{"reasoning_tokens":0},"total_tokens":12}})";
  const std::string body = R"({"input":"hi","instructions":"be","max_output_tokens":9,"metadata":{"k":"v"})";
  const std::string whole = head ("completed", "null") + message ("Hello") + "]," + members + usage;
  EXPECT_EQ (reply (Dialect::kResponses, body + "}", kHello), whole);

  int sequence = 0;
  const auto event = [&sequence] (const std::string &type, const std::string &rest) {
    return "event: " + type + "\ndata: {\"type\":\"" + type +
           "\",\"sequence_number\":" + std::to_string (sequence++) + "," + rest + "}\n\n";
  };
  const std::string started =
      "\"response\":" + head ("in_progress", "null") + "]," + members + "\"usage\":null}";
  const std::string place = R"("item_id":"msg_1","output_index":0,"content_index":0,)";
  std::string expected = event ("response.created", started);
  expected += event ("response.in_progress", started);
  expected += event (
      "response.output_item.added",
      R"("output_index":0,"item":{"id":"msg_1","type":"message","role":"assistant","status":"in_progress","content":[]})");
  expected += event ("response.content_part.added",
                     place + R"("part":{"type":"output_text","text":"","annotations":[],"logprobs":[]})");
  expected += event ("response.output_text.delta", place + R"("delta":"Hel","logprobs":[])");
  expected += event ("response.output_text.delta", place + R"("delta":"lo","logprobs":[])");
  expected += event ("response.output_text.done", place + R"("text":"Hello","logprobs":[])");
  expected +=
      event ("response.content_part.done",
             place + R"("part":{"type":"output_text","text":"Hello","annotations":[],"logprobs":[]})");
  expected += event ("response.output_item.done", R"("output_index":0,"item":)" + message ("Hello"));
  expected += event ("response.completed", "\"response\":" + whole);
  EXPECT_EQ (reply (Dialect::kResponses, body + R"(,"stream":true})", kHello), expected);

  const std::string thought = reply (Dialect::kResponses, R"({"input":"hi","stream":true})", kThought);
  const char *const order[] = {"response.created",
                               "response.in_progress",
                               "response.output_item.added",
                               "response.content_part.added",
                               "response.reasoning_text.delta",
                               "response.reasoning_text.done",
                               "response.content_part.done",
                               "response.output_item.done",
                               "response.output_item.added",
                               "response.content_part.added",
                               "response.output_text.delta",
                               "response.output_text.done",
                               "response.content_part.done",
                               "response.output_item.done",
                               "response.incomplete"};
  size_t at = 0;
  for (const char *const type : order) {
    const std::string line = "event: " + std::string (type) + "\n";
    ASSERT_EQ (thought.compare (at, line.size (), line), 0) << thought.substr (at);
    at = thought.find ("\n\n", at) + 2;
  }
  EXPECT_EQ (at, thought.size ());
  EXPECT_NE (thought.find (R"("incomplete_details":{"reason":"max_output_tokens"})"), std::string::npos);
  EXPECT_NE (thought.find (R"("item":{"id":"rs_1","type":"reasoning","summary":[],"status":"completed",)"
                           R"("content":[{"type":"reasoning_text","text":"hm"}]})"),
             std::string::npos)
      << thought;
}

TEST (ApiWriters, reasoning_of_a_response_is_counted_when_tokens_are)
{
  const std::tuple<std::vector<const char *>, bool, const char *> cases[] = {
      {{"<think>", "a", "b", "</think>", "\n", "c", ""},
       true,
       R"("output_tokens_details":{"reasoning_tokens":5})"},
      {{"<think>", "a", ""}, true, R"("output_tokens_details":{"reasoning_tokens":3})"},
      {{"<think>", "a", "</think>b", ""}, false, R"("output_tokens":4,"total_tokens")"},
      {{"a", "b"}, true, R"("output_tokens_details":{"reasoning_tokens":0})"},
      {{"a", "b"}, false, R"("output_tokens_details":{"reasoning_tokens":0})"},
  };
  for (const auto &[texts, told, expected] : cases) {
    const auto writer = ReplyWriter::create (request (Dialect::kResponses, R"({"input":"x"})"), kIdentity);
    std::string out;
    for (size_t i = 0; i < texts.size (); i++) {
      GenerationDelta delta;
      delta.text = texts[i];
      delta.finish = i + 1 == texts.size () ? FinishReason::kStop : FinishReason::kNone;
      delta.usage = {3, told || i + 1 == texts.size () ? static_cast<int> (i) + 1 : 0};
      writer->deliver (delta, out);
    }
    EXPECT_NE (out.find (expected), std::string::npos) << out;
  }
}

TEST (ApiWriters, log_probabilities_of_a_response_are_those_of_its_message)
{
  const auto token = [] (const char *text) { return std::vector<TokenText>{{text, text, 1, -1, {}}}; };
  const std::vector<News> news = {{"<think>", 0, FinishReason::kNone, token ("<think>")},
                                  {"hm", 0, FinishReason::kNone, token ("hm")},
                                  {"</think>", 0, FinishReason::kNone, token ("</think>")},
                                  {"\n", 0, FinishReason::kNone, token ("\n")},
                                  {"yes", 0, FinishReason::kNone, token ("yes")},
                                  {"", 0, FinishReason::kStop, token ("<end>")}};
  const std::string body = R"({"input":"x","include":["message.output_text.logprobs"])";
  for (const char *const stream : {"}", ",\"stream\":true}"}) {
    const std::string out = reply (Dialect::kResponses, body + stream, news);
    EXPECT_EQ (out.find (R"("token":"hm")"), std::string::npos) << out;
    const size_t last = out.rfind ("\"output_text\"");
    EXPECT_NE (out.find (R"("token":"yes")", last), std::string::npos) << out;
    EXPECT_NE (out.find (R"("token":"<end>")", last), std::string::npos) << out;
  }
}

TEST (ApiWriters, errors)
{
  const RequestError full{"queue_full", "", "try \"later\""};
  struct Case {
    Dialect dialect;
    const char *body;
    std::string end;
  };
  const std::string error =
      R"({"error":{"message":"try \"later\"","type":"rate_limit_error","param":null,"code":"queue_full"}})";
  const Case cases[] = {
      {Dialect::kChat, CHAT R"(,"n":2,"stream":true})", "data: " + error + "\n\ndata: [DONE]\n\n"},
      {Dialect::kCompletion, R"({"prompt":"x","stream":true})", "data: " + error + "\n\ndata: [DONE]\n\n"},
      {Dialect::kMessages, R"({"max_tokens":5,"messages":[{"role":"user","content":"x"}],"stream":true})",
       "event: error\ndata: {\"type\":\"error\"," + error.substr (1) + "\n\n"},
      {Dialect::kOllamaChat, CHAT "}", error + "\n"},
      {Dialect::kChat, CHAT R"(,"n":2})", ""},
      {Dialect::kCompletion, R"({"prompt":"x"})", ""},
      {Dialect::kEmbedding, R"({"input":["x","y"]})", ""},
      {Dialect::kResponses, R"({"input":"x"})", ""},
      {Dialect::kMessages, R"({"max_tokens":5,"messages":[{"role":"user","content":"x"}]})", ""},
      {Dialect::kOllamaChat, CHAT R"(,"stream":false})", ""},
  };
  for (const Case &c : cases) {
    for (const bool abort : {false, true}) {
      const auto writer = ReplyWriter::create (request (c.dialect, c.body), kIdentity);
      std::string out;
      writer->begin (out);
      out.clear ();
      GenerationDelta delta;
      delta.finish = FinishReason::kError;
      delta.error = &full;
      if (abort)
        writer->abort (api_error (full, 0), out);
      else
        writer->deliver (delta, out);
      EXPECT_EQ (out, c.end) << c.body;
      EXPECT_TRUE (writer->ended ());
      delta.index = 1;
      writer->deliver (delta, out);
      EXPECT_EQ (out, c.end) << c.body;
    }
  }
  const auto writer =
      ReplyWriter::create (request (Dialect::kResponses, R"({"input":"x","stream":true})"), kIdentity);
  std::string out;
  writer->abort (api_error (full, 0), out);
  EXPECT_NE (out.find ("event: response.failed\n"), std::string::npos);
  EXPECT_NE (
      out.find (
          R"("status":"failed","background":false,"error":{"code":"queue_full","message":"try \"later\""})"),
      std::string::npos)
      << out;
}

TEST (ApiWriters, error_bodies)
{
  EXPECT_EQ (
      error_body (Dialect::kChat, invalid_request ("n", "n is \"odd\"")),
      R"({"error":{"message":"n is \"odd\"","type":"invalid_request_error","param":"n","code":"invalid_request"}})");
  EXPECT_EQ (
      error_body (Dialect::kMessages, api_error ({"internal", "", "broken"}, 0)),
      R"({"type":"error","error":{"message":"broken","type":"api_error","param":null,"code":"internal"}})");
  const std::tuple<const char *, int, const char *> codes[] = {
      {"invalid_request", 400, "invalid_request_error"},
      {"invalid_utf8", 400, "invalid_request_error"},
      {"context_length_exceeded", 400, "invalid_request_error"},
      {"queue_full", 429, "rate_limit_error"},
      {"timeout", 408, "timeout_error"},
      {"internal", 500, "server_error"},
      {"whatever", 500, "server_error"},
  };
  for (const auto &[code, status, type] : codes) {
    const ApiError error = api_error ({code, "field", "message"}, 1500);
    EXPECT_EQ (error.status, status) << code;
    EXPECT_EQ (error.type, type) << code;
    EXPECT_EQ (error.code, code);
    EXPECT_EQ (error.param, "field");
    EXPECT_EQ (error.message, "message");
    EXPECT_EQ (error.retry_after_ms, 1500);
  }
}

TEST (ApiWriters, types_and_signs_of_life)
{
  const auto writer = [] (Dialect dialect, const char *body) {
    return ReplyWriter::create (request (dialect, body), kIdentity);
  };
  const auto stream = writer (Dialect::kChat, CHAT R"(,"stream":true})");
  EXPECT_STREQ (stream->content_type (), "text/event-stream");
  EXPECT_EQ (stream->keep_alive (), ": keep-alive\n\n");
  const auto body = writer (Dialect::kChat, CHAT "}");
  EXPECT_STREQ (body->content_type (), "application/json");
  EXPECT_EQ (body->keep_alive (), "");
  const auto lines = writer (Dialect::kOllamaChat, CHAT "}");
  EXPECT_STREQ (lines->content_type (), "application/x-ndjson");
  EXPECT_EQ (lines->keep_alive (), "");
  const auto events = writer (Dialect::kMessages,
                              R"({"max_tokens":5,"messages":[{"role":"user","content":"x"}],"stream":true})");
  EXPECT_EQ (events->keep_alive (), "event: ping\ndata: {\"type\":\"ping\"}\n\n");
}
