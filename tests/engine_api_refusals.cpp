// What a server's dialects do not understand is refused with the field's name, whatever the dialect.
//
// labels: unit http
#include "engine/api/parse.hpp"

#include <gtest/gtest.h>
#include <simdjson.h>

using namespace millrace;

namespace
{

const ApiLimits kLimits = {{"demo", "other"}, 8, true};

/// A body, or with a `base` what is added to one that would be accepted.
struct Bad {
  const char *body;
  const char *param;
  int status = 400;
  const char *code = "invalid_request";
};

void
expect_error (const ApiError &error, const std::string &body, const Bad &expected)
{
  EXPECT_EQ (error.param, expected.param) << body << "\n" << error.message;
  EXPECT_EQ (error.status, expected.status) << body << "\n" << error.message;
  EXPECT_EQ (error.code, expected.code) << body << "\n" << error.message;
  EXPECT_EQ (error.type, expected.status == 404 ? "not_found_error" : "invalid_request_error") << body;
  EXPECT_FALSE (error.message.empty ()) << body;
  EXPECT_TRUE (simdjson::validate_utf8 (error.message)) << body;
  const size_t dot = error.param.rfind ('.');
  const std::string name = dot == std::string::npos ? error.param : error.param.substr (dot + 1);
  EXPECT_NE (error.message.find (name), std::string::npos) << body << "\n" << error.message;
}

ApiError
error_of (Dialect dialect, const std::string &body, const ApiLimits &limits = kLimits)
{
  ApiRequest out;
  // A buffer of exactly this size, so that a sanitizer sees a read past it.
  const std::vector<char> exact (body.begin (), body.end ());
  return parse_api_request (dialect, {exact.data (), exact.size ()}, limits, 0, out);
}

/// `base` without its closing brace.
void
expect_all_refused (Dialect dialect, const std::string &base, std::span<const Bad> additions)
{
  ASSERT_FALSE (error_of (dialect, base + "}")) << error_of (dialect, base + "}").message;
  for (const Bad &bad : additions) {
    const std::string body = base + "," + bad.body + "}";
    expect_error (error_of (dialect, body), body, bad);
  }
}

void
expect_all_refused (Dialect dialect, std::span<const Bad> bodies)
{
  for (const Bad &bad : bodies)
    expect_error (error_of (dialect, bad.body), bad.body, bad);
}

constexpr Dialect kAll[] = {Dialect::kChat,          Dialect::kCompletion, Dialect::kEmbedding,
                            Dialect::kResponses,     Dialect::kMessages,   Dialect::kOllamaChat,
                            Dialect::kOllamaGenerate};

const char *
base_of (Dialect dialect)
{
  switch (dialect) {
  case Dialect::kChat:
  case Dialect::kOllamaChat:
    return R"({"messages":[{"role":"user","content":"hi"}])";
  case Dialect::kMessages:
    return R"({"max_tokens":5,"messages":[{"role":"user","content":"hi"}])";
  case Dialect::kCompletion:
  case Dialect::kOllamaGenerate:
    return R"({"prompt":"hi")";
  case Dialect::kEmbedding:
  case Dialect::kResponses:
    return R"({"input":"hi")";
  }
  return "";
}

} // namespace

TEST (ApiRefusals, bodies_that_are_no_request)
{
  const Bad bodies[] = {
      {"", ""},
      {" ", ""},
      {"{", ""},
      {"[]", ""},
      {"null", ""},
      {"\"x\"", ""},
      {"7", ""},
      {"{}x", ""},
      {"{\"model\":}", ""},
      {"{\"temperature\":NaN}", ""},
      {"{\"temperature\":Infinity}", ""},
      {"{\"temperature\":1e999}", ""},
      {"{\"seed\":123456789012345678901234567890}", ""},
      {"{\"user\":\"\xff\"}", "", 400, "invalid_utf8"},
      {"{\"user\":\"\xed\xa0\x80\"}", "", 400, "invalid_utf8"},
      {"{\"user\":\"\\ud800\"}", ""},
      {"{\"model\":\"\\ud800x\"}", ""},
  };
  for (const Dialect dialect : kAll)
    expect_all_refused (dialect, bodies);
}

