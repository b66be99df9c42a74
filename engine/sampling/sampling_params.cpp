#include "engine/sampling/sampling_params.hpp"

#include "engine/number_text.hpp"

#include <cmath>

namespace millrace
{

namespace
{

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
  return refuse (field, "must be between " + number_text (low) + " and " + number_text (high) + ", got " +
                            number_text (value));
}

RequestError
check_positive (const char *field, double value, double high)
{
  if (value > 0 && value <= high)
    return {};
  return refuse (field,
                 "must be greater than 0 and at most " + number_text (high) + ", got " + number_text (value));
}

RequestError
check_count (const char *field, int value)
{
  return value >= 0 ? RequestError{} : refuse (field, "must not be negative, got " + number_text (value));
}

RequestError
check_token (const char *field, TokenId token, int vocab)
{
  if (token >= 0 && token < vocab)
    return {};
  return refuse (field, "has token " + number_text (token) +
                            ", which the model does not have; ids are 0 to " + number_text (vocab - 1));
}

RequestError
check_logit_bias (const SamplingParams &params, int vocab)
{
  for (const auto &[token, bias] : params.logit_bias) {
    if (auto error = check_token ("logit_bias", token, vocab))
      return error;
    if (!std::isfinite (bias))
      return refuse ("logit_bias", "of token " + number_text (token) + " must be a finite number, got " +
                                       number_text (bias));
  }
  return {};
}

RequestError
check_stops (const SamplingParams &params)
{
  if (params.stop.size () > kMaxStopStrings)
    return refuse ("stop", "must have at most " + number_text (kMaxStopStrings) + " strings, got " +
                               number_text (params.stop.size ()));
  for (const std::string &stop : params.stop) {
    if (stop.empty ())
      return refuse ("stop", "must not contain an empty string");
    if (stop.size () > kMaxStopBytes)
      return refuse ("stop", "must have strings of at most " + number_text (kMaxStopBytes) +
                                 " bytes, got one of " + number_text (stop.size ()));
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
    return refuse ("min_tokens", "must not exceed max_tokens (" + number_text (params.max_tokens) +
                                     "), got " + number_text (params.min_tokens));
  for (const TokenId token : params.stop_token_ids) {
    if (auto error = check_token ("stop_token_ids", token, vocab))
      return error;
  }
  return check_stops (params);
}

} // namespace millrace
