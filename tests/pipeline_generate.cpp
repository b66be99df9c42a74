// labels: pipeline
// timeout: 600
// Whole pipelines on the demo models: one answer, however the pipeline is built and the work is cut.

#include "library/request.hpp"
#include "tests/pipeline_runner.hpp"
#include "tests/seed.hpp"

#include <millrace/millrace.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <random>
#include <regex>

using namespace millrace::testing;

namespace
{

const std::string kTail = "llmsampler ! llmdetokenizer";

std::string
stages (bool prefill, bool draft)
{
  return std::string (prefill ? "llmprefill ! " : "") + (draft ? "llmngramdrafter ! " : "") +
         "llmverifier ! ";
}

std::string
sorted_lines (const std::string &text)
{
  std::vector<std::string> lines;
  for (size_t start = 0; start < text.size ();) {
    const size_t end = text.find ('\n', start);
    lines.push_back (text.substr (start, end - start));
    start = end == text.npos ? text.size () : end + 1;
  }
  std::sort (lines.begin (), lines.end ());
  std::string joined;
  for (const auto &line : lines)
    joined += line + "\n";
  return joined;
}

// 64 requests of different lengths and parameters.
std::vector<std::string>
mixed_requests (uint64_t seed)
{
  std::mt19937_64 random (seed);
  const auto below = [&] (uint64_t bound) { return static_cast<int> (random () % bound); };
  const char *texts[] = {"def fibonacci(n):\\n",
                         "import os\\nimport sys\\n",
                         "The quick brown fox ",
                         "é漢🎈 ",
                         "class Stack:\\n    def push(self, item):\\n        ",
                         "# Title\\n\\nSome text about lists. "};
  std::vector<std::string> lines;
  for (int i = 0; i < 64; i++) {
    std::string prompt;
    for (int n = 1 + below (below (4) ? 6 : 30); n > 0; n--)
      prompt += texts[below (6)];
    std::string line = "{\"id\":\"" + std::to_string (100 + i) + "\",";
    if (below (6) == 0)
      line += "\"messages\":[{\"role\":\"user\",\"content\":\"" + prompt + "\"}]";
    else
      line += "\"prompt\":\"" + prompt + "\"";
    const int max_tokens = 1 + below (40);
    line += ",\"max_tokens\":" + std::to_string (max_tokens);
    if (below (2)) {
      line += ",\"temperature\":" + std::to_string (below (15) / 10.0) +
              ",\"seed\":" + std::to_string (below (1000));
      if (below (2))
        line += ",\"top_k\":" + std::to_string (1 + below (50));
      if (below (2))
        line += ",\"top_p\":0." + std::to_string (3 + below (7));
      if (below (3) == 0)
        line += ",\"min_p\":0.05";
    }
    if (below (4) == 0)
      line += ",\"repetition_penalty\":1.2,\"presence_penalty\":0.5,\"frequency_penalty\":0.25";
    if (below (4) == 0)
      line += ",\"stop\":[\"\\n\\n\",\"return\"]";
    if (below (4) == 0)
      line += ",\"logprobs\":" + std::to_string (below (5));
    if (below (5) == 0)
      line += ",\"logit_bias\":{\"198\":-5,\"257\":3.5}";
    if (below (5) == 0)
      line += ",\"ignore_eos\":true,\"min_tokens\":" + std::to_string (below (std::min (3, max_tokens)));
    lines.push_back (line + "}\n");
  }
  return lines;
}

std::string
jsonl_pipeline (const std::string &model, const std::string &scheduler, bool prefill, bool draft)
{
  return "llmprompt boundary=jsonl ! llmtokenizer " + model + " ! llmscheduler " + scheduler + " ! " +
         stages (prefill, draft) + kTail + " format=jsonl";
}

} // namespace

