/**
 * SECTION:element-llmverifier
 * @title: llmverifier
 *
 * Runs the model over each row's pending token and drafts, and is the only producer of logits.
 *
 * One path serves plain decoding, speculation and a full prefix hit. What no llmprefill computed before it,
 * it computes first.
 *
 * ## Example launch line
 * |[
 * echo "import os" | gst-launch-1.0 -q fdsrc ! llmprompt max-tokens=16 ! llmtokenizer ! llmscheduler ! llmverifier ! llmsampler ! llmdetokenizer ! fdsink
 * ]| The shortest pipeline that generates.
 *
 * Since: 0.1
 */

#include "elements/elements.hpp"

#include "engine/drafting/draft_controller.hpp"
#include "engine/model/forward.hpp"
#include "library/stage.hpp"

struct LlmVerifier {
  LlmStage parent;
};

struct LlmVerifierClass {
  LlmStageClass parent;
};

G_DEFINE_TYPE (LlmVerifier, llm_verifier, LLM_TYPE_STAGE)

static void
llm_verifier_process (LlmStage *, millrace::Step &step)
{
  if (step.drafting)
    step.drafting->choose (step);
  millrace::verify (step);
}

static void
llm_verifier_init (LlmVerifier *)
{
}

static void
llm_verifier_class_init (LlmVerifierClass *klass)
{
  auto *stage_class = reinterpret_cast<LlmStageClass *> (klass);
  millrace::add_stage_pads (stage_class, millrace::kPlannedCaps, millrace::kScoredCaps);
  stage_class->process = llm_verifier_process;
  gst_element_class_set_static_metadata (GST_ELEMENT_CLASS (klass), "LLM verifier", "Filter/LLM",
                                         "Scores pending tokens and drafts with the model",
                                         "The Millrace authors");
}
