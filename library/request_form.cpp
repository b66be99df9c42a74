#include "library/request_form.hpp"

#include "engine/number_text.hpp"
#include "library/sampling_properties.hpp"

#include <climits>
#include <cstring>
#include <utility>

namespace millrace
{

namespace
{

std::string
json_string (std::string_view text)
{
  std::string out;
  append_json_string (out, text);
  return out;
}

template <typename List, typename Item>
std::string
list_of (const List &list, Item item, const char *brackets = "[]")
{
  std::string out (1, brackets[0]);
  for (const auto &entry : list)
    out += (out.size () > 1 ? "," : "") + item (entry);
  return out + brackets[1];
}

/// A JSON object as it grows.
struct Members {
  std::string text = "{";

  void add (std::string_view name, std::string_view value)
  {
    if (text.size () > 1)
      text += ',';
    text.append (1, '"').append (name).append ("\":").append (value);
  }
};

std::string
json_name (const char *property)
{
  std::string name = property;
  for (char &c : name)
    c = c == '-' ? '_' : c;
  return name;
}

void
add_sampling (Members &members, const SamplingParams &params, const SamplingProperty &property)
{
  const std::string name = json_name (property.name);
  if (const auto *real = std::get_if<double SamplingParams::*> (&property.member))
    members.add (name, number_text (params.**real));
  else if (const auto *integer = std::get_if<int SamplingParams::*> (&property.member))
    members.add (name, name == "logprobs" && params.**integer < 0 ? "false" : number_text (params.**integer));
  else if (const auto *flag = std::get_if<bool SamplingParams::*> (&property.member))
    members.add (name, params.**flag ? "true" : "false");
  else if (const auto *large = std::get_if<uint64_t SamplingParams::*> (&property.member))
    members.add (name, number_text (params.**large));
  else if (const auto *strings = std::get_if<std::vector<std::string> SamplingParams::*> (&property.member))
    members.add (name, list_of (params.**strings, json_string));
}

void
add_prompt (Members &members, const RequestForm &form)
{
  switch (form.input.kind) {
  case PromptInput::Kind::kText:
    if (form.messages.empty ())
      members.add ("prompt", json_string (form.input.text));
    break;
  case PromptInput::Kind::kTokens:
    if (form.messages.empty ())
      members.add ("tokens", list_of (form.input.tokens, number_text<TokenId>));
    break;
  case PromptInput::Kind::kMessages:
    break;
  }
  if (!form.messages.empty () || form.input.kind == PromptInput::Kind::kMessages) {
    std::string list = list_of (form.messages, [] (const auto &message) {
      Members members;
      members.add ("role", json_string (message.first));
      members.add ("content", json_string (message.second));
      return members.text + "}";
    });
    if (form.input.kind == PromptInput::Kind::kMessages && !form.input.messages_json.empty ()) {
      const std::string &before = form.input.messages_json; // "[...]", not empty
      list = before.substr (0, before.size () - 1) + (form.messages.empty () ? "]" : "," + list.substr (1));
    }
    members.add ("messages", list);
  }
  if (!form.input.tools_json.empty ())
    members.add ("tools", form.input.tools_json);
  if (!form.input.kwargs_json.empty ())
    members.add ("chat_template_kwargs", form.input.kwargs_json);
}

void
add_embed (Members &members, const EmbeddingParams &embed)
{
  Members inner;
  inner.add ("pooling", json_string (pooling_name (embed.pooling)));
  inner.add ("normalize", embed.normalize ? "true" : "false");
  if (embed.dimensions > 0)
    inner.add ("dimensions", number_text (embed.dimensions));
  members.add ("embed", inner.text + "}");
}

} // namespace

RequestError
RequestForm::check () const
{
  if (!has_input && messages.empty ())
    return {"invalid_request", "prompt", "one of prompt, messages and tokens is needed"};
  if (timeout_ms < 0)
    return {"invalid_request", "timeout_ms",
            "timeout_ms must be at least 0, got " + std::to_string (timeout_ms)};
  return validate (sampling, INT_MAX);
}

std::string
RequestForm::to_json (const EmbeddingParams *embed_as) const
{
  Members members;
  add_prompt (members, *this);
  size_t index = 0;
  for (const SamplingProperty &property : sampling_properties ()) {
    if (said.test (index++))
      add_sampling (members, sampling, property);
  }
  if (!sampling.logit_bias.empty ())
    members.add ("logit_bias", list_of (
                                   sampling.logit_bias,
                                   [] (const auto &bias) {
                                     return "\"" + number_text (bias.first) +
                                            "\":" + number_text (bias.second);
                                   },
                                   "{}"));
  if (!sampling.stop_token_ids.empty ())
    members.add ("stop_token_ids", list_of (sampling.stop_token_ids, number_text<TokenId>));
  if (priority != Priority::kNormal)
    members.add ("priority", json_string (priority_name (priority)));
  if (timeout_ms > 0)
    members.add ("timeout_ms", number_text (timeout_ms));
  if (!prediction.empty ())
    members.add ("prediction", json_string (prediction));
  const EmbeddingParams &wanted = embed_as ? *embed_as : embed;
  if (wanted.pooling != Pooling::kNone)
    add_embed (members, wanted);
  return members.text + "}";
}

RequestError
read_form (std::string_view json, RequestForm &form)
{
  Request request;
  request.sampling = form.sampling;
  request.priority = form.priority;
  request.timeout_us = int64_t{form.timeout_ms} * 1000;
  request.embed = form.embed;
  request.id = form.id;
  PromptInput input;
  if (auto error = parse_request (json, request, input))
    return error;
  form.id = request.id;
  form.sampling = std::move (request.sampling);
  form.said.set ();
  form.priority = request.priority;
  form.timeout_ms = static_cast<int> (request.timeout_us / 1000);
  form.embed = request.embed;
  form.prediction = std::move (request.prediction_text);
  form.input = std::move (input);
  form.messages.clear ();
  form.has_input = true;
  return {};
}

} // namespace millrace
