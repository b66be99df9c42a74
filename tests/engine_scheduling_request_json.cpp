// Requests as JSON: every field is honoured or refused by name. Also a request's own few functions.
//
// labels: unit
#include "engine/scheduling/request_json.hpp"

#include "engine/model/chat_prompt.hpp"

#include <gtest/gtest.h>
#include <simdjson.h>

#include <functional>
#include <random>
#include <set>
#include <thread>

using namespace millrace;

namespace
{

struct Parsed {
  Request request;
  PromptInput prompt;
  RequestError error;
};

std::unique_ptr<Parsed>
parsed (std::string_view json, const SamplingParams &defaults = {})
{
  auto result = std::make_unique<Parsed> ();
  result->request.id = "default id";
  result->request.sampling = defaults;
  // A buffer of exactly this size, so that a sanitizer sees a read past it.
  const std::vector<char> exact (json.begin (), json.end ());
  result->error = parse_request ({exact.data (), exact.size ()}, result->request, result->prompt);
  return result;
}

struct Good {
  const char *json;
  std::function<bool (const Parsed &)> holds;
};

struct Bad {
  std::string json;
  const char *field;
  const char *part_of_message;
  const char *code = "invalid_request";
};

std::string
nested (int levels)
{
  // The request is level 1, the message list 2, the message 3.
  return R"({"messages":[{"role":"user","x":)" + std::string (levels - 3, '[') + "1" +
         std::string (levels - 3, ']') + "}]}";
}

} // namespace