TEST (Generate, EveryWayToBuildThePipelineGivesTheSameBytes)
{
  const std::vector<std::string> prompt{"def fibonacci(n):\n"};
  const std::string head = "llmprompt max-tokens=48 ! llmtokenizer ! llmscheduler ! ";
  const auto full = run_pipeline (head + stages (true, true) + kTail, prompt);
  ASSERT_EQ (full.error, "");
  EXPECT_GT (full.output.size (), 40u);
  EXPECT_GT (full.buffers.size (), 5u) << "text must stream while it is generated";
  std::printf ("%s\n", full.output.c_str ());
  for (const bool prefill : {false, true}) {
    for (const bool draft : {false, true})
      EXPECT_EQ (run_pipeline (head + stages (prefill, draft) + kTail, prompt).output, full.output)
          << "prefill " << prefill << " draft " << draft;
  }
  EXPECT_EQ (run_pipeline ("llmbin prompt::max-tokens=48", prompt).output, full.output);
  EXPECT_EQ (
      run_pipeline ("llmprompt max-tokens=48 ! llmtokenizer ! llmscheduler prefill-tokens=3 max-draft=15 ! "
                    "llmngramdrafter max-draft=15 ! llmprefill defer-below=2 ! llmverifier ! " +
                        kTail,
                    prompt)
          .output,
      full.output);
  const std::vector<std::string> cut{"def ", "fibonac", "ci(n)", ":\n"};
  EXPECT_EQ (run_pipeline ("llmbin prompt::max-tokens=48", cut).output, full.output);
}

TEST (Generate, TheModelMayStandOnAnyOneElement)
{
  const char *elements[] = {"llmprompt max-tokens=4", "llmtokenizer", "llmscheduler", "llmprefill",
                            "llmngramdrafter",        "llmverifier",  "llmsampler",   "llmdetokenizer"};
  std::string expected;
  for (size_t owner = 0; owner < std::size (elements); owner++) {
    std::string pipeline;
    for (size_t i = 0; i < std::size (elements); i++)
      pipeline +=
          std::string (i ? " ! " : "") + elements[i] + (i == owner ? " model=demo-draft threads=1" : "");
    const auto result = run_pipeline (pipeline, {"import os"});
    ASSERT_EQ (result.error, "") << elements[owner];
    if (expected.empty ())
      expected = result.output;
    EXPECT_EQ (result.output, expected) << elements[owner];
  }
  const auto missing = run_pipeline ("llmprompt ! llmtokenizer ! llmscheduler ! llmverifier ! "
                                     "llmsampler model=/nonexistent ! llmdetokenizer",
                                     {"x"});
  EXPECT_NE (missing.error.find ("/nonexistent"), std::string::npos) << missing.error;
}

TEST (Generate, SixtyFourRequestsAtOnceOrOneByOneGiveTheSameBytes)
{
  const uint64_t seed = test_seed ();
  auto lines = mixed_requests (seed);
  if (kSanitized)
    lines.resize (12);
  const size_t count = lines.size ();
  std::string all;
  for (const auto &line : lines)
    all += line;

  std::string alone;
  const std::string model = "model=demo-draft threads=1";
  for (const auto &line : lines) {
    const auto result = run_pipeline (jsonl_pipeline (model, "max-draft=0", false, false), {line});
    ASSERT_EQ (result.error, "");
    alone += result.output;
  }
  alone = sorted_lines (alone);
  EXPECT_EQ (std::count (alone.begin (), alone.end (), '\n'), static_cast<long> (count));
  EXPECT_EQ (alone.find ("\"error\":"), std::string::npos) << alone; // "error" alone may be a token

  for (const char *threads : {"1", "2", "3"}) {
    for (const bool draft : {false, true}) {
      for (const char *scheduler : {"max-batch=64", "max-batch=5 prefill-tokens=40 max-draft=15"}) {
        const auto result = run_pipeline (
            jsonl_pipeline (std::string ("model=demo-draft threads=") + threads, scheduler, true, draft),
            {all});
        ASSERT_EQ (result.error, "");
        EXPECT_EQ (sorted_lines (result.output), alone)
            << "seed " << seed << " threads " << threads << " draft " << draft << " " << scheduler;
        EXPECT_EQ (result.finished.size (), count);
      }
    }
  }
}

TEST (Generate, TheDemoModelGivesOneAnswerToo)
{
  const uint64_t seed = test_seed ();
  auto lines = mixed_requests (seed);
  lines.resize (kSanitized ? 2 : 12);
  std::string all, alone;
  for (const auto &line : lines) {
    all += line;
    alone += run_pipeline (jsonl_pipeline ("threads=1", "max-draft=0", false, false), {line}).output;
  }
  for (const char *weights : {"weights=auto", "weights=int8"}) {
    const std::string owner = std::string (weights) + " threads=";
    if (weights != std::string ("weights=auto")) {
      alone.clear ();
      for (const auto &line : lines)
        alone += run_pipeline (jsonl_pipeline (owner + "1", "max-draft=0", false, false), {line}).output;
    }
    const auto together = run_pipeline (jsonl_pipeline (owner + "2", "max-batch=8", true, true), {all});
    ASSERT_EQ (together.error, "");
    EXPECT_EQ (sorted_lines (together.output), sorted_lines (alone)) << "seed " << seed << " " << weights;
  }
}

