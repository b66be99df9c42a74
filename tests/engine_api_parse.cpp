// Bodies of every dialect become exactly these generations, and each of them is a request that llmprompt accepts.
//
// labels: unit http
#include "engine/api/parse.hpp"
#include "engine/scheduling/request_json.hpp"

#include <gtest/gtest.h>

#include <set>

using namespace millrace;

namespace
{

const ApiLimits kLimits = {{"demo", "other"}, 128, true};
constexpr uint64_t kSeed = 7;

ApiRequest
parsed (Dialect dialect, const std::string &body, uint64_t seed = kSeed, const ApiLimits &limits = kLimits)
{
  ApiRequest out;
  const std::vector<char> exact (body.begin (), body.end ());
  const ApiError error = parse_api_request (dialect, {exact.data (), exact.size ()}, limits, seed, out);
  EXPECT_FALSE (error) << body << "\n" << error.param << ": " << error.message;
  for (const std::string &generation : out.generations) {
    Request request;
    PromptInput prompt;
    const RequestError refused = parse_request (generation, request, prompt);
    EXPECT_FALSE (refused) << generation << "\n" << refused.message;
  }
  return out;
}

struct Good {
  const char *body;
  const char *generation; ///< of which the seed is left out when it is the default's
};

void
expect_all (Dialect dialect, std::span<const Good> cases)
{
  for (const Good &good : cases) {
    const ApiRequest out = parsed (dialect, good.body);
    ASSERT_EQ (out.generations.size (), 1u) << good.body;
    std::string generation = out.generations[0];
    if (const size_t seed = generation.rfind (",\"seed\":7}"); seed != std::string::npos)
      generation = generation.substr (0, seed) + "}";
    EXPECT_EQ (generation, good.generation) << good.body;
    EXPECT_EQ (out.dialect, dialect);
  }
}

#define HI R"("messages":[{"role":"user","content":"hi"}])"

} // namespace

TEST (ApiParse, chat)
{
  const Good cases[] = {
      {"{" HI "}", "{" HI "}"},
      {"{" HI
       R"(,"model":"demo","n":null,"stop":null,"temperature":null,"tools":null,"stream_options":null})",
       "{" HI "}"},
      {"{" HI
       R"(,"temperature":0.7,"top_p":0.9,"top_k":40,"min_p":0.05,"presence_penalty":0.5,"frequency_penalty":-2,)"
       R"("repetition_penalty":1.1})",
       "{" HI
       R"(,"temperature":0.7,"top_p":0.9,"top_k":40,"min_p":0.05,"presence_penalty":0.5,"frequency_penalty":-2,)"
       R"("repetition_penalty":1.1})"},
      {"{" HI R"(,"top_k":-1})", "{" HI R"(,"top_k":0})"},
      {"{" HI R"(,"max_tokens":5})", "{" HI R"(,"max_tokens":5})"},
      {"{" HI R"(,"max_completion_tokens":5,"min_tokens":2})", "{" HI R"(,"max_tokens":5,"min_tokens":2})"},
      {"{" HI R"(,"max_completion_tokens":5,"max_tokens":5})", "{" HI R"(,"max_tokens":5})"},
      {"{" HI R"(,"min_tokens":0})", "{" HI R"(,"min_tokens":0})"},
      {"{" HI R"(,"stop":"a\nb"})", "{" HI R"(,"stop":["a\nb"]})"},
      {"{" HI R"(,"stop":["a","b","c","d","e"]})", "{" HI R"(,"stop":["a","b","c","d","e"]})"},
      {"{" HI R"(,"stop":[]})", "{" HI "}"},
      {"{" HI R"(,"logit_bias":{"5":-100,"3":1.5}})", "{" HI R"(,"logit_bias":{"5":-100,"3":1.5}})"},
      {"{" HI R"(,"logit_bias":{}})", "{" HI "}"},
      {"{" HI R"(,"logprobs":true})", "{" HI R"(,"logprobs":0})"},
      {"{" HI R"(,"logprobs":true,"top_logprobs":20})", "{" HI R"(,"logprobs":20})"},
      {"{" HI R"(,"logprobs":false})", "{" HI "}"},
      {"{" HI R"(,"ignore_eos":true,"stop_token_ids":[1,2],"timeout_ms":500,"priority":"high"})",
       "{" HI R"(,"stop_token_ids":[1,2],"ignore_eos":true,"priority":"high","timeout_ms":500})"},
      {"{" HI
       R"(,"service_tier":"auto","store":false,"metadata":{},"modalities":["text"],"verbosity":"medium",)"
       R"("response_format":{"type":"text"},"add_generation_prompt":true,"echo":false,"prompt_cache_key":"k",)"
       R"("parallel_tool_calls":false})",
       "{" HI "}"},
      {"{" HI R"(,"seed":null})", "{" HI "}"},
      {"{" HI R"(,"seed":0})", "{" HI R"(,"seed":0})"},
      {"{" HI R"(,"seed":-1})", "{" HI R"(,"seed":18446744073709551615})"},
      {"{" HI R"(,"seed":18446744073709551615})", "{" HI R"(,"seed":18446744073709551615})"},
      {"{" HI R"(,"reasoning_effort":"low"})",
       "{" HI R"(,"chat_template_kwargs":{"reasoning_effort":"low"}})"},
      {"{" HI R"(,"reasoning_effort":"none","chat_template_kwargs":{"a":[1,{"b":1.5}]}})",
       "{" HI
       R"(,"chat_template_kwargs":{"a":[1,{"b":1.5}],"reasoning_effort":"none","enable_thinking":false}})"},
      {"{" HI R"(,"chat_template_kwargs":{}})", "{" HI "}"},
      {"{" HI R"(,"tools":[{"type":"function","function":{"parameters":{"type":"object","properties":{}},)"
       R"("description":"d","name":"f","strict":false}}],"tool_choice":"auto"})",
       "{" HI R"(,"tools":[{"type":"function","function":{"name":"f","description":"d",)"
       R"("parameters":{"type":"object","properties":{}}}}]})"},
      {"{" HI R"(,"tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":"none"})", "{" HI "}"},
      {"{" HI R"(,"tools":[],"tool_choice":"auto"})", "{" HI "}"},
  };
  expect_all (Dialect::kChat, cases);
}

