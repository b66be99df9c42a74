/**
 * SECTION:element-llmsampler
 * @title: llmsampler
 *
 * Draws each row's next token from its logits, accepts drafts that equal what it draws, and turns the step
 * into token buffers: the one stage that does.
 *
 * Randomness is a function of seed and position, so batches, chunks and drafts never change what is drawn.
 * The order of its steps is documented in docs/sampling.md.
 *
 * A step leaves as one buffer list, one buffer for each request: the first of a generation has DISCONT, the
 * last has MARKER and the finish reason in its MillraceRequestMeta.
 *
 * ## Example launch line
 * |[
 * echo "import os" | gst-launch-1.0 -q fdsrc ! llmprompt temperature=0.8 top-k=40 seed=7 max-tokens=16 ! llmtokenizer ! llmscheduler ! llmverifier ! llmsampler ! llmdetokenizer ! fdsink
 * ]| Samples with a fixed seed.
 *
 * Since: 0.1
 */

#include "elements/elements.hpp"

#include "engine/sampling/sampler.hpp"
#include "library/meta.hpp"
#include "library/ref.hpp"
#include "library/request.hpp"
#include "library/stage.hpp"

struct LlmSampler {
  LlmStage parent;
  millrace::Sampler sampler; // streaming thread
};

struct LlmSamplerClass {
  LlmStageClass parent;
};

G_DEFINE_TYPE (LlmSampler, llm_sampler, LLM_TYPE_STAGE)

static void
llm_sampler_process (LlmStage *stage, millrace::Step &step)
{
  reinterpret_cast<LlmSampler *> (stage)->sampler.sample (step);
}

static GstBuffer *
row_to_buffer (const millrace::Row &row, const millrace::Step &step)
{
  millrace::TokenId tokens[millrace::kMaxDraft + 1];
  for (int i = 0; i < row.accepted_count; i++)
    tokens[i] = row.accepted[i].token;
  GstBuffer *buffer = millrace::new_token_buffer ({tokens, static_cast<size_t> (row.accepted_count)});

  const millrace::Sequence &sequence = *row.sequence;
  MillraceRequest *request = millrace::request_object (*sequence.request);
  auto *meta = millrace_buffer_add_request_meta (buffer, request, millrace::finish_reason_name (row.finish));
  if (sequence.request->sampling.logprobs >= 0 && row.accepted_count > 0)
    millrace::set_token_details (meta, millrace::details_of (row, step));

  const auto &timing = millrace::request_timing (request);
  GST_BUFFER_PTS (buffer) = timing.pts;
  GST_BUFFER_DURATION (buffer) = timing.duration;
  GST_BUFFER_OFFSET (buffer) = sequence.generated ();
  if (sequence.generated () == 0)
    GST_BUFFER_FLAG_SET (buffer, GST_BUFFER_FLAG_DISCONT);
  if (row.ended ())
    GST_BUFFER_FLAG_SET (buffer, GST_BUFFER_FLAG_MARKER);
  return buffer;
}

static GstFlowReturn
llm_sampler_output (LlmStage *, GstPad *src, GstBuffer *buffer, millrace::Step &step)
{
  const auto owner = millrace::Ref<GstBuffer>::adopt (buffer);
  GstBuffer *single = nullptr;
  millrace::Ref<GstBufferList> list;
  for (const millrace::Row &row : step.rows) {
    if (row.accepted_count == 0 && !row.ended ())
      continue;
    GstBuffer *tokens = row_to_buffer (row, step);
    if (!single && !list) {
      single = tokens;
      continue;
    }
    if (!list) {
      list = millrace::Ref<GstBufferList>::adopt (gst_buffer_list_new_sized (step.rows.size ()));
      gst_buffer_list_add (list.get (), std::exchange (single, nullptr));
    }
    gst_buffer_list_add (list.get (), tokens);
  }
  if (list)
    return gst_pad_push_list (src, list.release ());
  return single ? gst_pad_push (src, single) : GST_FLOW_OK;
}

static void
llm_sampler_finalize (GObject *object)
{
  std::destroy_at (&reinterpret_cast<LlmSampler *> (object)->sampler);
  G_OBJECT_CLASS (llm_sampler_parent_class)->finalize (object);
}

static void
llm_sampler_init (LlmSampler *self)
{
  std::construct_at (&self->sampler);
}

static void
llm_sampler_class_init (LlmSamplerClass *klass)
{
  G_OBJECT_CLASS (klass)->finalize = llm_sampler_finalize;
  auto *stage_class = reinterpret_cast<LlmStageClass *> (klass);
  millrace::add_stage_pads (stage_class, millrace::kScoredCaps, millrace::kTokenCaps);
  stage_class->process = llm_sampler_process;
  stage_class->output = llm_sampler_output;
  gst_element_class_set_static_metadata (GST_ELEMENT_CLASS (klass), "LLM sampler", "Filter/LLM",
                                         "Draws tokens from logits and accepts drafts",
                                         "The Millrace authors");
}