TEST (Generate, OneRequestsErrorEndsThatRequestAndTheOthersGoOn)
{
  const std::string lines = "{\"id\":\"good\",\"prompt\":\"import os\",\"max_tokens\":3}\n"
                            "{\"id\":\"range\",\"prompt\":\"x\",\"temperature\":-1}\n"
                            "not json\n"
                            "{\"id\":\"field\",\"prompt\":\"x\",\"tempratur\":1}\n"
                            "{\"id\":\"utf8\",\"prompt\":\"\xff\"}\n"
                            "{\"id\":\"long\",\"prompt\":\"" +
                            [] {
                              std::string text;
                              for (int i = 0; i < 3000; i++)
                                text += "a b ";
                              return text;
                            }() +
                            "\"}\n"
                            "{\"id\":\"last\",\"prompt\":\"import os\",\"max_tokens\":3}\n";
  const auto result = run_pipeline (jsonl_pipeline ("model=demo-draft", "", true, true), {lines});
  ASSERT_EQ (result.error, "");
  const auto has = [&] (const char *pattern) {
    EXPECT_TRUE (std::regex_search (result.output, std::regex (pattern))) << pattern << "\n" << result.output;
  };
  has ("\"id\":\"good\",\"text\":\"[^\"]+\",\"finish_reason\":\"length\"");
  has ("\"id\":\"last\",\"text\":\"[^\"]+\",\"finish_reason\":\"length\"");
  has ("\"id\":\"range\",.*\"finish_reason\":\"error\".*\"param\":\"temperature\",\"code\":\"invalid_"
       "request\"");
  has ("\"id\":\"req-3\",.*\"finish_reason\":\"error\"");
  has ("\"id\":\"field\",.*\"param\":\"tempratur\"");
  has ("\"finish_reason\":\"error\".*\"code\":\"invalid_utf8\"");
  has ("\"id\":\"long\",.*\"code\":\"context_length_exceeded\"");
  EXPECT_EQ (std::count (result.output.begin (), result.output.end (), '\n'), 7);

  const auto text = run_pipeline ("llmbin model=demo-draft prompt::boundary=line prompt::max-tokens=2",
                                  {"import os\n\xff\xfe\nimport sys\n"});
  EXPECT_EQ (text.warnings.size (), 1u);
  EXPECT_NE (text.error.find ("UTF-8"), std::string::npos) << text.error;
  EXPECT_GT (text.output.size (), 2u) << "the good requests still produced text";
}

TEST (Generate, TimestampsOfPromptsStayOnTheirText)
{
  gst_init (nullptr, nullptr);
  const auto result = run_pipeline ("llmbin model=demo-draft prompt::max-tokens=4",
                                    {"import os", "import sys"}, "text/x-raw,format=utf8");
  ASSERT_EQ (result.error, "");
  std::map<std::string, int> first, last;
  for (const auto &buffer : result.buffers) {
    const auto *meta = millrace_buffer_get_request_meta (buffer.get ());
    ASSERT_NE (meta, nullptr);
    const std::string id = millrace_request_get_id (meta->request);
    first[id] += GST_BUFFER_FLAG_IS_SET (buffer.get (), GST_BUFFER_FLAG_DISCONT);
    last[id] += GST_BUFFER_FLAG_IS_SET (buffer.get (), GST_BUFFER_FLAG_MARKER);
    EXPECT_EQ (GST_BUFFER_PTS (buffer.get ()), id == "req-1" ? 0 : GST_SECOND);
    EXPECT_EQ (GST_BUFFER_DURATION (buffer.get ()), GST_SECOND / 2);
    EXPECT_EQ (meta->finish != nullptr, GST_BUFFER_FLAG_IS_SET (buffer.get (), GST_BUFFER_FLAG_MARKER));
  }
  EXPECT_EQ (first, (std::map<std::string, int>{{"req-1", 1}, {"req-2", 1}}));
  EXPECT_EQ (last, (std::map<std::string, int>{{"req-1", 1}, {"req-2", 1}}));
}