TEST (ApiParse, messages_of_a_chat)
{
  const Good cases[] = {
      {R"({"messages":[{"role":"developer","content":"be"},{"role":"user","content":""}]})",
       R"({"messages":[{"role":"system","content":"be"},{"role":"user","content":""}]})"},
      {R"({"messages":[{"content":[{"type":"text","text":"a\u00e9"},{"text":"\"b\\","type":"text"}],"role":"user","name":"Bo"}]})",
       R"({"messages":[{"role":"user","content":"aé\"b\\","name":"Bo"}]})"},
      {R"({"messages":[{"role":"user","content":[]}]})", R"({"messages":[{"role":"user","content":""}]})"},
      {R"({"messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function",)"
       R"("function":{"name":"f","arguments":"{\"x\": [1, 2.0]}"}}]},{"role":"tool","tool_call_id":"c1","content":"ok"}]})",
       R"({"messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function",)"
       R"("function":{"name":"f","arguments":{"x":[1,2.0]}}}]},{"role":"tool","content":"ok","tool_call_id":"c1"}]})"},
      {R"({"messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{broken"}},)"
       R"({"function":{"name":"g","arguments":""}},{"function":{"name":"h","arguments":{"a":1}}},)"
       R"({"function":{"name":"i","arguments":"[1]"}},{"function":{"name":"j"}}]}]})",
       R"({"messages":[{"role":"assistant","content":null,"tool_calls":[)"
       R"({"type":"function","function":{"name":"f","arguments":"{broken"}},)"
       R"({"type":"function","function":{"name":"g","arguments":{}}},)"
       R"({"type":"function","function":{"name":"h","arguments":{"a":1}}},)"
       R"({"type":"function","function":{"name":"i","arguments":"[1]"}},)"
       R"({"type":"function","function":{"name":"j","arguments":{}}}]}]})"},
      {R"({"messages":[{"role":"assistant","content":"a","reasoning_content":"r","refusal":null,"audio":null,)"
       R"("annotations":[],"function_call":null,"tool_calls":null}]})",
       R"({"messages":[{"role":"assistant","content":"a","reasoning_content":"r"}]})"},
      {R"({"messages":[{"role":"assistant","content":[{"type":"refusal","refusal":"no"}]},{"role":"assistant","refusal":"never"}]})",
       R"({"messages":[{"role":"assistant","content":"no"},{"role":"assistant","content":"never","refusal":"never"}]})"},
      {R"({"messages":[{"role":"function","name":"f","content":"x"}]})",
       R"({"messages":[{"role":"function","content":"x","name":"f"}]})"},
  };
  expect_all (Dialect::kChat, cases);
}

