#include "engine/scheduling/request_json.hpp"

#include "engine/scheduling/json_values.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <climits>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

namespace millrace
{

namespace
{

using namespace json_values;

constexpr size_t kMaxNesting = 64;
constexpr size_t kMaxPromptTokens = 1u << 24;
constexpr size_t kMaxTemplateKwargs = 64;

RequestError
read_seed (const std::string &field, const element &value, uint64_t &out)
{
  int64_t number = 0;
  if (!value.get (number)) {
    out = static_cast<uint64_t> (number);
    return {};
  }
  return value.get (out) ? refuse (field, "must be an integer of at most 64 bits") : RequestError{};
}

RequestError
read_id (const std::string &field, const element &value, std::string &out)
{
  std::string_view text;
  int64_t number = 0;
  uint64_t large = 0;
  if (!value.get (text))
    out = text;
  else if (!value.get (number))
    out = std::to_string (number);
  else if (!value.get (large))
    out = std::to_string (large);
  else
    return refuse (field, "must be a string or an integer");
  return {};
}

RequestError
read_tokens (const std::string &field, const element &value, std::vector<TokenId> &out)
{
  simdjson::dom::array entries;
  if (value.get (entries))
    return wrong_type (field, "an array of token ids", value);
  std::vector<TokenId> tokens;
  for (const element entry : entries) {
    int64_t token = 0;
    if (entry.get (token) || token < 0 || token > INT_MAX)
      return refuse (field, "must be an array of token ids; entry " + std::to_string (tokens.size ()) +
                                " is not one");
    if (tokens.size () == kMaxPromptTokens)
      return refuse (field, "must have at most " + std::to_string (kMaxPromptTokens) + " entries");
    tokens.push_back (static_cast<TokenId> (token));
  }
  out = std::move (tokens);
  return {};
}

RequestError
read_stop (const std::string &field, const element &value, std::vector<std::string> &out)
{
  std::string_view text;
  std::vector<std::string> stops;
  simdjson::dom::array entries;
  if (!value.get (text)) {
    stops.emplace_back (text);
  } else if (!value.get (entries)) {
    for (const element entry : entries) {
      if (entry.get (text))
        return refuse (field, std::string ("must be a string or an array of strings, got an array with ") +
                                  type_name (entry));
      if (stops.size () == kMaxStopStrings)
        return refuse (field, "must have at most " + std::to_string (kMaxStopStrings) + " strings");
      stops.emplace_back (text);
    }
  } else {
    return wrong_type (field, "a string or an array of strings", value);
  }
  out = std::move (stops);
  return {};
}

RequestError
read_logit_bias (const std::string &field, const element &value, std::vector<std::pair<TokenId, float>> &out)
{
  simdjson::dom::object entries;
  if (value.get (entries))
    return wrong_type (field, "an object of token id to number", value);
  std::vector<std::pair<TokenId, float>> biases;
  for (const auto &[key, entry] : entries) {
    TokenId token = 0;
    const char *const end = key.data () + key.size ();
    const auto [parsed, error] = std::from_chars (key.data (), end, token);
    // One spelling for each id: no sign, no leading zero.
    if (error != std::errc{} || parsed != end || token < 0 || std::to_string (token) != key)
      return refuse (field, "has the key \"" + quoted (key) + "\", which is not a token id");
    double bias = 0;
    if (!entry.is_number () || entry.get (bias) ||
        std::abs (bias) > static_cast<double> (std::numeric_limits<float>::max ()))
      return refuse (field, "of token " + std::to_string (token) + " must be a number");
    biases.emplace_back (token, static_cast<float> (bias));
  }
  std::sort (biases.begin (), biases.end ());
  const auto same_token = [] (const auto &left, const auto &right) { return left.first == right.first; };
  const auto twice = std::adjacent_find (biases.begin (), biases.end (), same_token);
  if (twice != biases.end ())
    return refuse (field, "has token " + std::to_string (twice->first) + " twice");
  out = std::move (biases);
  return {};
}

/// The value of the member number `index` of a valid JSON object, as it is written.
std::string_view
member_text (std::string_view json, size_t index)
{
  size_t depth = 0, member = 0, begin = 0;
  for (size_t i = 0; i < json.size (); ++i) {
    const char c = json[i];
    if (c == '"') {
      for (++i; i < json.size () && json[i] != '"'; ++i)
        i += json[i] == '\\';
    } else if (c == ':' && depth == 1) {
      begin = i + 1;
    } else if (c == '{' || c == '[') {
      ++depth;
    } else if (c == '}' || c == ']' || c == ',') {
      const bool ends_member = depth == 1;
      depth -= c != ',';
      if (ends_member && member++ == index) {
        const auto is_space = [] (char s) { return s == ' ' || s == '\t' || s == '\n' || s == '\r'; };
        size_t end = i;
        while (begin < end && is_space (json[begin]))
          ++begin;
        while (end > begin && is_space (json[end - 1]))
          --end;
        return json.substr (begin, end - begin);
      }
    }
  }
  return {};
}

/// What the fields say besides the sampling parameters that have a member each.
struct Fields {
  SamplingParams sampling;
  PromptInput prompt;
  std::string prompt_field; ///< the one that was given
  Priority priority = Priority::kNormal;
  int64_t timeout_us = 0;
  EmbeddingParams embed;
  std::string prediction;
  bool has_logprobs = false; ///< as a boolean
  std::optional<int> top_logprobs;
};

RequestError
choose_prompt (const std::string &field, PromptInput::Kind kind, Fields &fields)
{
  if (!fields.prompt_field.empty ())
    return refuse (field, "cannot be given together with " + fields.prompt_field);
  fields.prompt_field = field;
  fields.prompt.kind = kind;
  return {};
}

RequestError
read_messages (const std::string &field, const element &value, std::string_view text, Fields &fields)
{
  if (auto error = choose_prompt (field, PromptInput::Kind::kMessages, fields))
    return error;
  simdjson::dom::array messages;
  if (value.get (messages))
    return wrong_type (field, "an array of objects", value);
  size_t index = 0;
  for (const element message : messages) {
    const std::string name = "message " + std::to_string (index++);
    simdjson::dom::object members;
    if (message.get (members))
      return refuse (field, "must be an array of objects; " + name + " is " + type_name (message));
    element role;
    if (members.at_key ("role").get (role))
      return refuse (field, "must have a role in each; " + name + " has none");
    if (!role.is_string ())
      return refuse (field, "must have a string as role; that of " + name + " is " + type_name (role));
  }
  if (index == 0)
    return refuse (field, "must not be empty");
  fields.prompt.messages_json = text;
  return {};
}

RequestError
read_tools (const std::string &field, const element &value, std::string_view text, Fields &fields)
{
  simdjson::dom::array tools;
  if (value.get (tools))
    return wrong_type (field, "an array of objects", value);
  for (const element tool : tools) {
    if (!tool.is_object ())
      return refuse (field,
                     std::string ("must be an array of objects, got an array with ") + type_name (tool));
  }
  fields.prompt.tools_json = text;
  return {};
}

/// Further variables for the template. What it gets from elsewhere cannot be set here.
RequestError
read_template_kwargs (const std::string &field, const element &value, std::string_view text, Fields &fields)
{
  simdjson::dom::object members;
  if (value.get (members))
    return wrong_type (field, "an object", value);
  std::vector<std::string_view> seen;
  for (const auto &[key, member] : members) {
    if (key == "messages" || key == "tools" || key == "bos_token" || key == "eos_token")
      return refuse (field, "cannot set " + std::string (key));
    if (std::find (seen.begin (), seen.end (), key) != seen.end ())
      return refuse (field, "has \"" + quoted (key) + "\" twice");
    if (seen.size () == kMaxTemplateKwargs)
      return refuse (field, "must have at most " + std::to_string (kMaxTemplateKwargs) + " members");
    seen.push_back (key);
  }
  fields.prompt.kwargs_json = text;
  return {};
}

RequestError
read_prompt_tokens (const std::string &field, const element &value, Fields &fields)
{
  if (auto error = choose_prompt (field, PromptInput::Kind::kTokens, fields))
    return error;
  if (auto error = read_tokens (field, value, fields.prompt.tokens))
    return error;
  return fields.prompt.tokens.empty () ? refuse (field, "must not be empty") : RequestError{};
}

RequestError
read_max_tokens (const std::string &field, const element &value, Fields &fields)
{
  return value.is_null () ? RequestError{} : read (field, value, fields.sampling.max_tokens);
}

/// false: none; true: the chosen token's, and with top_logprobs as many others; a number does both.
RequestError
read_logprobs (const std::string &field, const element &value, Fields &fields)
{
  bool wanted = false;
  if (!value.get (wanted)) {
    fields.has_logprobs = wanted;
    fields.sampling.logprobs = wanted ? 0 : -1;
    return {};
  }
  if (!value.is_number ())
    return wrong_type (field, "true, false or an integer", value);
  if (auto error = read (field, value, fields.sampling.logprobs))
    return error;
  // -1 is how SamplingParams says none; in JSON that is false.
  return fields.sampling.logprobs < 0
             ? refuse (field, "must be between 0 and " + std::to_string (kMaxTopLogprobs) + ", got " +
                                  std::to_string (fields.sampling.logprobs))
             : RequestError{};
}

RequestError
read_top_logprobs (const std::string &field, const element &value, Fields &fields)
{
  int count = 0;
  if (auto error = read (field, value, count))
    return error;
  if (count < 0 || count > kMaxTopLogprobs)
    return refuse (field, "must be between 0 and " + std::to_string (kMaxTopLogprobs) + ", got " +
                              std::to_string (count));
  fields.top_logprobs = count;
  return {};
}

RequestError
read_priority (const std::string &field, const element &value, Fields &fields)
{
  std::string_view text;
  if (value.get (text))
    return wrong_type (field, "a string", value);
  for (const Priority priority : {Priority::kLow, Priority::kNormal, Priority::kHigh}) {
    if (text == priority_name (priority)) {
      fields.priority = priority;
      return {};
    }
  }
  return refuse (field, "must be \"low\", \"normal\" or \"high\", got \"" + quoted (text) + "\"");
}

RequestError
read_timeout (const std::string &field, const element &value, Fields &fields)
{
  int milliseconds = 0;
  if (auto error = read (field, value, milliseconds))
    return error;
  if (milliseconds < 0)
    return refuse (field, "must be at least 0, got " + std::to_string (milliseconds));
  fields.timeout_us = int64_t{milliseconds} * 1000;
  return {};
}

RequestError
read_pooling (const std::string &field, const element &value, Pooling &out)
{
  std::string_view text;
  if (value.get (text))
    return wrong_type (field, "a string", value);
  for (const Pooling pooling : {Pooling::kLast, Pooling::kMean, Pooling::kCls}) {
    if (text == pooling_name (pooling)) {
      out = pooling;
      return {};
    }
  }
  return refuse (field, "must be \"last\", \"mean\" or \"cls\", got \"" + quoted (text) + "\"");
}

RequestError
read_embed (const std::string &field, const element &value, Fields &fields)
{
  simdjson::dom::object members;
  if (value.get (members))
    return wrong_type (field, "an object", value);
  fields.embed = {.pooling = Pooling::kLast};
  bool has_pooling = false, has_normalize = false, has_dimensions = false;
  for (const auto &[key, member] : members) {
    bool *const seen = key == "pooling"      ? &has_pooling
                       : key == "normalize"  ? &has_normalize
                       : key == "dimensions" ? &has_dimensions
                                             : nullptr;
    if (!seen)
      return refuse (field, "has the unknown member \"" + quoted (key) + "\"");
    const std::string name (key);
    if (std::exchange (*seen, true))
      return refuse (name, "is given twice");
    if (auto error = seen == &has_pooling     ? read_pooling (name, member, fields.embed.pooling)
                     : seen == &has_normalize ? read (name, member, fields.embed.normalize)
                                              : read (name, member, fields.embed.dimensions))
      return error;
  }
  if (has_dimensions && fields.embed.dimensions < 1)
    return refuse ("dimensions", "must be at least 1, got " + std::to_string (fields.embed.dimensions));
  return {};
}

using Reader = RequestError (*) (const std::string &field, const element &value, std::string_view text,
                                 Fields &fields);

/// A field and how it is read. Fields with the same `slot` are one field under two names. `text` is the value
/// as it is written, for those that ask for it.
struct Field {
  std::string_view name;
  int slot;
  bool wants_text;
  Reader read;
};

template <auto kMember>
RequestError
read_member (const std::string &field, const element &value, std::string_view, Fields &fields)
{
  return read (field, value, fields.sampling.*kMember);
}

template <auto kReader, auto kMember>
RequestError
read_member_with (const std::string &field, const element &value, std::string_view, Fields &fields)
{
  return kReader (field, value, fields.sampling.*kMember);
}

template <auto kReader>
RequestError
read_fields_with (const std::string &field, const element &value, std::string_view, Fields &fields)
{
  return kReader (field, value, fields);
}

RequestError
read_prompt_text (const std::string &field, const element &value, Fields &fields)
{
  if (auto error = choose_prompt (field, PromptInput::Kind::kText, fields))
    return error;
  return read (field, value, fields.prompt.text);
}

RequestError
read_prediction (const std::string &field, const element &value, Fields &fields)
{
  return read (field, value, fields.prediction);
}

RequestError
skip_id (const std::string &, const element &, std::string_view, Fields &)
{
  return {}; // read before all others
}

constexpr Field kFields[] = {
    {"id", 0, false, skip_id},
    {"prompt", 1, false, read_fields_with<read_prompt_text>},
    {"messages", 2, true, read_messages},
    {"tools", 3, true, read_tools},
    {"tokens", 4, false, read_fields_with<read_prompt_tokens>},
    {"temperature", 5, false, read_member<&SamplingParams::temperature>},
    {"top_k", 6, false, read_member<&SamplingParams::top_k>},
    {"top_p", 7, false, read_member<&SamplingParams::top_p>},
    {"min_p", 8, false, read_member<&SamplingParams::min_p>},
    {"repetition_penalty", 9, false, read_member<&SamplingParams::repetition_penalty>},
    {"presence_penalty", 10, false, read_member<&SamplingParams::presence_penalty>},
    {"frequency_penalty", 11, false, read_member<&SamplingParams::frequency_penalty>},
    {"logit_bias", 12, false, read_member_with<read_logit_bias, &SamplingParams::logit_bias>},
    {"seed", 13, false, read_member_with<read_seed, &SamplingParams::seed>},
    {"logprobs", 14, false, read_fields_with<read_logprobs>},
    {"top_logprobs", 15, false, read_fields_with<read_top_logprobs>},
    {"max_tokens", 16, false, read_fields_with<read_max_tokens>},
    {"max_completion_tokens", 16, false, read_fields_with<read_max_tokens>},
    {"min_tokens", 17, false, read_member<&SamplingParams::min_tokens>},
    {"ignore_eos", 18, false, read_member<&SamplingParams::ignore_eos>},
    {"stop_token_ids", 19, false, read_member_with<read_tokens, &SamplingParams::stop_token_ids>},
    {"stop", 20, false, read_member_with<read_stop, &SamplingParams::stop>},
    {"priority", 21, false, read_fields_with<read_priority>},
    {"timeout_ms", 22, false, read_fields_with<read_timeout>},
    {"chat_template_kwargs", 23, true, read_template_kwargs},
    {"embed", 24, false, read_fields_with<read_embed>},
    {"prediction", 25, false, read_fields_with<read_prediction>},
};
constexpr size_t kSlots = 26;

RequestError
read_fields (std::string_view json, const simdjson::dom::object &object, Fields &fields)
{
  std::array<std::string_view, kSlots> seen{};
  size_t index = 0;
  for (const auto &[key, value] : object) {
    const auto named = [&name = key] (const Field &field) { return field.name == name; };
    const auto *const field = std::find_if (std::begin (kFields), std::end (kFields), named);
    if (field == std::end (kFields))
      return refuse (quoted (key), "is not a known field");
    std::string_view &before = seen[static_cast<size_t> (field->slot)];
    if (before == field->name)
      return refuse (std::string (key), "is given twice");
    if (!before.empty ())
      return refuse (std::string (key), "cannot be given together with " + std::string (before));
    before = field->name;
    const std::string_view text = field->wants_text ? member_text (json, index) : std::string_view ();
    if (auto error = field->read (std::string (key), value, text, fields))
      return error;
    ++index;
  }
  return {};
}

RequestError
check_together (Fields &fields)
{
  if (fields.prompt_field.empty ())
    return {"invalid_request", "prompt", "one of prompt, messages and tokens is needed"};
  if (!fields.prompt.tools_json.empty () && fields.prompt.kind != PromptInput::Kind::kMessages)
    return refuse ("tools", "can only be given together with messages");
  if (!fields.prompt.kwargs_json.empty () && fields.prompt.kind != PromptInput::Kind::kMessages)
    return refuse ("chat_template_kwargs", "can only be given together with messages");
  if (fields.embed.pooling != Pooling::kNone && fields.prompt.kind == PromptInput::Kind::kText &&
      fields.prompt.text.empty ())
    return refuse ("prompt", "must not be empty for an embedding");
  if (fields.top_logprobs) {
    if (!fields.has_logprobs)
      return refuse ("top_logprobs", "can only be given together with \"logprobs\": true");
    fields.sampling.logprobs = *fields.top_logprobs;
  }
  // The vocabulary is not known here; whoever has it checks the ids again.
  return validate (fields.sampling, INT_MAX);
}

RequestError
parse_document (std::string_view json, simdjson::dom::parser &parser, element &document)
{
  if (json.empty ())
    return {"invalid_request", "", "the request is empty"};
  if (json.size () > kMaxRequestBytes)
    return {"invalid_request", "",
            "the request has " + std::to_string (json.size ()) + " bytes; the limit is " +
                std::to_string (kMaxRequestBytes)};
  if (!simdjson::validate_utf8 (json))
    return {"invalid_utf8", "", "the request is not valid UTF-8"};
  // The parser refuses to enter a level with the number it is given, so that one more than the limit is it.
  auto error = parser.allocate (json.size (), kMaxNesting + 1);
  if (!error)
    error = parser.parse (json.data (), json.size ()).get (document);
  if (error == simdjson::MEMALLOC)
    return {"internal", "", "there is not enough memory to read the request"};
  if (error == simdjson::DEPTH_ERROR)
    return {"invalid_request", "",
            "the request is nested more than " + std::to_string (kMaxNesting) + " levels deep"};
  if (error)
    return {"invalid_request", "", std::string ("the request is not valid JSON: ") + error_message (error)};
  return {};
}

} // namespace

RequestError
parse_request (std::string_view json, Request &request, PromptInput &prompt)
{
  simdjson::dom::parser parser (kMaxRequestBytes);
  element document;
  if (auto error = parse_document (json, parser, document))
    return error;
  simdjson::dom::object object;
  if (document.get (object))
    return {"invalid_request", "",
            std::string ("a request must be a JSON object, got ") + type_name (document)};

  // First of all, so that a reply about any other field can name the request.
  element id;
  if (!object.at_key ("id").get (id)) {
    if (auto error = read_id ("id", id, request.id))
      return error;
  }
  Fields fields;
  fields.sampling = request.sampling;
  fields.priority = request.priority;
  fields.timeout_us = request.timeout_us;
  fields.embed = request.embed;
  if (auto error = read_fields (json, object, fields))
    return error;
  if (auto error = check_together (fields))
    return error;
  request.sampling = std::move (fields.sampling);
  request.priority = fields.priority;
  request.timeout_us = fields.timeout_us;
  request.embed = fields.embed;
  request.prediction_text = std::move (fields.prediction);
  prompt = std::move (fields.prompt);
  return {};
}

} // namespace millrace
