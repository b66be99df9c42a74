#include "engine/sampling/sampling_params.hpp"

#include <charconv>
#include <cmath>

namespace millrace
{

namespace
{

template <typename Number>
std::string
text_of (Number value)
{
  char buffer[40];
  const auto [end, error] = std::to_chars (buffer, buffer + sizeof buffer, value);
  return error == std::errc{} ? std::string (buffer, end) : "?";
}

RequestError
refuse (const char *field, const std::string &problem)
{
  return {"invalid_request", field, std::string (field) + " " + problem};
}

/// Written so that NaN is out of every range.
template <typename Number>
RequestError
check_range (const char *field, Number value, Number low, Number high)
{
  if (value >= low && value <= high)
    return {};
  return refuse (field,
                 "must be between " + text_of (low) + " and " + text_of (high) + ", got " + text_of (value));
}

RequestError
check_positive (const char *field, double value, double high)
{
  if (value > 0 && value <= high)
    return {};
  return refuse (field, "must be greater than 0 and at most " + text_of (high) + ", got " + text_of (value));
}

RequestError
check_count (const char *field, int value)
{
  return value >= 0 ? RequestError{} : refuse (field, "must not be negative, got " + text_of (value));
}

RequestError
check_token (const char *field, TokenId token, int vocab)
{
  if (token >= 0 && token < vocab)
    return {};
  return refuse (field, "has token " + text_of (token) + ", which the model does not have; ids are 0 to " +
                            text_of (vocab - 1));
}

RequestError
check_logit_bias (const SamplingParams &params, int vocab)
{
  for (const auto &[token, bias] : params.logit_bias) {
    if (auto error = check_token ("logit_bias", token, vocab))
      return error;
    if (!std::isfinite (bias))
      return refuse ("logit_bias",
                     "of token " + text_of (token) + " must be a finite number, got " + text_of (bias));
  }
  return {};
}

RequestError
check_stops (const SamplingParams &params)
{
  if (params.stop.size () > kMaxStopStrings)
    return refuse ("stop", "must have at most " + text_of (kMaxStopStrings) + " strings, got " +
                               text_of (params.stop.size ()));
  for (const std::string &stop : params.stop) {
    if (stop.empty ())
      return refuse ("stop", "must not contain an empty string");
    if (stop.size () > kMaxStopBytes)
      return refuse ("stop", "must have strings of at most " + text_of (kMaxStopBytes) +
                                 " bytes, got one of " + text_of (stop.size ()));
  }
  return {};
}

} // namespace

RequestError
validate (const SamplingParams &params, int vocab)
{
  if (auto error = check_range ("temperature", params.temperature, 0.0, 100.0))
    return error;
  if (auto error = check_count ("top_k", params.top_k))
    return error;
  if (auto error = check_positive ("top_p", params.top_p, 1))
    return error;
  if (auto error = check_range ("min_p", params.min_p, 0.0, 1.0))
    return error;
  if (auto error = check_positive ("repetition_penalty", params.repetition_penalty, 100))
    return error;
  if (auto error = check_range ("presence_penalty", params.presence_penalty, -100.0, 100.0))
    return error;
  if (auto error = check_range ("frequency_penalty", params.frequency_penalty, -100.0, 100.0))
    return error;
  if (auto error = check_logit_bias (params, vocab))
    return error;
  if (params.logprobs != -1) {
    if (auto error = check_range ("logprobs", params.logprobs, 0, kMaxTopLogprobs))
      return error;
  }
  if (auto error = check_count ("max_tokens", params.max_tokens))
    return error;
  if (auto error = check_count ("min_tokens", params.min_tokens))
    return error;
  if (params.max_tokens > 0 && params.min_tokens > params.max_tokens)
    return refuse ("min_tokens", "must not exceed max_tokens (" + text_of (params.max_tokens) + "), got " +
                                     text_of (params.min_tokens));
  for (const TokenId token : params.stop_token_ids) {
    if (auto error = check_token ("stop_token_ids", token, vocab))
      return error;
  }
  return check_stops (params);
}

} // namespace millrace