TEST (ApiParse, arguments_too_deep_for_a_generation_stay_text)
{
  for (const int levels : {57, 58, 59, 200}) {
    std::string arguments =
        "{\\\"a\\\":" + std::string (levels - 1, '[') + "1" + std::string (levels - 1, ']') + "}";
    const std::string body =
        R"({"messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":")" +
        arguments + R"("}}]}]})";
    const ApiRequest out = parsed (Dialect::kChat, body);
    ASSERT_EQ (out.generations.size (), 1u);
    const bool object = out.generations[0].find ("\"arguments\":{") != std::string::npos;
    EXPECT_EQ (object, levels <= 58) << levels;
  }
}

TEST (ApiParse, completions)
{
  const Good cases[] = {
      {R"({"prompt":"hi"})", R"({"prompt":"hi","max_tokens":16})"},
      {R"({"prompt":"","max_tokens":1})", R"({"prompt":"","max_tokens":1})"},
      {R"({"prompt":["hi"],"n":1,"best_of":1,"suffix":"","echo":false})",
       R"({"prompt":"hi","max_tokens":16})"},
      {R"({"prompt":[1,2,3],"logprobs":5})", R"({"tokens":[1,2,3],"max_tokens":16,"logprobs":5})"},
      {R"({"prompt":[[1,2]],"logprobs":null})", R"({"tokens":[1,2],"max_tokens":16})"},
      {R"({"prompt":"\u0000\u001f\ud83d\ude00","max_tokens":2147483647})",
       "{\"prompt\":\"\\u0000\\u001f😀\",\"max_tokens\":2147483647}"},
  };
  expect_all (Dialect::kCompletion, cases);
}

