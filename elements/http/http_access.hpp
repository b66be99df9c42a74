// Who may do what, and how much of it: API keys, rate and concurrency limits, CORS. Server's thread.
#pragma once

#include "engine/api/api_types.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace millrace
{

struct HttpAccessSettings {
  std::vector<std::string> api_keys{}; ///< empty: everybody may
  int requests_per_minute = 0; ///< of one key, or of one address where there are no keys; 0: any number
  int max_concurrent = 0;      ///< generations of one key at a time; 0: any number
  std::vector<std::string> cors_origins{}; ///< "*" among them: all; empty: no page of another origin
};

class HttpAccess
{
public:
  explicit HttpAccess (HttpAccessSettings settings)
      : settings_ (std::move (settings))
  {
  }

  /// Reads keys, one a line, "#" begins a comment. Throws LoadError.
  static std::vector<std::string> read_keys (const std::string &file);

  /// Checks the key in "Authorization: Bearer KEY" or "x-api-key: KEY". On success `caller` names whose limits count:
  /// "key-N" (N from 1), or the address.
  ApiError authorize (std::string_view authorization, std::string_view x_api_key, const std::string &address,
                      std::string &caller) const;
  /// Takes one request from the caller's allowance. `concurrent` are its generations now.
  ApiError admit (const std::string &caller, int concurrent, int64_t now_us);
  /// The value of Access-Control-Allow-Origin, or empty.
  std::string allowed_origin (std::string_view origin) const;

private:
  struct Bucket {
    double tokens = 0;
    int64_t at_us = 0;
  };
  HttpAccessSettings settings_;
  std::unordered_map<std::string, Bucket> buckets_;
};

} // namespace millrace