TEST (ApiRefusals, what_every_dialect_shares)
{
  const Bad additions[] = {
      {R"("model":"nobody")", "model", 404, "model_not_found"},
      {R"("model":"")", "model", 404, "model_not_found"},
      {R"("model":7)", "model"},
      {R"("model":"demo","model":"demo")", "model"},
      {R"("surprise":1)", "surprise"},
      {R"("id":"x")", "id"},
      {R"("guided_json":{})", "guided_json"},
      {R"("":1)", ""},
      {R"("\udc00":1)", ""},
  };
  for (const Dialect dialect : kAll) {
    for (const Bad &bad : additions) {
      const std::string body = std::string (base_of (dialect)) + "," + bad.body + "}";
      if (std::string_view (bad.body).starts_with ("\"\\ud"))
        EXPECT_EQ (error_of (dialect, body).status, 400) << body; // half a surrogate pair
      else
        expect_error (error_of (dialect, body), body, bad);
    }
  }
}

TEST (ApiRefusals, nesting_is_bounded)
{
  for (const Dialect dialect : kAll) {
    for (const int levels : {65, 66, 100000}) {
      std::string body = std::string (base_of (dialect)) + ",\"x\":" + std::string (levels - 1, '[') + "1" +
                         std::string (levels - 1, ']') + "}";
      const ApiError error = error_of (dialect, body);
      EXPECT_EQ (error.status, 400);
      EXPECT_EQ (error.param, "");
      EXPECT_NE (error.message.find ("levels"), std::string::npos) << error.message;
    }
  }
}