TEST (ApiParse, several_prompts_and_choices)
{
  const ApiRequest out =
      parsed (Dialect::kCompletion, R"({"prompt":["a","b"],"n":2,"best_of":2,"seed":-1,"echo":true,)"
                                    R"("stream":true,"stream_options":{"include_usage":true,)"
                                    R"("include_obfuscation":false},"user":"me","model":"other"})");
  const std::vector<std::string> expected = {R"({"prompt":"a","max_tokens":16,"seed":18446744073709551615})",
                                             R"({"prompt":"a","max_tokens":16,"seed":0})",
                                             R"({"prompt":"b","max_tokens":16,"seed":18446744073709551615})",
                                             R"({"prompt":"b","max_tokens":16,"seed":0})"};
  EXPECT_EQ (out.generations, expected);
  EXPECT_EQ (out.choices, 2);
  EXPECT_EQ (out.echoes, (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE (out.stream);
  EXPECT_TRUE (out.include_usage);
  EXPECT_EQ (out.user, "me");
  EXPECT_EQ (out.model, "other");
  EXPECT_FALSE (out.reads_reasoning);
  EXPECT_FALSE (out.logprobs);

  const ApiRequest chat = parsed (Dialect::kChat, "{" HI R"(,"n":128})", UINT64_MAX - 1);
  ASSERT_EQ (chat.generations.size (), 128u);
  EXPECT_EQ (chat.generations[0], "{" HI R"(,"seed":18446744073709551614})");
  EXPECT_EQ (chat.generations[2], "{" HI R"(,"seed":0})");
  EXPECT_EQ (std::set<std::string> (chat.generations.begin (), chat.generations.end ()).size (), 128u);
  EXPECT_EQ (chat.model, "demo");
  EXPECT_TRUE (chat.reads_reasoning);
  EXPECT_FALSE (chat.stream);
}

TEST (ApiParse, all_together_are_bounded)
{
  const std::string prompt (3u << 20, 'x');
  ApiRequest out;
  const ApiError error =
      parse_api_request (Dialect::kCompletion, "{\"prompt\":\"" + prompt + "\",\"n\":128}", kLimits, 0, out);
  EXPECT_EQ (error.status, 400);
  EXPECT_NE (error.message.find ("bytes"), std::string::npos) << error.message;
}

TEST (ApiParse, models)
{
  EXPECT_EQ (
      parsed (Dialect::kCompletion, R"({"prompt":"a","model":"anything"})", 0, {{"demo", "*"}, 8, true})
          .model,
      "anything");
  EXPECT_EQ (parsed (Dialect::kCompletion, R"({"prompt":"a"})", 0, {{"demo", "*"}, 8, true}).model, "demo");
}

TEST (ApiParse, a_stream_is_known_after_an_error)
{
  ApiRequest out;
  EXPECT_TRUE (parse_api_request (Dialect::kChat, R"({"surprise":1,"stream":true})", kLimits, 0, out));
  EXPECT_TRUE (out.stream);
  EXPECT_TRUE (parse_api_request (Dialect::kOllamaChat, R"({"surprise":1})", kLimits, 0, out));
  EXPECT_TRUE (out.stream);
}

TEST (ApiParse, embeddings)
{
  const Good cases[] = {
      {R"({"input":"hi"})", R"({"prompt":"hi","embed":{"pooling":"last","normalize":true}})"},
      {R"({"input":["hi"],"encoding_format":"float","dimensions":8,"pooling":"mean","normalize":false})",
       R"({"prompt":"hi","embed":{"pooling":"mean","normalize":false,"dimensions":8}})"},
      {R"({"input":[1,2],"pooling":"cls","priority":"low","timeout_ms":0})",
       R"({"tokens":[1,2],"embed":{"pooling":"cls","normalize":true},"priority":"low","timeout_ms":0})"},
  };
  expect_all (Dialect::kEmbedding, cases);
  std::string many = "{\"encoding_format\":\"base64\",\"user\":\"u\",\"input\":[[1]";
  for (int i = 1; i < 2048; i++)
    many += ",[" + std::to_string (i) + ",2]";
  const ApiRequest out = parsed (Dialect::kEmbedding, many + "]}", 0, {{"demo"}, 1, false});
  EXPECT_EQ (out.generations.size (), 2048u);
  EXPECT_TRUE (out.base64);
  EXPECT_EQ (out.user, "u");
}

TEST (ApiParse, responses)
{
  const Good cases[] = {
      {R"({"input":"hi"})", "{" HI "}"},
      {R"({"input":"hi","instructions":"be","max_output_tokens":9,"temperature":1,"top_p":0.5,"store":false})",
       R"({"messages":[{"role":"system","content":"be"},{"role":"user","content":"hi"}],"max_tokens":9,"temperature":1,"top_p":0.5})"},
      {R"({"input":[{"role":"user","content":[{"type":"input_text","text":"a"},{"type":"input_text","text":"b"}]},)"
       R"({"type":"message","id":"msg_1","role":"assistant","status":"completed",)"
       R"("content":[{"type":"output_text","text":"c","annotations":[],"logprobs":[]}]}]})",
       R"({"messages":[{"role":"user","content":"ab"},{"role":"assistant","content":"c"}]})"},
      {R"({"input":[{"role":"user","content":"q"},{"type":"reasoning","id":"rs","summary":[],"content":[{"type":"reasoning_text","text":"r"}]},)"
       R"({"type":"message","role":"assistant","content":"c"},)"
       R"({"type":"function_call","call_id":"1","name":"f","arguments":"{\"a\":1}","id":"fc","status":"completed"},)"
       R"({"type":"function_call","call_id":"2","name":"g","arguments":"{}"},)"
       R"({"type":"function_call_output","call_id":"1","output":"x"},)"
       R"({"type":"function_call_output","call_id":"2","output":[{"type":"input_text","text":"y"}]}]})",
       R"({"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"c","reasoning_content":"r","tool_calls":[)"
       R"({"id":"1","type":"function","function":{"name":"f","arguments":{"a":1}}},)"
       R"({"id":"2","type":"function","function":{"name":"g","arguments":{}}}]},)"
       R"({"role":"tool","content":"x","tool_call_id":"1"},{"role":"tool","content":"y","tool_call_id":"2"}]})"},
      {R"({"input":[{"role":"user","content":"q"},{"type":"function_call","call_id":"1","name":"f","arguments":"{}"},)"
       R"({"type":"function_call_output","call_id":"1","output":"x"}]})",
       R"({"messages":[{"role":"user","content":"q"},{"role":"assistant","content":null,"tool_calls":[)"
       R"({"id":"1","type":"function","function":{"name":"f","arguments":{}}}]},)"
       R"({"role":"tool","content":"x","tool_call_id":"1"}]})"},
      {R"({"input":"hi","reasoning":{"effort":"none"},"text":{"format":{"type":"text"}},"truncation":"disabled",)"
       R"("include":["message.output_text.logprobs"],"top_logprobs":2,"background":false,"service_tier":"auto"})",
       "{" HI R"(,"chat_template_kwargs":{"reasoning_effort":"none","enable_thinking":false},"logprobs":2})"},
      {R"({"input":"hi","tools":[{"type":"function","name":"f","description":"d","parameters":{"type":"object"},"strict":false}]})",
       "{" HI
       R"(,"tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object"}}}]})"},
  };
  expect_all (Dialect::kResponses, cases);
}

TEST (ApiParse, anthropic_messages)
{
  const Good cases[] = {
      {R"({"max_tokens":5,)" HI "}", "{" HI R"(,"max_tokens":5})"},
      {R"({"max_tokens":5,"system":"be","temperature":1,"top_p":0.5,"top_k":3,"stop_sequences":["x"],"seed":1,"priority":"low",)" HI
       "}",
       R"({"messages":[{"role":"system","content":"be"},{"role":"user","content":"hi"}],"max_tokens":5,"temperature":1,)"
       R"("top_p":0.5,"top_k":3,"stop":["x"],"priority":"low","seed":1})"},
      {R"({"max_tokens":5,"system":[{"type":"text","text":"a","cache_control":{"type":"ephemeral","ttl":"1h"}},{"type":"text","text":"b"}],)"
       R"("messages":[{"role":"user","content":[{"type":"text","text":"c"},{"type":"text","text":"d"}]}]})",
       R"({"messages":[{"role":"system","content":"ab"},{"role":"user","content":"cd"}],"max_tokens":5})"},
      {R"({"max_tokens":5,"messages":[{"role":"user","content":"q"},{"role":"assistant","content":[)"
       R"({"type":"thinking","thinking":"t","signature":""},{"type":"text","text":"a"},{"type":"tool_use","id":"1","name":"f","input":{"x":1}}]},)"
       R"({"role":"user","content":[{"type":"tool_result","tool_use_id":"1","content":[{"type":"text","text":"r"}],"is_error":true},)"
       R"({"type":"tool_result","tool_use_id":"2"},{"type":"text","text":"go"}]}]})",
       R"({"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a","reasoning_content":"t","tool_calls":[)"
       R"({"id":"1","type":"function","function":{"name":"f","arguments":{"x":1}}}]},)"
       R"({"role":"tool","content":"r","tool_call_id":"1","is_error":true},{"role":"tool","content":"","tool_call_id":"2"},)"
       R"({"role":"user","content":"go"}],"max_tokens":5})"},
      {R"({"max_tokens":5,"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"1","content":"r"}]}]})",
       R"({"messages":[{"role":"tool","content":"r","tool_call_id":"1"}],"max_tokens":5})"},
      {R"({"max_tokens":5,"thinking":{"type":"disabled"},)" HI "}",
       "{" HI R"(,"chat_template_kwargs":{"enable_thinking":false},"max_tokens":5})"},
      {R"({"max_tokens":5,"thinking":{"type":"adaptive"},)" HI "}",
       "{" HI R"(,"chat_template_kwargs":{"enable_thinking":true},"max_tokens":5})"},
      {R"({"max_tokens":5,"tools":[{"name":"f","description":"d","input_schema":{"type":"object"}}],"tool_choice":{"type":"auto"},)" HI
       "}",
       "{" HI
       R"(,"tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object"}}}],"max_tokens":5})"},
      {R"({"max_tokens":5,"tools":[{"name":"f","input_schema":{}}],"tool_choice":{"type":"none"},"service_tier":"standard_only",)" HI
       "}",
       "{" HI R"(,"max_tokens":5})"},
  };
  expect_all (Dialect::kMessages, cases);
  EXPECT_EQ (parsed (Dialect::kMessages, R"({"max_tokens":5,"metadata":{"user_id":"u"},)" HI "}").user, "u");
}

