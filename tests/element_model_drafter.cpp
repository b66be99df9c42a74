// labels: element
// llmmodeldrafter: the same text with it as without, threads of the target's, and clear refusals.

#include "tests/pipeline_runner.hpp"
#include "tests/synthetic_model.hpp"
#include "tests/test_paths.hpp"

using namespace millrace::testing;

namespace
{

PipelineResult
generate (const std::string &drafters, const std::string &sampling = "", const std::string &model = "demo")
{
  return run_pipeline ("llmprompt max-tokens=48 " + sampling + " ! llmtokenizer model=" + model +
                           " ! llmscheduler ! llmprefill ! " + drafters +
                           "llmverifier ! llmsampler ! llmdetokenizer",
                       {"import os\nimport sys\n\ndef main():\n"});
}

} // namespace

TEST (ModelDrafterElement, SaysTheSameAsWithout)
{
  for (const char *sampling : {"", "temperature=0.8 seed=5 logprobs=1"}) {
    const PipelineResult without = generate ("", sampling);
    ASSERT_EQ (without.error, "");
    EXPECT_GT (without.output.size (), 20u);
    for (const char *drafters :
         {"llmmodeldrafter ! ", "llmngramdrafter ! llmmodeldrafter draft-model=demo-draft max-draft=3 ! ",
          "llmmodeldrafter draft-weights=int8 kv-memory=1000000 ! "}) {
      const PipelineResult with = generate (drafters, sampling);
      EXPECT_EQ (with.error, "") << drafters;
      EXPECT_EQ (with.output, without.output) << drafters;
    }
  }
}

TEST (ModelDrafterElement, RefusesAnotherVocabularyByName)
{
  TemporaryFolder folder;
  write_model (folder.path (), {}, 5);
  const PipelineResult result =
      generate ("llmmodeldrafter draft-model=" + folder.path ().string () + " ! ", "", "demo-draft");
  EXPECT_NE (result.error.find ("does not have the vocabulary of"), std::string::npos) << result.error;
  EXPECT_NE (result.error.find (folder.path ().string ()), std::string::npos) << result.error;
  EXPECT_NE (result.error.find ("models/demo-draft"), std::string::npos) << result.error;
  EXPECT_EQ (result.output, "");
}

TEST (ModelDrafterElement, SaysWhatIsMissing)
{
  const PipelineResult unset = generate ("llmmodeldrafter ! ", "", "demo-draft");
  EXPECT_NE (unset.error.find ("needs a draft model"), std::string::npos) << unset.error;
  const PipelineResult gone = generate ("llmmodeldrafter draft-model=/nowhere/at/all ! ");
  EXPECT_NE (gone.error.find ("/nowhere/at/all"), std::string::npos) << gone.error;
  const PipelineResult small = generate ("llmmodeldrafter kv-memory=5 ! ");
  EXPECT_NE (small.error.find ("kv-memory of 5 bytes"), std::string::npos) << small.error;
}