TEST (ApiRefusals, chat)
{
  const Bad additions[] = {
      {R"("temperature":2.1)", "temperature"},
      {R"("temperature":-0.1)", "temperature"},
      {R"("temperature":"1")", "temperature"},
      {R"("temperature":true)", "temperature"},
      {R"("top_p":0)", "top_p"},
      {R"("top_p":1.01)", "top_p"},
      {R"("top_k":-2)", "top_k"},
      {R"("top_k":1.0)", "top_k"},
      {R"("top_k":3000000000)", "top_k"},
      {R"("min_p":1.5)", "min_p"},
      {R"("presence_penalty":2.01)", "presence_penalty"},
      {R"("frequency_penalty":-2.01)", "frequency_penalty"},
      {R"("repetition_penalty":0)", "repetition_penalty"},
      {R"("repetition_penalty":101)", "repetition_penalty"},
      {R"("logit_bias":[])", "logit_bias"},
      {R"("logit_bias":{"1":101})", "logit_bias"},
      {R"("logit_bias":{"1":-100.5})", "logit_bias"},
      {R"("logit_bias":{"01":1})", "logit_bias"},
      {R"("logit_bias":{"-1":1})", "logit_bias"},
      {R"("logit_bias":{"x":1})", "logit_bias"},
      {R"("logit_bias":{"9999999999":1})", "logit_bias"},
      {R"("logit_bias":{"1":null})", "logit_bias"},
      {R"("logit_bias":{"1":1,"1":1})", "logit_bias.1"},
      {R"("n":0)", "n"},
      {R"("n":9)", "n"},
      {R"("n":"1")", "n"},
      {R"("stop":7)", "stop"},
      {R"("stop":"")", "stop"},
      {R"("stop":["a",1])", "stop"},
      {R"("stop":["a",null])", "stop"},
      {R"("stop":["1","2","3","4","5","6","7","8","9","10","11","12","13","14","15","16","17"])", "stop"},
      {R"("max_tokens":0)", "max_tokens"},
      {R"("max_tokens":-1)", "max_tokens"},
      {R"("max_tokens":1.5)", "max_tokens"},
      {R"("max_tokens":1e2)", "max_tokens"},
      {R"("max_completion_tokens":0)", "max_completion_tokens"},
      {R"("max_tokens":5,"max_completion_tokens":6)", "max_tokens"},
      {R"("min_tokens":1)", "min_tokens"},
      {R"("min_tokens":-1)", "min_tokens"},
      {R"("max_tokens":5,"min_tokens":6)", "min_tokens"},
      {R"("logprobs":1)", "logprobs"},
      {R"("top_logprobs":1)", "top_logprobs"},
      {R"("logprobs":false,"top_logprobs":1)", "top_logprobs"},
      {R"("logprobs":true,"top_logprobs":21)", "top_logprobs"},
      {R"("logprobs":true,"top_logprobs":-1)", "top_logprobs"},
      {R"("seed":1.5)", "seed"},
      {R"("seed":"1")", "seed"},
      {R"("stream":"true")", "stream"},
      {R"("stream":1)", "stream"},
      {R"("stream_options":{})", "stream_options"},
      {R"("stream":false,"stream_options":{"include_usage":true})", "stream_options"},
      {R"("stream":true,"stream_options":[])", "stream_options"},
      {R"("stream":true,"stream_options":{"include_usage":1})", "stream_options.include_usage"},
      {R"("stream":true,"stream_options":{"include_obfuscation":true})",
       "stream_options.include_obfuscation"},
      {R"("stream":true,"stream_options":{"x":true})", "stream_options.x"},
      {R"("user":1)", "user"},
      {R"("safety_identifier":1)", "safety_identifier"},
      {R"("prompt_cache_key":1)", "prompt_cache_key"},
      {R"("metadata":{"a":"b"})", "metadata"},
      {R"("metadata":[])", "metadata"},
      {R"("store":true)", "store"},
      {R"("service_tier":"flex")", "service_tier"},
      {R"("modalities":["text","audio"])", "modalities"},
      {R"("modalities":"text")", "modalities"},
      {R"("prediction":"x")", "prediction"},
      {R"("prediction":{})", "prediction.type"},
      {R"("prediction":{"type":"x","content":"x"})", "prediction.type"},
      {R"("prediction":{"type":"content"})", "prediction.content"},
      {R"("prediction":{"type":"content","content":[{"type":"image"}]})", "prediction.content[0].type"},
      {R"("prediction":{"type":"content","content":"x","x":1})", "prediction.x"},
      {R"("audio":{"voice":"x"})", "audio"},
      {R"("web_search_options":{})", "web_search_options"},
      {R"("response_format":{"type":"json_object"})", "response_format.type"},
      {R"("response_format":{"type":"json_schema","json_schema":{}})", "response_format.type"},
      {R"("response_format":{"type":"xml"})", "response_format.type"},
      {R"("response_format":{})", "response_format.type"},
      {R"("response_format":"text")", "response_format"},
      {R"("response_format":{"type":"text","x":1})", "response_format.x"},
      {R"("tools":{})", "tools"},
      {R"("tools":[7])", "tools[0]"},
      {R"("tools":[{"function":{"name":"f"}}])", "tools[0].type"},
      {R"("tools":[{"type":"custom","custom":{"name":"f"}}])", "tools[0].type"},
      {R"("tools":[{"type":"function"}])", "tools[0].function"},
      {R"("tools":[{"type":"function","function":{}}])", "tools[0].function.name"},
      {R"("tools":[{"type":"function","function":{"name":7}}])", "tools[0].function.name"},
      {R"("tools":[{"type":"function","function":{"name":"f","parameters":[]}}])",
       "tools[0].function.parameters"},
      {R"("tools":[{"type":"function","function":{"name":"f","strict":true}}])", "tools[0].function.strict"},
      {R"("tools":[{"type":"function","function":{"name":"f","x":1}}])", "tools[0].function.x"},
      {R"("tools":[{"type":"function","function":{"name":"f"},"x":1}])", "tools[0].x"},
      {R"("tool_choice":"required")", "tool_choice"},
      {R"("tool_choice":"always")", "tool_choice"},
      {R"("tool_choice":{"type":"function","function":{"name":"f"}})", "tool_choice"},
      {R"("tool_choice":1)", "tool_choice"},
      {R"("tools":[{"type":"function","function":{"name":"f"}}],"parallel_tool_calls":false)",
       "parallel_tool_calls"},
      {R"("functions":[])", "functions"},
      {R"("function_call":"auto")", "function_call"},
      {R"("reasoning_effort":"huge")", "reasoning_effort"},
      {R"("reasoning_effort":3)", "reasoning_effort"},
      {R"("reasoning_effort":"low","chat_template_kwargs":{"reasoning_effort":"low"})", "reasoning_effort"},
      {R"("reasoning_effort":"none","chat_template_kwargs":{"enable_thinking":true})", "reasoning_effort"},
      {R"("verbosity":"low")", "verbosity"},
      {R"("chat_template_kwargs":[])", "chat_template_kwargs"},
      {R"("chat_template_kwargs":{"a":1,"a":2})", "chat_template_kwargs.a"},
      {R"("chat_template_kwargs":{"messages":[]})", "chat_template_kwargs.messages"},
      {R"("ignore_eos":1)", "ignore_eos"},
      {R"("stop_token_ids":7)", "stop_token_ids"},
      {R"("stop_token_ids":[-1])", "stop_token_ids"},
      {R"("stop_token_ids":[2147483648])", "stop_token_ids"},
      {R"("timeout_ms":-1)", "timeout_ms"},
      {R"("priority":"urgent")", "priority"},
      {R"("priority":1)", "priority"},
      {R"("add_generation_prompt":false)", "add_generation_prompt"},
      {R"("echo":true)", "echo"},
      {R"("prompt":"x")", "prompt"},
      {R"("prompt_logprobs":1)", "prompt_logprobs"},
  };
  expect_all_refused (Dialect::kChat, base_of (Dialect::kChat), additions);
}

