// labels: http unit
//
// Keys, rate limits and origins, without a server.
#include "elements/http/http_access.hpp"

#include "engine/error.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <unistd.h>

using namespace millrace;

namespace
{

std::string
caller_of (const HttpAccess &access, const char *authorization, const char *x_api_key = "")
{
  std::string caller;
  const auto error = access.authorize (authorization, x_api_key, "10.0.0.1", caller);
  return error ? std::to_string (error.status) : caller;
}

} // namespace

TEST (HttpAccess, WithoutKeysEverybodyIsAnAddress)
{
  const HttpAccess access ({});
  EXPECT_EQ (caller_of (access, ""), "10.0.0.1");
  EXPECT_EQ (caller_of (access, "Bearer anything"), "10.0.0.1");
}

TEST (HttpAccess, KeysAreComparedWhole)
{
  const HttpAccess access ({.api_keys = {"secret", "other-secret"}});
  EXPECT_EQ (caller_of (access, "Bearer secret"), "key-1");
  EXPECT_EQ (caller_of (access, "bearer  other-secret "), "key-2");
  EXPECT_EQ (caller_of (access, "", "secret"), "key-1");
  for (const char *wrong : {"", "Bearer", "Bearer ", "Bearer secre", "Bearer secrets", "Bearer secretsecret",
                            "Basic secret", "secret", "Bearer SECRET"})
    EXPECT_EQ (caller_of (access, wrong), "401") << wrong;
}

TEST (HttpAccess, RateIsATokenBucketForEachCaller)
{
  HttpAccess access ({.requests_per_minute = 60});
  int64_t now = 1'000'000;
  for (int i = 0; i < 60; i++)
    EXPECT_FALSE (access.admit ("a", 0, now)) << i;
  const auto error = access.admit ("a", 0, now);
  EXPECT_EQ (error.status, 429);
  EXPECT_EQ (error.code, "rate_limit_exceeded");
  EXPECT_GE (error.retry_after_ms, 1000);
  EXPECT_LE (error.retry_after_ms, 1010);
  EXPECT_FALSE (access.admit ("b", 0, now));
  now += 1'000'001;
  EXPECT_FALSE (access.admit ("a", 0, now));
  EXPECT_TRUE (access.admit ("a", 0, now));
}

TEST (HttpAccess, ConcurrencyIsLimited)
{
  HttpAccess access ({.max_concurrent = 2});
  EXPECT_FALSE (access.admit ("a", 1, 0));
  EXPECT_EQ (access.admit ("a", 2, 0).status, 429);
}

TEST (HttpAccess, OriginsAreNamedOrAll)
{
  const HttpAccess none ({}), one ({.cors_origins = {"https://a.example"}}), all ({.cors_origins = {"*"}});
  EXPECT_EQ (none.allowed_origin ("https://a.example"), "");
  EXPECT_EQ (one.allowed_origin ("https://a.example"), "https://a.example");
  EXPECT_EQ (one.allowed_origin ("https://b.example"), "");
  EXPECT_EQ (all.allowed_origin ("https://b.example"), "*");
  EXPECT_EQ (all.allowed_origin (""), "");
}

TEST (HttpAccess, AFileWithoutKeysDoesNotOpenTheDoor)
{
  const auto file = std::filesystem::temp_directory_path () / ("millrace-keys-" + std::to_string (getpid ()));
  std::ofstream (file) << "# nothing\n\n";
  EXPECT_THROW (HttpAccess::read_keys (file), LoadError);
  std::ofstream (file) << "# two\n first \nsecond\r\n";
  EXPECT_EQ (HttpAccess::read_keys (file), (std::vector<std::string>{"first", "second"}));
  std::filesystem::remove (file);
  EXPECT_THROW (HttpAccess::read_keys (file), LoadError);
}
