#include "elements/http/http_access.hpp"

#include "engine/error.hpp"

#include <algorithm>
#include <fstream>

namespace millrace
{

namespace
{

constexpr size_t kMaxBuckets = 10000; ///< callers remembered

/// Takes the same time wherever two keys of one length differ.
bool
equal_keys (std::string_view key, std::string_view given)
{
  unsigned difference = static_cast<unsigned> (key.size () ^ given.size ());
  for (size_t i = 0; i < key.size (); i++)
    difference |= static_cast<unsigned char> (key[i]) ^
                  static_cast<unsigned char> (given.empty () ? 0 : given[i % given.size ()]);
  return difference == 0;
}

std::string_view
trimmed (std::string_view text)
{
  while (!text.empty () && (text.front () == ' ' || text.front () == '\t'))
    text.remove_prefix (1);
  while (!text.empty () && (text.back () == ' ' || text.back () == '\t' || text.back () == '\r'))
    text.remove_suffix (1);
  return text;
}

} // namespace

std::vector<std::string>
HttpAccess::read_keys (const std::string &file)
{
  std::ifstream in (file);
  if (!in)
    throw LoadError (file, "api-key-file", "cannot be read");
  std::vector<std::string> keys;
  for (std::string line; std::getline (in, line);) {
    const std::string_view key = trimmed (line);
    if (!key.empty () && key.front () != '#')
      keys.emplace_back (key);
  }
  if (in.bad ())
    throw LoadError (file, "api-key-file", "cannot be read to its end");
  if (keys.empty ()) // an empty file must not open the door
    throw LoadError (file, "api-key-file", "has no key; write one a line, or leave the property unset");
  return keys;
}

ApiError
HttpAccess::authorize (std::string_view authorization, std::string_view x_api_key, const std::string &address,
                       std::string &caller) const
{
  caller = address;
  if (settings_.api_keys.empty ())
    return {};
  std::string_view given = trimmed (x_api_key);
  constexpr std::string_view kBearer = "bearer ";
  const auto same_letter = [] (char a, char b) { return (a >= 'A' && a <= 'Z' ? a + 32 : a) == b; };
  if (given.empty () && authorization.size () > kBearer.size () &&
      std::equal (kBearer.begin (), kBearer.end (), authorization.begin (),
                  [&] (char b, char a) { return same_letter (a, b); }))
    given = trimmed (authorization.substr (kBearer.size ()));
  size_t found = 0; // all keys are looked at, so that the time does not tell which one it was
  for (size_t i = 0; i < settings_.api_keys.size (); i++)
    found = equal_keys (settings_.api_keys[i], given) ? i + 1 : found;
  if (found == 0)
    return {.status = 401,
            .type = "authentication_error",
            .code = "invalid_api_key",
            .message = given.empty () ? "an API key is needed: send \"Authorization: Bearer KEY\""
                                      : "this API key is not known"};
  caller = "key-" + std::to_string (found);
  return {};
}

ApiError
HttpAccess::admit (const std::string &caller, int concurrent, int64_t now_us)
{
  if (settings_.max_concurrent > 0 && concurrent >= settings_.max_concurrent)
    return {.status = 429,
            .type = "rate_limit_error",
            .code = "too_many_concurrent_requests",
            .message =
                std::to_string (concurrent) + " requests of yours run already, as many as one caller may",
            .retry_after_ms = 1000};
  if (settings_.requests_per_minute <= 0)
    return {};
  const double limit = settings_.requests_per_minute;
  if (buckets_.size () > kMaxBuckets)
    std::erase_if (buckets_, [&] (const auto &entry) { return now_us - entry.second.at_us > 60'000'000; });
  auto [entry, fresh] = buckets_.try_emplace (caller, Bucket{limit, now_us});
  Bucket &bucket = entry->second;
  bucket.tokens =
      std::min (limit, bucket.tokens + limit * static_cast<double> (now_us - bucket.at_us) / 60e6);
  bucket.at_us = now_us;
  if (bucket.tokens < 1)
    return {.status = 429,
            .type = "rate_limit_error",
            .code = "rate_limit_exceeded",
            .message =
                "more than " + std::to_string (settings_.requests_per_minute) + " requests in a minute",
            .retry_after_ms = static_cast<int> ((1 - bucket.tokens) * 60e3 / limit) + 1};
  bucket.tokens -= 1;
  return {};
}

std::string
HttpAccess::allowed_origin (std::string_view origin) const
{
  if (origin.empty ())
    return {};
  for (const auto &allowed : settings_.cors_origins) {
    if (allowed == "*")
      return "*";
    if (allowed == origin)
      return allowed;
  }
  return {};
}

} // namespace millrace
