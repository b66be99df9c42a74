// labels: pipeline
// timeout: 300
// Drafters as elements: whatever they guess, by whichever policy and gate, alone or in series, the answers stay the same.

#include "tests/pipeline_runner.hpp"

#include <regex>

using namespace millrace::testing;

namespace
{

/// Three requests one after the other, the last like the first.
PipelineResult
answers (const std::string &drafters)
{
  return run_pipeline ("llmprompt boundary=line max-tokens=40 ! llmtokenizer ! llmscheduler max-batch=1 ! "
                       "llmprefill ! " +
                           drafters +
                           "llmverifier ! llmsampler ! llmdetokenizer format=jsonl statistics=true",
                       {"import os, sys\n", "a = 1; b = 2; c = 3;\n", "import os, sys\n"});
}

std::string
without_statistics (const std::string &lines)
{
  // The last member of a line, with objects in it.
  return std::regex_replace (lines, std::regex (R"(,"statistics":\{[^\n]*\}\n)"), "}\n");
}

int
drafted (const std::string &lines)
{
  int sum = 0;
  const std::regex field (R"("drafted_tokens":(\d+))");
  for (auto it = std::sregex_iterator (lines.begin (), lines.end (), field); it != std::sregex_iterator ();
       ++it)
    sum += std::stoi ((*it)[1]);
  return sum;
}

} // namespace

TEST (Drafters, NoPolicyGateOrSeriesChangesAnAnswer)
{
  const auto plain = answers ("");
  ASSERT_EQ (plain.error, "");
  ASSERT_NE (plain.output.find ("drafted_tokens"), std::string::npos) << plain.output;
  EXPECT_EQ (drafted (plain.output), 0);
  for (const char *drafters :
       {"llmngramdrafter policy=suffix gate=none ! ", "llmngramdrafter policy=ngram gate=none ! ",
        "llmngramdrafter policy=suffix gate=ema max-draft=5 min-match=3 ! ",
        "llmngramdrafter gate=none shared-store=10000 ! ",
        "llmngramdrafter policy=ngram gate=none ! llmngramdrafter policy=suffix gate=none ! "}) {
    const auto result = answers (drafters);
    ASSERT_EQ (result.error, "") << drafters;
    EXPECT_EQ (without_statistics (result.output), without_statistics (plain.output)) << drafters;
    EXPECT_GT (drafted (result.output), 0) << drafters;
  }
}