TEST (ApiRefusals, messages_of_a_chat)
{
  const Bad bodies[] = {
      {R"({})", "messages"},
      {R"({"messages":null})", "messages"},
      {R"({"messages":[]})", "messages"},
      {R"({"messages":"hi"})", "messages"},
      {R"({"messages":["hi"]})", "messages[0]"},
      {R"({"messages":[{}]})", "messages[0].role"},
      {R"({"messages":[{"role":"robot","content":"x"}]})", "messages[0].role"},
      {R"({"messages":[{"role":7,"content":"x"}]})", "messages[0].role"},
      {R"({"messages":[{"role":"user"}]})", "messages[0].content"},
      {R"({"messages":[{"role":"user","content":null}]})", "messages[0].content"},
      {R"({"messages":[{"role":"assistant","content":null}]})", "messages[0].content"},
      {R"({"messages":[{"role":"assistant","tool_calls":[]}]})", "messages[0].content"},
      {R"({"messages":[{"role":"user","content":7}]})", "messages[0].content"},
      {R"({"messages":[{"role":"user","content":"a"},{"role":"user","content":{}}]})", "messages[1].content"},
      {R"({"messages":[{"role":"user","content":[7]}]})", "messages[0].content[0]"},
      {R"({"messages":[{"role":"user","content":[{"text":"x"}]}]})", "messages[0].content[0].type"},
      {R"({"messages":[{"role":"user","content":[{"type":"text"}]}]})", "messages[0].content[0].text"},
      {R"({"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"x"}}]}]})",
       "messages[0].content[1].type"},
      {R"({"messages":[{"role":"user","content":[{"type":"input_audio","input_audio":{}}]}]})",
       "messages[0].content[0].type"},
      {R"({"messages":[{"role":"user","content":[{"type":"file","file":{}}]}]})",
       "messages[0].content[0].type"},
      {R"({"messages":[{"role":"user","content":[{"type":"text","text":"a","x":1}]}]})",
       "messages[0].content[0].x"},
      {R"({"messages":[{"role":"user","content":"a","x":1}]})", "messages[0].x"},
      {R"({"messages":[{"role":"user","content":"a","content":"a"}]})", "messages[0].content"},
      {R"({"messages":[{"role":"user","content":"a","name":7}]})", "messages[0].name"},
      {R"({"messages":[{"role":"user","content":"a","tool_calls":[{"function":{"name":"f"}}]}]})",
       "messages[0].tool_calls"},
      {R"({"messages":[{"role":"user","content":"a","reasoning_content":"x"}]})",
       "messages[0].reasoning_content"},
      {R"({"messages":[{"role":"user","content":"a","refusal":"x"}]})", "messages[0].refusal"},
      {R"({"messages":[{"role":"tool","content":"a"}]})", "messages[0].tool_call_id"},
      {R"({"messages":[{"role":"function","content":"a"}]})", "messages[0].name"},
      {R"({"messages":[{"role":"assistant","content":"a","audio":{"id":"x"}}]})", "messages[0].audio"},
      {R"({"messages":[{"role":"assistant","content":"a","function_call":{"name":"f"}}]})",
       "messages[0].function_call"},
      {R"({"messages":[{"role":"assistant","content":"a","annotations":[{}]}]})", "messages[0].annotations"},
      {R"({"messages":[{"role":"assistant","tool_calls":[{}]}]})", "messages[0].tool_calls[0].function"},
      {R"({"messages":[{"role":"assistant","tool_calls":[{"type":"x","function":{"name":"f"}}]}]})",
       "messages[0].tool_calls[0].type"},
      {R"({"messages":[{"role":"assistant","tool_calls":[{"function":{}}]}]})",
       "messages[0].tool_calls[0].function.name"},
      {R"({"messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":[]}}]}]})",
       "messages[0].tool_calls[0].function.arguments"},
      {R"({"messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f","x":1}}]}]})",
       "messages[0].tool_calls[0].function.x"},
  };
  expect_all_refused (Dialect::kChat, bodies);
}