TEST (ApiParse, ollama)
{
  const Good chats[] = {
      {"{" HI "}", "{" HI "}"},
      {"{" HI
       R"(,"options":{"temperature":0.5,"top_k":5,"top_p":0.5,"min_p":0.1,"seed":3,"num_predict":9,"stop":["a"],)"
       R"("repeat_penalty":1.1,"presence_penalty":1,"frequency_penalty":1},"format":"","keep_alive":"5m"})",
       "{" HI
       R"(,"temperature":0.5,"top_k":5,"top_p":0.5,"min_p":0.1,"max_tokens":9,"stop":["a"],"repetition_penalty":1.1,)"
       R"("presence_penalty":1,"frequency_penalty":1,"seed":3})"},
      {"{" HI R"(,"options":{"num_predict":-1},"keep_alive":-1})", "{" HI R"(,"max_tokens":0})"},
      {"{" HI R"(,"think":true})", "{" HI R"(,"chat_template_kwargs":{"enable_thinking":true}})"},
      {"{" HI R"(,"think":false})", "{" HI R"(,"chat_template_kwargs":{"enable_thinking":false}})"},
      {"{" HI R"(,"think":"high"})",
       "{" HI R"(,"chat_template_kwargs":{"reasoning_effort":"high","enable_thinking":true}})"},
      {"{" HI R"(,"logprobs":true,"top_logprobs":3})", "{" HI R"(,"logprobs":3})"},
      {R"({"messages":[{"role":"assistant","content":"","thinking":"t","tool_calls":[{"function":{"name":"f","arguments":{"a":1}}}]},)"
       R"({"role":"tool","tool_name":"f","content":"x"},{"role":"user","content":"y","images":[]}]})",
       R"({"messages":[{"role":"assistant","content":"","reasoning_content":"t","tool_calls":[)"
       R"({"type":"function","function":{"name":"f","arguments":{"a":1}}}]},{"role":"tool","content":"x","name":"f"},)"
       R"({"role":"user","content":"y"}]})"},
  };
  expect_all (Dialect::kOllamaChat, chats);
  const Good generates[] = {
      {R"({"prompt":"hi"})", "{" HI "}"},
      {R"({"prompt":"hi","system":"be","suffix":"","template":"","images":[]})",
       R"({"messages":[{"role":"system","content":"be"},{"role":"user","content":"hi"}]})"},
      {R"({"prompt":"hi","raw":true,"stream":false})", R"({"prompt":"hi"})"},
  };
  expect_all (Dialect::kOllamaGenerate, generates);
  EXPECT_TRUE (parsed (Dialect::kOllamaChat, "{" HI "}").stream);
  EXPECT_FALSE (parsed (Dialect::kOllamaChat, "{" HI R"(,"stream":false})").stream);
  EXPECT_TRUE (parsed (Dialect::kOllamaGenerate, R"({"prompt":"a"})").reads_reasoning);
  EXPECT_FALSE (parsed (Dialect::kOllamaGenerate, R"({"prompt":"a","raw":true})").reads_reasoning);
}

