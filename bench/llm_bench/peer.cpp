#include "bench/llm_bench/peer.hpp"

#include <simdjson.h>

#include <array>
#include <cstdio>
#include <stdexcept>
#include <sys/wait.h>

namespace millrace::bench
{

namespace
{

struct Output {
  std::string text;
  bool succeeded = false;
};

Output
run_command (const std::string &command)
{
  std::fflush (nullptr);
  FILE *pipe = popen (command.c_str (), "r");
  if (!pipe)
    throw std::runtime_error ("cannot run " + command);
  Output output;
  std::array<char, 4096> part{};
  while (const size_t size = std::fread (part.data (), 1, part.size (), pipe))
    output.text.append (part.data (), size);
  const int status = pclose (pipe);
  output.succeeded = WIFEXITED (status) && WEXITSTATUS (status) == 0;
  return output;
}

std::string
quoted (const std::string &text)
{
  std::string result = "'";
  for (const char character : text)
    result += character == '\'' ? std::string ("'\\''") : std::string (1, character);
  return result + "'";
}

/// The nearest of the peers' types: for k8v4 they have 4 bits with scale and minimum as float16, too.
std::string
kv_flags (KvType type)
{
  switch (type) {
  case KvType::kF32:
    return "-ctk f32 -ctv f32";
  case KvType::kF16:
    return "-ctk f16 -ctv f16";
  case KvType::kBF16:
    return "-ctk bf16 -ctv bf16";
  case KvType::kQ8:
    return "-ctk q8_0 -ctv q8_0";
  case KvType::kK8V4:
    return "-ctk q8_0 -ctv q4_1";
  }
  return {};
}

/// avg_ts of the entry for so many tokens; its other count is that of the other kind, or a depth.
std::optional<double>
find_rate (const std::string &json, const TestCase &test)
{
  simdjson::dom::parser parser;
  simdjson::dom::array entries;
  if (parser.parse (json).get (entries))
    return std::nullopt;
  const bool answer = test.kind == TestCase::Kind::kAnswer;
  for (const auto entry : entries) {
    int64_t prompt = 0, generated = 0;
    double rate = 0;
    if (entry["n_prompt"].get (prompt) || entry["n_gen"].get (generated) || entry["avg_ts"].get (rate))
      continue;
    if (answer ? generated == test.tokens : prompt == test.tokens && generated == 0)
      return rate > 0 ? std::optional (rate) : std::nullopt;
  }
  return std::nullopt;
}

} // namespace

Peer::Peer (std::string command, const std::string &arguments)
    : command_ (std::move (command))
    , arguments_ (arguments)
{
  const Output help = run_command (command_ + " --help 2>&1");
  if (!help.succeeded)
    throw std::runtime_error ("cannot run " + command_ + " --help: " + help.text);
  has_depth_ = help.text.find ("--n-depth") != help.text.npos;
}

bool
Peer::can (const TestCase &test) const
{
  return test.streams == 1 && (has_depth_ || test.depth == 0 || test.kind == TestCase::Kind::kAnswer);
}

double
Peer::run (const std::filesystem::path &model, const TestCase &test) const
{
  const std::string tokens = std::to_string (test.tokens), depth = std::to_string (test.depth);
  std::string what;
  if (test.kind == TestCase::Kind::kPrompt)
    what = " -p " + tokens + " -n 0";
  else if (has_depth_ || test.depth == 0)
    what = " -p 0 -n " + tokens;
  else
    what = " -p 0 -n 0 -gp " + depth + "," + tokens;
  if (has_depth_)
    what += " -d " + depth;
  const std::string line =
      command_ + " -m " + quoted (model.string ()) + " -t " + std::to_string (test.threads) + what + " -ub " +
      std::to_string (test.pass_tokens) + " " + kv_flags (test.kv_type) + " -fa 1 -r 1 -o json " + arguments_;
  const Output output = run_command (line);
  const auto rate = output.succeeded ? find_rate (output.text, test) : std::nullopt;
  if (!rate)
    throw std::runtime_error ("the peer failed, or gave no avg_ts for the test: " + line + "\n" +
                              output.text.substr (0, 300));
  return *rate;
}

} // namespace millrace::bench