TEST (ApiRefusals, completions)
{
  const Bad bodies[] = {
      {R"({})", "prompt"},
      {R"({"prompt":null})", "prompt"},
      {R"({"prompt":7})", "prompt"},
      {R"({"prompt":{}})", "prompt"},
      {R"({"prompt":[]})", "prompt"},
      {R"({"prompt":["a",7]})", "prompt[1]"},
      {R"({"prompt":["a",null]})", "prompt[1]"},
      {R"({"prompt":[1,"a"]})", "prompt[1]"},
      {R"({"prompt":[-1]})", "prompt[0]"},
      {R"({"prompt":[1.5]})", "prompt[0]"},
      {R"({"prompt":[2147483648]})", "prompt[0]"},
      {R"({"prompt":[[]]})", "prompt[0]"},
      {R"({"prompt":[[1],[]]})", "prompt[1]"},
      {R"({"prompt":[[1],2]})", "prompt[1]"},
      {R"({"prompt":[[1],["a"]]})", "prompt[1][0]"},
      {R"({"prompt":[null]})", "prompt[0]"},
      {R"({"prompt":["1","2","3","4","5","6","7","8","9"]})", "prompt"},
      {R"({"prompt":["1","2","3"],"n":3})", "prompt"},
      {R"({"prompt":[1],"echo":true})", "echo"},
  };
  expect_all_refused (Dialect::kCompletion, bodies);
  const Bad additions[] = {
      {R"("max_tokens":0)", "max_tokens"},
      {R"("max_completion_tokens":5)", "max_completion_tokens"},
      {R"("suffix":"x")", "suffix"},
      {R"("suffix":7)", "suffix"},
      {R"("best_of":2)", "best_of"},
      {R"("n":2,"best_of":3)", "best_of"},
      {R"("logprobs":true)", "logprobs"},
      {R"("logprobs":21)", "logprobs"},
      {R"("logprobs":-1)", "logprobs"},
      {R"("top_logprobs":1)", "top_logprobs"},
      {R"("echo":true,"logprobs":1)", "echo"},
      {R"("echo":1)", "echo"},
      {R"("min_tokens":17)", "min_tokens"},
      {R"("stream_options":{"include_usage":true})", "stream_options"},
      {R"("messages":[])", "messages"},
      {R"("chat_template_kwargs":{})", "chat_template_kwargs"},
      {R"("temperature":3)", "temperature"},
      {R"("service_tier":"priority")", "service_tier"},
  };
  expect_all_refused (Dialect::kCompletion, base_of (Dialect::kCompletion), additions);
}

TEST (ApiRefusals, embeddings)
{
  std::string many = "{\"input\":[\"x\"";
  for (int i = 0; i < 2048; i++)
    many += ",\"x\"";
  many += "]}";
  const Bad bodies[] = {
      {R"({})", "input"},           {R"({"input":""})", "input"},      {R"({"input":["a",""]})", "input[1]"},
      {R"({"input":[]})", "input"}, {R"({"input":[[]]})", "input[0]"}, {many.c_str (), "input"},
  };
  expect_all_refused (Dialect::kEmbedding, bodies);
  const Bad additions[] = {
      {R"("encoding_format":"int8")", "encoding_format"},
      {R"("dimensions":0)", "dimensions"},
      {R"("dimensions":"8")", "dimensions"},
      {R"("pooling":"max")", "pooling"},
      {R"("normalize":1)", "normalize"},
      {R"("user":1)", "user"},
      {R"("stream":true)", "stream"},
      {R"("temperature":1)", "temperature"},
      {R"("seed":1)", "seed"},
  };
  expect_all_refused (Dialect::kEmbedding, base_of (Dialect::kEmbedding), additions);
}