TEST (RequestJson, fields_are_honoured)
{
  using Kind = PromptInput::Kind;
  const Good cases[] = {
      {R"({"prompt":"hi"})",
       [] (auto &p) {
         return p.prompt.kind == Kind::kText && p.prompt.text == "hi" && p.request.id == "default id";
       }},
      {R"({"prompt":""})", [] (auto &p) { return p.prompt.text.empty (); }},
      {R"({"prompt":"a\u0000b\ud83d\ude00"})",
       [] (auto &p) { return p.prompt.text == std::string ("a\0b😀", 7); }},
      {" \n{ \"prompt\" : \"x\" }\t", [] (auto &p) { return p.prompt.text == "x"; }},
      {R"({"\u0070rompt":"x"})", [] (auto &p) { return p.prompt.text == "x"; }},
      {R"({"tokens":[0,1,2147483646]})",
       [] (auto &p) {
         return p.prompt.kind == Kind::kTokens && p.prompt.tokens == std::vector<TokenId>{0, 1, 2147483646};
       }},
      {R"({"messages":[{"role":"user","content":"hi"}]})",
       [] (auto &p) {
         return p.prompt.kind == Kind::kMessages &&
                p.prompt.messages_json == R"([{"role":"user","content":"hi"}])" &&
                p.prompt.tools_json.empty ();
       }},
      // Verbatim: spaces, escapes, number spellings and what looks like structure inside of strings.
      {R"({"id":"a,b:{\"","messages" : [ {"role":"user","content":"]}\\\",:[" , "n":1.50e+2} ] ,"tools":[{"x":[1]}]})",
       [] (auto &p) {
         return p.prompt.messages_json == R"([ {"role":"user","content":"]}\\\",:[" , "n":1.50e+2} ])" &&
                p.prompt.tools_json == R"([{"x":[1]}])" && p.request.id == "a,b:{\"";
       }},
      {R"({"tools":[],"messages":[{"role":"user"}]})", [] (auto &p) { return p.prompt.tools_json == "[]"; }},
      {R"({"messages":[{"role":"user"}],"chat_template_kwargs": {"enable_thinking":false, "x":[1,{"messages":2}]} })",
       [] (auto &p) {
         return p.prompt.kwargs_json == R"({"enable_thinking":false, "x":[1,{"messages":2}]})";
       }},
      {R"({"chat_template_kwargs":{},"messages":[{"role":"user"}]})",
       [] (auto &p) { return p.prompt.kwargs_json == "{}"; }},
      {R"({"chat_template_kwargs":{"add_generation_prompt":false,"documents":[]},"messages":[{"role":"user"}]})",
       [] (auto &p) { return !p.prompt.kwargs_json.empty (); }},
      {R"({"prompt":"x"})", [] (auto &p) { return p.request.embed.pooling == Pooling::kNone; }},
      {R"({"prompt":"x","embed":{}})",
       [] (auto &p) {
         return p.request.embed.pooling == Pooling::kLast && p.request.embed.normalize &&
                p.request.embed.dimensions == 0;
       }},
      {R"({"tokens":[1],"embed":{"pooling":"mean","normalize":false,"dimensions":3}})",
       [] (auto &p) {
         return p.request.embed.pooling == Pooling::kMean && !p.request.embed.normalize &&
                p.request.embed.dimensions == 3;
       }},
      {R"({"embed":{"pooling":"cls"},"prompt":"x","max_tokens":4})",
       [] (auto &p) { return p.request.embed.pooling == Pooling::kCls; }},
      {R"({"prompt":"","id":"seven"})", [] (auto &p) { return p.request.id == "seven"; }},
      {R"({"prompt":"","id":-7})", [] (auto &p) { return p.request.id == "-7"; }},
      {R"({"prompt":"","id":18446744073709551615})",
       [] (auto &p) { return p.request.id == "18446744073709551615"; }},
      {R"({"prompt":"","temperature":0.5})", [] (auto &p) { return p.request.sampling.temperature == 0.5; }},
      {R"({"prompt":"","temperature":2})", [] (auto &p) { return p.request.sampling.temperature == 2; }},
      {R"({"prompt":"","top_k":40})", [] (auto &p) { return p.request.sampling.top_k == 40; }},
      {R"({"prompt":"","top_p":0.9})", [] (auto &p) { return p.request.sampling.top_p == 0.9; }},
      {R"({"prompt":"","min_p":1e-2})", [] (auto &p) { return p.request.sampling.min_p == 0.01; }},
      {R"({"prompt":"","repetition_penalty":1.25})",
       [] (auto &p) { return p.request.sampling.repetition_penalty == 1.25; }},
      {R"({"prompt":"","presence_penalty":-2})",
       [] (auto &p) { return p.request.sampling.presence_penalty == -2; }},
      {R"({"prompt":"","frequency_penalty":0.1})",
       [] (auto &p) { return p.request.sampling.frequency_penalty == 0.1; }},
      {R"({"prompt":"","logit_bias":{"17":-100,"3":2.5,"0":0}})",
       [] (auto &p) {
         return p.request.sampling.logit_bias ==
                std::vector<std::pair<TokenId, float>>{{0, 0.0f}, {3, 2.5f}, {17, -100.0f}};
       }},
      {R"({"prompt":"","logit_bias":{}})", [] (auto &p) { return p.request.sampling.logit_bias.empty (); }},
      {R"({"prompt":"","seed":12})", [] (auto &p) { return p.request.sampling.seed == 12; }},
      {R"({"prompt":"","seed":-1})", [] (auto &p) { return p.request.sampling.seed == UINT64_MAX; }},
      {R"({"prompt":"","seed":18446744073709551615})",
       [] (auto &p) { return p.request.sampling.seed == UINT64_MAX; }},
      {R"({"prompt":"","logprobs":false})", [] (auto &p) { return p.request.sampling.logprobs == -1; }},
      {R"({"prompt":"","logprobs":true})", [] (auto &p) { return p.request.sampling.logprobs == 0; }},
      {R"({"prompt":"","logprobs":0})", [] (auto &p) { return p.request.sampling.logprobs == 0; }},
      {R"({"prompt":"","logprobs":20})", [] (auto &p) { return p.request.sampling.logprobs == 20; }},
      {R"({"prompt":"","logprobs":true,"top_logprobs":4})",
       [] (auto &p) { return p.request.sampling.logprobs == 4; }},
      {R"({"prompt":"","top_logprobs":4,"logprobs":true})",
       [] (auto &p) { return p.request.sampling.logprobs == 4; }},
      {R"({"prompt":"","max_tokens":7})", [] (auto &p) { return p.request.sampling.max_tokens == 7; }},
      {R"({"prompt":"","max_tokens":0})", [] (auto &p) { return p.request.sampling.max_tokens == 0; }},
      {R"({"prompt":"","max_tokens":null})", [] (auto &p) { return p.request.sampling.max_tokens == 99; }},
      {R"({"prompt":"","max_completion_tokens":8})",
       [] (auto &p) { return p.request.sampling.max_tokens == 8; }},
      {R"({"prompt":"","max_completion_tokens":null})",
       [] (auto &p) { return p.request.sampling.max_tokens == 99; }},
      {R"({"prompt":"","min_tokens":5})", [] (auto &p) { return p.request.sampling.min_tokens == 5; }},
      {R"({"prompt":"","ignore_eos":true})", [] (auto &p) { return p.request.sampling.ignore_eos; }},
      {R"({"prompt":"","stop_token_ids":[5,3]})",
       [] (auto &p) {
         return p.request.sampling.stop_token_ids == std::vector<TokenId>{5, 3};
       }},
      {R"({"prompt":"","stop":"\n"})",
       [] (auto &p) { return p.request.sampling.stop == std::vector<std::string>{"\n"}; }},
      {R"({"prompt":"","stop":["a","é"]})",
       [] (auto &p) {
         return p.request.sampling.stop == std::vector<std::string>{"a", "é"};
       }},
      {R"({"prompt":"","stop":[]})", [] (auto &p) { return p.request.sampling.stop.empty (); }},
      {R"({"prompt":""})",
       [] (auto &p) {
         return p.request.sampling.temperature == 0.25 &&
                p.request.sampling.stop == std::vector<std::string>{"default"};
       }},
  };
  SamplingParams defaults;
  defaults.temperature = 0.25;
  defaults.max_tokens = 99;
  defaults.stop = {"default"};
  for (const Good &each : cases) {
    const auto result = parsed (each.json, defaults);
    EXPECT_FALSE (result->error) << each.json << ": " << result->error.message;
    EXPECT_TRUE (each.holds (*result)) << each.json;
  }
}

