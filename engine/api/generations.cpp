#include "engine/api/generations.hpp"

#include "engine/api/json_append.hpp"
#include "engine/scheduling/request_json.hpp"

#include <algorithm>
#include <climits>

namespace millrace
{

namespace
{

constexpr size_t kMaxGenerationsBytes = 2 * kMaxRequestBytes; ///< of one body, all copies together
constexpr size_t kMaxSeedBytes = 64;                          ///< with braces
constexpr size_t kMaxStopTokens = 1024;
constexpr size_t kMaxBiases = 65536;

} // namespace

void
SharedMembers::add_json (std::string_view name, std::string_view value)
{
  json += ",\"";
  json += name;
  json += "\":";
  json += value;
}

void
SharedMembers::add (std::string_view name, double value)
{
  add_json (name, "");
  append_float (json, value);
}

void
SharedMembers::add (std::string_view name, int64_t value)
{
  add_json (name, "");
  append_integer (json, value);
}

void
SharedMembers::add (std::string_view name, bool value)
{
  add_json (name, value ? "true" : "false");
}

void
SharedMembers::add (std::string_view name, std::string_view value)
{
  add_json (name, "");
  append_json_string (json, value);
}

void
read_number (Fields &body, const char *name, double low, double high, SharedMembers &out)
{
  if (const auto value = body.number (name, low, high))
    out.add (name, *value);
}

void
read_positive (Fields &body, const char *name, double high, SharedMembers &out)
{
  const auto value = body.number (name, 0, high);
  if (!value)
    return;
  if (*value > 0)
    out.add (name, *value);
  else
    body.refuse (name, "must be greater than 0");
}

void
read_top_k (Fields &body, SharedMembers &out)
{
  if (const auto value = body.integer ("top_k", -1, INT_MAX))
    out.add ("top_k", std::max<int64_t> (*value, 0));
}

void
read_seed (Fields &body, SharedMembers &out)
{
  const auto value = body.take ("seed");
  if (!value)
    return;
  int64_t number = 0;
  if (!value->is_number () || value->type () == simdjson::dom::element_type::DOUBLE)
    body.wrong_type ("seed", "an integer of at most 64 bits", *value);
  else if (!value->get (number))
    out.seed = static_cast<uint64_t> (number);
  else if (value->get (out.seed))
    body.refuse ("seed", "must be an integer of at most 64 bits");
}

void
read_stop (Fields &body, const char *name, SharedMembers &out)
{
  const auto value = body.take (name);
  if (!value)
    return;
  std::vector<std::string_view> stops;
  std::string_view text;
  simdjson::dom::array entries;
  if (!value->get (text)) {
    stops.push_back (text);
  } else if (!value->get (entries)) {
    for (const JsonValue entry : entries) {
      if (entry.get (text))
        return body.wrong_type (name, "a string or an array of strings", entry);
      if (stops.size () == kMaxStopStrings)
        return body.refuse (name, "must have at most " + std::to_string (kMaxStopStrings) + " strings");
      stops.push_back (text);
    }
  } else {
    return body.wrong_type (name, "a string or an array of strings", *value);
  }
  std::string json = "[";
  for (const std::string_view stop : stops) {
    if (stop.empty ())
      return body.refuse (name, "must not contain an empty string");
    if (stop.size () > kMaxStopBytes)
      return body.refuse (name, "must have strings of at most " + std::to_string (kMaxStopBytes) + " bytes");
    json += json.size () > 1 ? "," : "";
    append_json_string (json, stop);
  }
  if (!stops.empty ())
    out.add_json ("stop", json + "]");
}

void
read_logit_bias (Fields &body, SharedMembers &out)
{
  const auto biases = body.free_object ("logit_bias");
  if (!biases)
    return;
  std::string json = "{";
  size_t count = 0;
  for (const auto &[key, value] : *biases) {
    TokenId token = 0;
    const char *const end = key.data () + key.size ();
    const auto [parsed, error] = std::from_chars (key.data (), end, token);
    // One spelling for each id: no sign, no leading zero.
    if (error != std::errc{} || parsed != end || token < 0 || std::to_string (token) != key)
      return body.refuse ("logit_bias",
                          "has the key \"" + json_values::quoted (key) + "\", which is not a token id");
    double bias = 0;
    if (!value.is_number () || value.get (bias) || !(bias >= -100 && bias <= 100))
      return body.refuse ("logit_bias", "of token " + std::string (key) + " must be between -100 and 100");
    if (++count > kMaxBiases)
      return body.refuse ("logit_bias", "must have at most " + std::to_string (kMaxBiases) + " tokens");
    json += json.size () > 1 ? ",\"" : "\"";
    json += key;
    json += "\":";
    append_float (json, bias);
  }
  if (count > 0)
    out.add_json ("logit_bias", json + "}");
}

void
read_service (Fields &body, SharedMembers &out)
{
  static constexpr std::string_view kPriorities[] = {"low", "normal", "high"};
  if (const auto priority = body.word ("priority", kPriorities))
    out.add ("priority", *priority);
  if (const auto timeout = body.integer ("timeout_ms", 0, INT_MAX))
    out.add ("timeout_ms", *timeout);
}

void
read_n (Fields &body, const ApiLimits &limits, SharedMembers &out)
{
  if (const auto n = body.integer ("n", 1, std::max (1, limits.max_generations)))
    out.n = static_cast<int> (*n);
}

std::optional<int64_t>
read_max_tokens (Fields &body, std::span<const char *const> names, SharedMembers &out)
{
  std::optional<int64_t> limit;
  for (const char *const name : names) {
    const auto value = body.integer (name, 1, INT_MAX);
    if (value && limit && *value != *limit)
      body.refuse (name, std::string ("differs from ") + names[0] + ", which says the same");
    if (value)
      limit = value;
  }
  if (limit)
    out.add ("max_tokens", *limit);
  return limit;
}

namespace
{

void
read_min_tokens (Fields &body, std::optional<int64_t> max_tokens, SharedMembers &out)
{
  const auto least = body.integer ("min_tokens", 0, INT_MAX);
  if (!least)
    return;
  if (*least > 0 && !max_tokens)
    return body.refuse ("min_tokens", "can only be given together with max_tokens");
  if (*least > max_tokens.value_or (0))
    return body.refuse ("min_tokens", "must not exceed max_tokens");
  out.add ("min_tokens", *least);
}

void
read_stop_tokens (Fields &body, SharedMembers &out)
{
  const auto tokens = body.array ("stop_token_ids", kMaxStopTokens);
  if (!tokens)
    return;
  std::string json = "[";
  for (const JsonValue entry : *tokens) {
    int64_t token = 0;
    if (entry.get (token) || token < 0 || token > INT_MAX)
      return body.refuse ("stop_token_ids", "must be an array of token ids");
    json += json.size () > 1 ? "," : "";
    append_integer (json, token);
  }
  out.add_json ("stop_token_ids", json + "]");
}

} // namespace

void
read_openai_sampling (Fields &body, std::optional<int64_t> max_tokens, SharedMembers &out)
{
  read_number (body, "temperature", 0, 2, out);
  read_positive (body, "top_p", 1, out);
  read_top_k (body, out);
  read_number (body, "min_p", 0, 1, out);
  read_number (body, "presence_penalty", -2, 2, out);
  read_number (body, "frequency_penalty", -2, 2, out);
  read_positive (body, "repetition_penalty", 100, out);
  read_logit_bias (body, out);
  read_stop (body, "stop", out);
  read_stop_tokens (body, out);
  if (const auto ignore = body.boolean ("ignore_eos"))
    out.add ("ignore_eos", *ignore);
  read_min_tokens (body, max_tokens, out);
  read_seed (body, out);
  read_service (body, out);
}

void
read_openai_account (Fields &body, ApiRequest &out)
{
  static constexpr std::string_view kTiers[] = {"auto", "default"};
  // prompt_cache_key only helps to route: prompts are cached by their content.
  for (const char *const name : {"prompt_cache_key", "safety_identifier", "user"}) {
    const auto text = body.string (name);
    if (text && name != std::string_view ("prompt_cache_key"))
      out.user = *text;
  }
  body.word ("service_tier", kTiers);
}

void
read_openai_stream (Fields &body, ApiRequest &out)
{
  out.stream = body.boolean ("stream").value_or (false);
  auto options = body.object ("stream_options");
  if (!options)
    return;
  if (!out.stream)
    return body.refuse ("stream_options", "can only be given together with \"stream\": true");
  out.include_usage = options->boolean ("include_usage").value_or (false);
  options->only ("include_obfuscation", false, "is not available");
  options->finish ();
}

void
read_model (Fields &body, const ApiLimits &limits, std::string &out)
{
  const auto model = body.string ("model");
  if (!model) {
    out = limits.models.empty () ? "" : limits.models.front ();
    return;
  }
  out = *model;
  const auto answers = [&] (const std::string &name) { return name == "*" || name == *model; };
  if (body.failed () || std::any_of (limits.models.begin (), limits.models.end (), answers))
    return;
  body.error () = {404,
                   "not_found_error",
                   "model_not_found",
                   "model",
                   "the model \"" + json_values::quoted (*model) +
                       "\" does not exist here; /v1/models lists those that do",
                   0};
}

void
make_generations (std::span<const std::string> prompts, const SharedMembers &shared, Fields &body,
                  ApiRequest &out)
{
  if (body.failed ())
    return;
  size_t bytes = 0, largest = 0;
  for (const std::string &prompt : prompts) {
    const size_t size = prompt.size () + shared.json.size () + kMaxSeedBytes;
    largest = std::max (largest, size);
    bytes += size * static_cast<size_t> (shared.n);
  }
  if (bytes > kMaxGenerationsBytes || largest > kMaxRequestBytes) {
    body.error () =
        invalid_request ("", "the prompts with all that goes with each come to " + std::to_string (bytes) +
                                 " bytes; the limit is " + std::to_string (kMaxGenerationsBytes));
    return;
  }
  out.choices = shared.n;
  out.generations.clear ();
  out.generations.reserve (prompts.size () * static_cast<size_t> (shared.n));
  for (const std::string &prompt : prompts) {
    for (int j = 0; j < shared.n; j++) {
      std::string generation = "{" + prompt + shared.json;
      if (shared.has_seed) {
        generation += ",\"seed\":";
        append_unsigned (generation, shared.seed + static_cast<uint64_t> (j));
      }
      generation += "}";
      out.generations.push_back (std::move (generation));
    }
  }
}

} // namespace millrace