TEST (ApiRefusals, responses)
{
  const Bad bodies[] = {
      {R"({})", "input"},
      {R"({"input":7})", "input"},
      {R"({"input":[]})", "input"},
      {R"({"input":["x"]})", "input[0]"},
      {R"({"input":[{"content":"x"}]})", "input[0].role"},
      {R"({"input":[{"role":"tool","content":"x"}]})", "input[0].role"},
      {R"({"input":[{"role":"user"}]})", "input[0].content"},
      {R"({"input":[{"role":"user","content":[{"type":"input_image","image_url":"x"}]}]})",
       "input[0].content[0].type"},
      {R"({"input":[{"role":"user","content":[{"type":"input_file","file_id":"x"}]}]})",
       "input[0].content[0].type"},
      {R"({"input":[{"role":"user","content":[{"type":"output_text","text":"x"}]}]})",
       "input[0].content[0].type"},
      {R"({"input":[{"role":"user","content":[{"type":"input_text"}]}]})", "input[0].content[0].text"},
      {R"({"input":[{"role":"user","content":"x","x":1}]})", "input[0].x"},
      {R"({"input":[{"type":"item_reference","id":"x"}]})", "input[0].type"},
      {R"({"input":[{"type":"web_search_call","id":"x"}]})", "input[0].type"},
      {R"({"input":[{"type":"function_call","name":"f","arguments":"{}"}]})", "input[0].call_id"},
      {R"({"input":[{"type":"function_call","call_id":"c","arguments":"{}"}]})", "input[0].name"},
      {R"({"input":[{"type":"function_call","call_id":"c","name":"f","arguments":{}}]})",
       "input[0].arguments"},
      {R"({"input":[{"type":"function_call_output","call_id":"c"}]})", "input[0].output"},
      {R"({"input":[{"type":"function_call_output","output":"x"}]})", "input[0].call_id"},
      {R"({"input":[{"type":"reasoning","id":"r","summary":[],"encrypted_content":"x"}]})",
       "input[0].encrypted_content"},
      {R"({"input":[{"type":"reasoning","id":"r","summary":"x"}]})", "input[0].summary"},
      {R"({"input":[{"type":"reasoning","id":"r","summary":[]}]})", "input"},
  };
  expect_all_refused (Dialect::kResponses, bodies);
  const Bad additions[] = {
      {R"("instructions":7)", "instructions"},
      {R"("max_output_tokens":0)", "max_output_tokens"},
      {R"("max_tokens":5)", "max_tokens"},
      {R"("n":2)", "n"},
      {R"("stop":"x")", "stop"},
      {R"("temperature":2.5)", "temperature"},
      {R"("top_p":0)", "top_p"},
      {R"("top_logprobs":3)", "top_logprobs"},
      {R"("include":["reasoning.encrypted_content"])", "include"},
      {R"("include":"x")", "include"},
      {R"("store":true)", "store"},
      {R"("background":true)", "background"},
      {R"("previous_response_id":"resp_1")", "previous_response_id"},
      {R"("conversation":"c")", "conversation"},
      {R"("prompt":{"id":"p"})", "prompt"},
      {R"("max_tool_calls":1)", "max_tool_calls"},
      {R"("truncation":"auto")", "truncation"},
      {R"("text":{"format":{"type":"json_schema"}})", "text.format.type"},
      {R"("text":{"verbosity":"low"})", "text.verbosity"},
      {R"("text":{"x":1})", "text.x"},
      {R"("tools":[{"type":"web_search"}])", "tools[0].type"},
      {R"("tools":[{"type":"function","function":{"name":"f"}}])", "tools[0].name"},
      {R"("tools":[{"type":"function","name":"f","strict":true}])", "tools[0].strict"},
      {R"("tool_choice":"required")", "tool_choice"},
      {R"("reasoning":{"effort":"max"})", "reasoning.effort"},
      {R"("reasoning":{"summary":"auto"})", "reasoning.summary"},
      {R"("reasoning":"low")", "reasoning"},
      {R"("metadata":{"a":1})", "metadata.a"},
      {R"("metadata":{"a":"1","a":"2"})", "metadata.a"},
      {R"("stream":true,"stream_options":{"include_usage":true})", "stream_options.include_usage"},
      {R"("service_tier":"flex")", "service_tier"},
  };
  expect_all_refused (Dialect::kResponses, base_of (Dialect::kResponses), additions);
}