TEST (ApiParse, text_routes)
{
  TextRequest out;
  EXPECT_FALSE (parse_text_request (TextRoute::kTokenize, R"({"content":"a\nb"})", kLimits, out));
  EXPECT_EQ (out.text, "a\nb");
  EXPECT_FALSE (out.add_special);
  EXPECT_TRUE (out.parse_special);
  EXPECT_FALSE (out.with_pieces);
  EXPECT_FALSE (parse_text_request (
      TextRoute::kTokenize, R"({"prompt":"","add_special":true,"parse_special":false,"with_pieces":true})",
      kLimits, out));
  EXPECT_TRUE (out.add_special);
  EXPECT_FALSE (out.parse_special);
  EXPECT_TRUE (out.with_pieces);
  EXPECT_FALSE (parse_text_request (TextRoute::kDetokenize, R"({"tokens":[3,2147483647],"model":"demo"})",
                                    kLimits, out));
  EXPECT_EQ (out.tokens, (std::vector<TokenId>{3, 2147483647}));
  EXPECT_FALSE (parse_text_request (TextRoute::kApplyTemplate,
                                    "{" HI R"(,"tools":[{"type":"function","function":{"name":"f"}}],)"
                                    R"("chat_template_kwargs":{"a":1},"add_generation_prompt":true})",
                                    kLimits, out));
  EXPECT_EQ (out.chat_json,
             "{" HI
             R"(,"tools":[{"type":"function","function":{"name":"f"}}],"chat_template_kwargs":{"a":1}})");
}