TEST (RequestJson, what_is_wrong_is_refused_by_name)
{
  const std::string p = R"({"prompt":"",)";
  const Bad cases[] = {
      {"", "", "empty"},
      {" ", "", "not valid JSON"},
      {"{", "", "not valid JSON"},
      {R"({"prompt":"x"} x)", "", "not valid JSON"},
      {R"({"prompt":"x",})", "", "not valid JSON"},
      {R"({'prompt':"x"})", "", "not valid JSON"},
      {"{\"prompt\":\"a\nb\"}", "", "not valid JSON"},
      {R"({"prompt":"\ud800"})", "", "not valid JSON"},
      {R"({"prompt":"\x"})", "", "not valid JSON"},
      {p + R"("temperature":1e999})", "", "not valid JSON"},
      {p + R"("temperature":NaN})", "", "not valid JSON"},
      {"{\"prompt\":\"\xff\"}", "", "UTF-8", "invalid_utf8"},
      {"{\"prompt\":\"\xc0\xaf\"}", "", "UTF-8", "invalid_utf8"},
      {"{\"prompt\":\"\xed\xa0\x80\"}", "", "UTF-8", "invalid_utf8"},
      {"\xff", "", "UTF-8", "invalid_utf8"},
      {"[]", "", "must be a JSON object, got an array"},
      {"null", "", "must be a JSON object, got null"},
      {"\"prompt\"", "", "must be a JSON object, got a string"},
      {"{}", "prompt", "one of prompt, messages and tokens"},
      {R"({"temperature":1})", "prompt", "one of prompt, messages and tokens"},
      {R"({"prompt":"a","prompt":"b"})", "prompt", "given twice"},
      {p + R"("seed":1,"seed":1})", "seed", "given twice"},
      {p + R"("id":1,"id":2})", "id", "given twice"},
      {p + R"("max_tokens":1,"max_completion_tokens":1})", "max_completion_tokens",
       "together with max_tokens"},
      {p + R"("tokens":[1]})", "tokens", "together with prompt"},
      {p + R"("messages":[{"role":"user"}]})", "messages", "together with prompt"},
      {R"({"tokens":[1],"prompt":""})", "prompt", "together with tokens"},
      {p + R"("tools":[]})", "tools", "together with messages"},
      {R"({"prompt":1})", "prompt", "must be a string, got a number"},
      {R"({"prompt":null})", "prompt", "must be a string, got null"},
      {R"({"prompt":["a"]})", "prompt", "must be a string, got an array"},
      {R"({"tokens":[]})", "tokens", "must not be empty"},
      {R"({"tokens":"1"})", "tokens", "must be an array of token ids, got a string"},
      {R"({"tokens":[1,-1]})", "tokens", "entry 1 is not one"},
      {R"({"tokens":[2147483648]})", "tokens", "entry 0 is not one"},
      {R"({"tokens":[1.0]})", "tokens", "entry 0 is not one"},
      {R"({"tokens":[1,"2"]})", "tokens", "entry 1 is not one"},
      {R"({"messages":{}})", "messages", "must be an array of objects, got an object"},
      {R"({"messages":[]})", "messages", "must not be empty"},
      {R"({"messages":["hi"]})", "messages", "message 0 is a string"},
      {R"({"messages":[{"role":"user"},{"content":"x"}]})", "messages", "message 1 has none"},
      {R"({"messages":[{"role":1}]})", "messages", "message 0 is a number"},
      {R"({"messages":[{"role":"user"}],"tools":{}})", "tools", "must be an array of objects, got an object"},
      {R"({"messages":[{"role":"user"}],"tools":[1]})", "tools", "array with a number"},
      {p + R"("id":1.5})", "id", "must be a string or an integer"},
      {p + R"("id":null})", "id", "must be a string or an integer"},
      {p + R"("temperature":"hot"})", "temperature", "must be a number, got a string"},
      {p + R"("temperature":null})", "temperature", "must be a number, got null"},
      {p + R"("temperature":-1})", "temperature", "must be between 0 and 100, got -1"},
      {p + R"("temperature":101})", "temperature", "must be between 0 and 100, got 101"},
      {p + R"("top_k":-1})", "top_k", "must not be negative, got -1"},
      {p + R"("top_k":1.0})", "top_k", "must be an integer"},
      {p + R"("top_k":2147483648})", "top_k", "at most 32 bits"},
      {p + R"("top_k":18446744073709551615})", "top_k", "at most 32 bits"},
      {p + R"("top_k":true})", "top_k", "must be an integer, got a boolean"},
      {p + R"("top_p":0})", "top_p", "greater than 0 and at most 1"},
      {p + R"("top_p":1.5})", "top_p", "greater than 0 and at most 1"},
      {p + R"("min_p":-0.5})", "min_p", "must be between 0 and 1"},
      {p + R"("min_p":[]})", "min_p", "must be a number, got an array"},
      {p + R"("repetition_penalty":0})", "repetition_penalty", "greater than 0"},
      {p + R"("presence_penalty":1000})", "presence_penalty", "between -100 and 100"},
      {p + R"("frequency_penalty":-1000})", "frequency_penalty", "between -100 and 100"},
      {p + R"("logit_bias":[]})", "logit_bias", "must be an object of token id to number, got an array"},
      {p + R"("logit_bias":{"a":1}})", "logit_bias", "\"a\", which is not a token id"},
      {p + R"("logit_bias":{"-1":1}})", "logit_bias", "\"-1\", which is not a token id"},
      {p + R"("logit_bias":{"01":1}})", "logit_bias", "\"01\", which is not a token id"},
      {p + R"("logit_bias":{"":1}})", "logit_bias", "\"\", which is not a token id"},
      {p + R"("logit_bias":{"1 ":1}})", "logit_bias", "\"1 \", which is not a token id"},
      {p + R"("logit_bias":{"99999999999":1}})", "logit_bias", "which is not a token id"},
      {p + R"("logit_bias":{"1":"2"}})", "logit_bias", "of token 1 must be a number"},
      {p + R"("logit_bias":{"1":1e300}})", "logit_bias", "of token 1 must be a number"},
      {p + R"("logit_bias":{"1":1,"2":1,"1":2}})", "logit_bias", "has token 1 twice"},
      {p + R"("seed":1.5})", "seed", "must be an integer of at most 64 bits"},
      {p + R"("seed":"1"})", "seed", "must be an integer of at most 64 bits"},
      {p + R"("logprobs":21})", "logprobs", "must be between 0 and 20, got 21"},
      {p + R"("logprobs":-1})", "logprobs", "must be between 0 and 20, got -1"},
      {p + R"("logprobs":"all"})", "logprobs", "must be true, false or an integer, got a string"},
      {p + R"("top_logprobs":3})", "top_logprobs", "\"logprobs\": true"},
      {p + R"("logprobs":2,"top_logprobs":3})", "top_logprobs", "\"logprobs\": true"},
      {p + R"("logprobs":true,"top_logprobs":21})", "top_logprobs", "must be between 0 and 20, got 21"},
      {p + R"("logprobs":true,"top_logprobs":null})", "top_logprobs", "must be an integer, got null"},
      {p + R"("max_tokens":-1})", "max_tokens", "must not be negative"},
      {p + R"("max_tokens":"7"})", "max_tokens", "must be an integer, got a string"},
      {p + R"("max_completion_tokens":1.5})", "max_completion_tokens", "must be an integer"},
      {p + R"("min_tokens":300})", "min_tokens", "must not exceed max_tokens (256), got 300"},
      {p + R"("ignore_eos":1})", "ignore_eos", "must be true or false, got a number"},
      {p + R"("stop_token_ids":[-5]})", "stop_token_ids", "entry 0 is not one"},
      {p + R"("stop_token_ids":5})", "stop_token_ids", "must be an array of token ids, got a number"},
      {p + R"("stop":5})", "stop", "must be a string or an array of strings, got a number"},
      {p + R"("stop":["a",5]})", "stop", "got an array with a number"},
      {p + R"("stop":""})", "stop", "must not contain an empty string"},
      {p + R"("stop":["1","2","3","4","5","6","7","8","9","a","b","c","d","e","f","g","h"]})", "stop",
       "at most 16 strings"},
      {p + R"("stop":")" + std::string (1025, 'x') + R"("})", "stop", "at most 1024 bytes"},
      {p + R"("timeout_ms":-5})", "timeout_ms", "must be at least 0, got -5"},
      {p + R"("timeout_ms":"1"})", "timeout_ms", "must be an integer, got a string"},
      {p + R"("priority":1})", "priority", "must be a string, got"},
      {p + R"("priority":"urgent"})", "priority", "must be \"low\", \"normal\" or \"high\", got \"urgent\""},
      {p + R"("Temperature":1})", "Temperature", "is not a known field"},
      {p + R"("":1})", "", "is not a known field"},
      {p + R"("chat_template_kwargs":{}})", "chat_template_kwargs", "together with messages"},
      {R"({"messages":[{"role":"user"}],"chat_template_kwargs":[]})", "chat_template_kwargs",
       "must be an object, got an array"},
      {R"({"messages":[{"role":"user"}],"chat_template_kwargs":{"a":1,"\u0061":2}})", "chat_template_kwargs",
       "has \"a\" twice"},
      {R"({"messages":[{"role":"user"}],"chat_template_kwargs":{"\u006dessages":[]}})",
       "chat_template_kwargs", "cannot set messages"},
      {R"({"messages":[{"role":"user"}],"chat_template_kwargs":{"tools":1}})", "chat_template_kwargs",
       "cannot set tools"},
      {R"({"messages":[{"role":"user"}],"chat_template_kwargs":{"bos_token":""}})", "chat_template_kwargs",
       "cannot set bos_token"},
      {R"({"messages":[{"role":"user"}],"chat_template_kwargs":{"eos_token":""}})", "chat_template_kwargs",
       "cannot set eos_token"},
      {p + R"("embed":{}})", "prompt", "must not be empty for an embedding"},
      {p + R"("embed":true})", "embed", "must be an object, got a boolean"},
      {p + R"("embed":{"pool":"mean"}})", "embed", "the unknown member \"pool\""},
      {p + R"("embed":{"pooling":"max"}})", "pooling", "must be \"last\", \"mean\" or \"cls\", got \"max\""},
      {p + R"("embed":{"pooling":1}})", "pooling", "must be a string, got a number"},
      {p + R"("embed":{"normalize":1}})", "normalize", "must be true or false"},
      {p + R"("embed":{"dimensions":0}})", "dimensions", "must be at least 1, got 0"},
      {p + R"("embed":{"dimensions":1.5}})", "dimensions", "must be an integer"},
      {p + R"("embed":{"pooling":"cls","pooling":"cls"}})", "pooling", "is given twice"},
      {R"({"model":"m","prompt":""})", "model", "is not a known field"},
      {nested (65), "", "more than 64 levels"},
      {nested (100'000), "", "more than 64 levels"},
      {std::string (100'000, '['), "", "not valid JSON"},
  };
  size_t number = 0;
  for (const Bad &each : cases) {
    const auto result = parsed (each.json);
    const std::string shown = "case " + std::to_string (number++) + ": " + each.json.substr (0, 80);
    EXPECT_STREQ (result->error.code, each.code) << shown;
    EXPECT_EQ (result->error.field, each.field) << shown;
    EXPECT_NE (result->error.message.find (each.part_of_message), std::string::npos)
        << shown << "\n  says: " << result->error.message;
  }
  EXPECT_FALSE (parsed (nested (64))->error) << parsed (nested (64))->error.message;
}

TEST (RequestJson, an_error_keeps_the_id_and_leaves_the_rest)
{
  const auto result = parsed (R"({"prompt":"x","temperature":1,"top_k":-1,"id":"mine"})");
  EXPECT_EQ (result->error.field, "top_k");
  EXPECT_EQ (result->request.id, "mine");
  EXPECT_EQ (result->request.sampling.temperature, 0);
  EXPECT_TRUE (result->prompt.text.empty ());
}

TEST (RequestJson, a_long_field_name_is_cut_at_a_character)
{
  std::string name;
  for (int i = 0; i < 1'000; ++i)
    name += "é";
  const auto result = parsed (R"({"x)" + name + R"(":1})");
  EXPECT_LE (result->error.field.size (), 70u);
  EXPECT_TRUE (simdjson::validate_utf8 (result->error.field)) << result->error.field;
  EXPECT_TRUE (simdjson::validate_utf8 (result->error.message)) << result->error.message;
}

TEST (RequestJson, sizes_are_bounded)
{
  std::string large = R"({"prompt":")";
  large.resize (kMaxRequestBytes + 1, 'x');
  EXPECT_NE (parsed (large)->error.message.find ("the limit is"), std::string::npos);

  std::string tokens = R"({"tokens":[0)";
  for (size_t i = 0; i < (1u << 24); ++i)
    tokens += ",0";
  tokens += "]}";
  const auto result = parsed (tokens);
  EXPECT_EQ (result->error.field, "tokens");
  EXPECT_EQ (result->error.message, "tokens must have at most 16777216 entries");
}

TEST (RequestJson, damaged_requests_end_in_an_error_or_a_prompt)
{
  const std::string good =
      R"({"id":"x","messages":[{"role":"user","content":"a\"b\\"}],"tools":[{"a":[1,{"b":null}]}],)"
      R"("chat_template_kwargs":{"b":[true]},"temperature":0.5,"logit_bias":{"1":2},"stop":["a","b"],"seed":-3,)"
      R"("logprobs":true,"max_tokens":9,"embed":{"pooling":"mean","dimensions":2}})";
  ASSERT_FALSE (parsed (good)->error) << parsed (good)->error.message;
  int refused = 0;
  constexpr uint64_t kCases = 4'000;
  for (uint64_t seed = 0; seed < kCases; ++seed) {
    std::mt19937_64 random (seed);
    std::string json = good;
    for (size_t edits = 1 + random () % 3; edits > 0; --edits) {
      const size_t at = random () % json.size ();
      constexpr std::string_view kBytes = "{}[]\",:\\0-e.tn \xc3\xff";
      switch (random () % 3) {
      case 0:
        json[at] = kBytes[random () % kBytes.size ()];
        break;
      case 1:
        json.erase (at, 1 + random () % 5);
        break;
      default:
        json.insert (at, 1, kBytes[random () % kBytes.size ()]);
      }
    }
    const auto result = parsed (json);
    refused += static_cast<bool> (result->error);
    if (result->error) {
      ASSERT_FALSE (result->error.message.empty ()) << "seed " << seed;
      continue;
    }
    // What was cut out of the request is JSON of its own.
    simdjson::dom::parser parser;
    simdjson::dom::array messages;
    ASSERT_FALSE (parser.parse (result->prompt.messages_json).get (messages))
        << "seed " << seed << ": " << json;
    ASSERT_GT (messages.size (), 0u) << "seed " << seed;
  }
  EXPECT_GT (refused, 1'000);
  EXPECT_LT (refused, static_cast<int> (kCases));
}

TEST (RequestJson, template_kwargs_are_variables_and_win)
{
  Model model;
  model.chat_template = ChatTemplate::compile (
      "{{ messages|length }} {{ tools }} {{ documents }} {{ add_generation_prompt }} {{ enable_thinking }}");
  const std::string messages = R"([{"role":"user","content":"hi"}])";
  EXPECT_EQ (render_chat (model, messages, {}, 0), "1 None None True ");
  EXPECT_EQ (render_chat (model, messages, {}, 0, " { } "), "1 None None True ");
  EXPECT_EQ (render_chat (model, messages, "[]", 0, R"({"enable_thinking":false})"), "1 [] None True False");
  EXPECT_EQ (
      render_chat (model, messages, {}, 0,
                   R"({"enable_thinking":"}", "add_generation_prompt":false,"documents":[{"a":"b"}] })"),
      "1 None [{'a': 'b'}] False }");
}

TEST (JsonText, strings_are_escaped_as_json_requires_and_come_back)
{
  std::string out;
  append_json_string (out, "a\"b\\c/\b\f\n\r\t\x01\x1f\x7fé😀");
  EXPECT_EQ (out, "\"a\\\"b\\\\c/\\b\\f\\n\\r\\t\\u0001\\u001f\x7fé😀\"");

  std::string all;
  for (int c = 0; c < 0x80; ++c)
    all += static_cast<char> (c);
  std::string json = "[";
  append_json_string (json, all);
  json += "]";
  simdjson::dom::parser parser;
  std::string_view back;
  ASSERT_FALSE (parser.parse (json).at (0).get (back));
  EXPECT_EQ (back, all);
}

TEST (Request, serials_are_unique_in_any_thread)
{
  std::set<uint64_t> serials;
  std::vector<std::vector<uint64_t>> found (4);
  std::vector<std::thread> threads;
  for (auto &mine : found) {
    threads.emplace_back ([&mine] {
      for (int i = 0; i < 500; ++i)
        mine.push_back (Request ().serial);
    });
  }
  for (auto &thread : threads)
    thread.join ();
  for (const auto &mine : found) {
    EXPECT_TRUE (std::is_sorted (mine.begin (), mine.end ()));
    serials.insert (mine.begin (), mine.end ());
  }
  EXPECT_EQ (serials.size (), 2'000u);
  EXPECT_EQ (serials.count (0), 0u) << "0 is no request";
}

TEST (Request, the_first_reason_to_end_wins)
{
  Request request;
  EXPECT_EQ (request.finish_early.load (), FinishReason::kNone);
  request.end (FinishReason::kCancelled);
  request.end (FinishReason::kTimeout);
  EXPECT_EQ (request.finish_early.load (), FinishReason::kCancelled);

  for (int round = 0; round < 200; ++round) {
    Request raced;
    FinishReason seen[2];
    std::thread one ([&] { raced.end (FinishReason::kCancelled), seen[0] = raced.finish_early; });
    std::thread two ([&] { raced.end (FinishReason::kTimeout), seen[1] = raced.finish_early; });
    one.join ();
    two.join ();
    ASSERT_EQ (seen[0], seen[1]) << "round " << round;
    ASSERT_NE (seen[0], FinishReason::kNone);
  }
}

TEST (Request, finish_reasons_have_names)
{
  EXPECT_EQ (finish_reason_name (FinishReason::kNone), nullptr);
  EXPECT_STREQ (finish_reason_name (FinishReason::kStop), "stop");
  EXPECT_STREQ (finish_reason_name (FinishReason::kLength), "length");
  EXPECT_STREQ (finish_reason_name (FinishReason::kCancelled), "cancelled");
  EXPECT_STREQ (finish_reason_name (FinishReason::kTimeout), "timeout");
  EXPECT_STREQ (finish_reason_name (FinishReason::kError), "error");
}