TEST (ApiRefusals, anthropic_messages)
{
  const Bad bodies[] = {
      {R"({"messages":[{"role":"user","content":"x"}]})", "max_tokens"},
      {R"({"max_tokens":5})", "messages"},
      {R"({"max_tokens":5,"messages":[]})", "messages"},
      {R"({"max_tokens":5,"messages":[7]})", "messages[0]"},
      {R"({"max_tokens":5,"messages":[{"role":"system","content":"x"}]})", "messages[0].role"},
      {R"({"max_tokens":5,"messages":[{"role":"user"}]})", "messages[0].content"},
      {R"({"max_tokens":5,"messages":[{"role":"user","content":[]}]})", "messages[0].content"},
      {R"({"max_tokens":5,"messages":[{"role":"user","content":[{"type":"image","source":{}}]}]})",
       "messages[0].content[0].type"},
      {R"({"max_tokens":5,"messages":[{"role":"user","content":[{"type":"document","source":{}}]}]})",
       "messages[0].content[0].type"},
      {R"({"max_tokens":5,"messages":[{"role":"user","content":[{"type":"text","text":"a","x":1}]}]})",
       "messages[0].content[0].x"},
      {R"({"max_tokens":5,"messages":[{"role":"user","content":[{"type":"text","text":"a","cache_control":{"type":"x"}}]}]})",
       "messages[0].content[0].cache_control.type"},
      {R"({"max_tokens":5,"messages":[{"role":"user","content":[{"type":"tool_use","id":"t","name":"f","input":{}}]}]})",
       "messages[0].content[0].type"},
      {R"({"max_tokens":5,"messages":[{"role":"assistant","content":[{"type":"tool_result","tool_use_id":"t"}]}]})",
       "messages[0].content[0].type"},
      {R"({"max_tokens":5,"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"t","name":"f","input":"x"}]}]})",
       "messages[0].content[0].input"},
      {R"({"max_tokens":5,"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"t","input":{}}]}]})",
       "messages[0].content[0].name"},
      {R"({"max_tokens":5,"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"tool_result","tool_use_id":"t"}]}]})",
       "messages[0].content[1].type"},
      {R"({"max_tokens":5,"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":[{"type":"image"}]}]}]})",
       "messages[0].content[0].content[0].type"},
      {R"({"max_tokens":5,"messages":[{"role":"assistant","content":[{"type":"redacted_thinking","data":"x"}]}]})",
       "messages[0].content[0].type"},
  };
  expect_all_refused (Dialect::kMessages, bodies);
  const Bad additions[] = {
      {R"("temperature":1.1)", "temperature"},
      {R"("top_p":0)", "top_p"},
      {R"("top_k":"5")", "top_k"},
      {R"("stop_sequences":[""])", "stop_sequences"},
      {R"("stop":"x")", "stop"},
      {R"("n":1)", "n"},
      {R"("system":7)", "system"},
      {R"("system":[{"type":"image"}])", "system[0].type"},
      {R"("metadata":{"user":"x"})", "metadata.user"},
      {R"("tools":[{"name":"f"}])", "tools[0].input_schema"},
      {R"("tools":[{"name":"f","input_schema":[]}])", "tools[0].input_schema"},
      {R"("tools":[{"type":"bash_20250124","name":"bash"}])", "tools[0].type"},
      {R"("tool_choice":"auto")", "tool_choice"},
      {R"("tool_choice":{"type":"any"})", "tool_choice.type"},
      {R"("tool_choice":{"type":"tool","name":"f"})", "tool_choice.type"},
      {R"("tools":[{"name":"f","input_schema":{}}],"tool_choice":{"type":"auto","disable_parallel_tool_use":true})",
       "tool_choice.disable_parallel_tool_use"},
      {R"("thinking":{"type":"enabled","budget_tokens":1024})", "thinking.budget_tokens"},
      {R"("thinking":{"type":"on"})", "thinking.type"},
      {R"("thinking":true)", "thinking"},
      {R"("thinking":{"type":"disabled"},"chat_template_kwargs":{"enable_thinking":true})", "thinking"},
      {R"("service_tier":"priority")", "service_tier"},
      {R"("container":"x")", "container"},
      {R"("mcp_servers":[])", "mcp_servers"},
      {R"("stream_options":{})", "stream_options"},
  };
  expect_all_refused (Dialect::kMessages, base_of (Dialect::kMessages), additions);
}