namespace
{

ApiError
error_of (Dialect dialect, const char *body, const ApiLimits &limits)
{
  ApiRequest out;
  return parse_api_request (dialect, body, limits, 0, out);
}

} // namespace

TEST (ApiParse, a_model_without_a_chat_template)
{
  const ApiLimits limits = {{"demo"}, 8, false};
  const std::tuple<Dialect, const char *, const char *> cases[] = {
      {Dialect::kChat, "{" HI "}", "messages"},
      {Dialect::kResponses, R"({"input":"x"})", "input"},
      {Dialect::kMessages, R"({"max_tokens":1,)" HI "}", "messages"},
      {Dialect::kOllamaChat, "{" HI "}", "messages"},
      {Dialect::kOllamaGenerate, R"({"prompt":"x"})", "prompt"},
  };
  for (const auto &[dialect, body, param] : cases) {
    const ApiError error = error_of (dialect, body, limits);
    EXPECT_EQ (error.param, param);
    EXPECT_EQ (error.status, 400);
  }
  EXPECT_FALSE (error_of (Dialect::kOllamaGenerate, R"({"prompt":"x","raw":true})", limits));
  EXPECT_FALSE (error_of (Dialect::kCompletion, R"({"prompt":"x"})", limits));
  EXPECT_FALSE (error_of (Dialect::kEmbedding, R"({"input":"x"})", limits));
}

TEST (ApiParse, text_routes_refuse)
{
  struct Bad {
    const char *body;
    const char *param;
    int status = 400;
    const char *code = "invalid_request";
  };
  struct Case {
    TextRoute route;
    Bad bad;
  };
  const Case cases[] = {
      {TextRoute::kTokenize, {R"({})", "content"}},
      {TextRoute::kTokenize, {R"({"content":7})", "content"}},
      {TextRoute::kTokenize, {R"({"content":"a","text":"b"})", "text"}},
      {TextRoute::kTokenize, {R"({"content":"a","add_special":1})", "add_special"}},
      {TextRoute::kTokenize, {R"({"content":"a","x":1})", "x"}},
      {TextRoute::kTokenize, {R"({"content":"a","model":"y"})", "model", 404, "model_not_found"}},
      {TextRoute::kTokenize, {"{\"content\":\"\xff\"}", "", 400, "invalid_utf8"}},
      {TextRoute::kDetokenize, {R"({})", "tokens"}},
      {TextRoute::kDetokenize, {R"({"tokens":"1"})", "tokens"}},
      {TextRoute::kDetokenize, {R"({"tokens":[1,-1]})", "tokens[1]"}},
      {TextRoute::kDetokenize, {R"({"tokens":[1,2147483648]})", "tokens[1]"}},
      {TextRoute::kApplyTemplate, {R"({})", "messages"}},
      {TextRoute::kApplyTemplate,
       {R"({"messages":[{"role":"user","content":"x"}],"stream":true})", "stream"}},
      {TextRoute::kApplyTemplate,
       {R"({"messages":[{"role":"user","content":"x"}],"add_generation_prompt":false})",
        "add_generation_prompt"}},
  };
  for (const auto &[route, bad] : cases) {
    TextRequest out;
    const ApiError error = parse_text_request (route, bad.body, kLimits, out);
    EXPECT_EQ (error.param, bad.param) << bad.body << "\n" << error.message;
    EXPECT_EQ (error.status, bad.status) << bad.body;
    EXPECT_EQ (error.code, bad.code) << bad.body;
  }
}