TEST (ApiRefusals, ollama)
{
  const Bad chats[] = {
      {R"({"model":"demo"})", "messages"},
      {R"({"messages":[]})", "messages"},
      {R"({"messages":[{"role":"user","content":[{"type":"text","text":"x"}]}]})", "messages[0].content"},
      {R"({"messages":[{"role":"developer","content":"x"}]})", "messages[0].role"},
      {R"({"messages":[{"role":"user","content":"x","images":["aaaa"]}]})", "messages[0].images"},
      {R"({"messages":[{"role":"user","content":"x","thinking":"y"}]})", "messages[0].thinking"},
      {R"({"messages":[{"role":"user","content":"x","tool_name":"y"}]})", "messages[0].tool_name"},
      {R"({"messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}]})",
       "messages[0].tool_calls[0].function.arguments"},
  };
  expect_all_refused (Dialect::kOllamaChat, chats);
  const Bad generates[] = {
      {R"({"model":"demo"})", "prompt"},
      {R"({"prompt":""})", "prompt"},
      {R"({"prompt":7})", "prompt"},
      {R"({"prompt":"x","raw":true,"system":"y"})", "system"},
      {R"({"prompt":"x","raw":true,"think":true})", "think"},
      {R"({"prompt":"x","suffix":"y"})", "suffix"},
      {R"({"prompt":"x","template":"y"})", "template"},
      {R"({"prompt":"x","images":["y"]})", "images"},
      {R"({"prompt":"x","context":[1]})", "context"},
  };
  expect_all_refused (Dialect::kOllamaGenerate, generates);
  const Bad additions[] = {
      {R"("stream":"no")", "stream"},
      {R"("format":"json")", "format"},
      {R"("format":{"type":"object"})", "format"},
      {R"("keep_alive":0)", "keep_alive"},
      {R"("keep_alive":"0")", "keep_alive"},
      {R"("keep_alive":"soon")", "keep_alive"},
      {R"("keep_alive":true)", "keep_alive"},
      {R"("think":"max")", "think"},
      {R"("think":1)", "think"},
      {R"("temperature":1)", "temperature"},
      {R"("tool_choice":"auto")", "tool_choice"},
      {R"("options":[])", "options"},
      {R"("options":{"temperature":-1})", "options.temperature"},
      {R"("options":{"num_ctx":4096})", "options.num_ctx"},
      {R"("options":{"num_keep":4})", "options.num_keep"},
      {R"("options":{"num_thread":4})", "options.num_thread"},
      {R"("options":{"mirostat":1})", "options.mirostat"},
      {R"("options":{"num_predict":0})", "options.num_predict"},
      {R"("options":{"num_predict":-3})", "options.num_predict"},
      {R"("options":{"repeat_penalty":0})", "options.repeat_penalty"},
      {R"("options":{"seed":1.5})", "options.seed"},
      {R"("options":{"stop":[1]})", "options.stop"},
      {R"("options":{"x":1})", "options.x"},
      {R"("top_logprobs":2)", "top_logprobs"},
  };
  expect_all_refused (Dialect::kOllamaChat, base_of (Dialect::kOllamaChat), additions);
  expect_all_refused (Dialect::kOllamaGenerate, base_of (Dialect::kOllamaGenerate), additions);
}
