/**
 * SECTION:element-llmprefill
 * @title: llmprefill
 *
 * Fills the KV cache with prompt chunks, before the verifier scores the pending token.
 *
 * Runs in the scheduler's thread, inside one push. It computes all prompt tokens but the last and never
 * logits: the verifier is their only producer. Without this element the verifier computes the prompt itself,
 * with the same result.
 *
 * ## Example launch line
 * |[
 * echo "import os" | gst-launch-1.0 -q fdsrc ! llmprompt max-tokens=16 ! llmtokenizer ! llmscheduler ! llmprefill defer-below=8 ! llmverifier ! llmsampler ! llmdetokenizer ! fdsink
 * ]| Leaves chunks of up to 8 tokens to the verifier's pass.
 *
 * Since: 0.1
 */

#include "elements/elements.hpp"

#include "engine/model/forward.hpp"
#include "library/stage.hpp"

struct LlmPrefill {
  LlmStage parent;
  gint defer_below; // OBJECT_LOCK
};

struct LlmPrefillClass {
  LlmStageClass parent;
};

G_DEFINE_TYPE (LlmPrefill, llm_prefill, LLM_TYPE_STAGE)

enum { PROP_0, PROP_DEFER_BELOW };

static void
llm_prefill_process (LlmStage *stage, millrace::Step &step)
{
  auto *self = reinterpret_cast<LlmPrefill *> (stage);
  GST_OBJECT_LOCK (self);
  const int defer_below = self->defer_below;
  GST_OBJECT_UNLOCK (self);

  millrace::prefill (step, defer_below);
}

static void
llm_prefill_set_property (GObject *object, guint id, const GValue *value, GParamSpec *spec)
{
  if (id != PROP_DEFER_BELOW) {
    G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, spec);
    return;
  }
  GST_OBJECT_LOCK (object);
  reinterpret_cast<LlmPrefill *> (object)->defer_below = g_value_get_int (value);
  GST_OBJECT_UNLOCK (object);
}

static void
llm_prefill_get_property (GObject *object, guint id, GValue *value, GParamSpec *spec)
{
  if (id != PROP_DEFER_BELOW) {
    G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, spec);
    return;
  }
  GST_OBJECT_LOCK (object);
  g_value_set_int (value, reinterpret_cast<LlmPrefill *> (object)->defer_below);
  GST_OBJECT_UNLOCK (object);
}

static void
llm_prefill_init (LlmPrefill *self)
{
  self->defer_below = millrace::kDeferBelow;
}

static void
llm_prefill_class_init (LlmPrefillClass *klass)
{
  GObjectClass *object_class = G_OBJECT_CLASS (klass);
  object_class->set_property = llm_prefill_set_property;
  object_class->get_property = llm_prefill_get_property;
  g_object_class_install_property (
      object_class, PROP_DEFER_BELOW,
      g_param_spec_int (
          "defer-below", "Defer below",
          "Leave prompt chunks of at most this many tokens to the verifier, which then reads the "
          "weights once instead of twice; 0: none",
          0, G_MAXINT, millrace::kDeferBelow,
          static_cast<GParamFlags> (G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS | GST_PARAM_MUTABLE_PLAYING)));
  auto *stage_class = reinterpret_cast<LlmStageClass *> (klass);
  millrace::add_stage_pads (stage_class, millrace::kPlannedCaps, millrace::kPlannedCaps);
  stage_class->process = llm_prefill_process;
  gst_element_class_set_static_metadata (GST_ELEMENT_CLASS (klass), "LLM prefill", "Filter/LLM",
                                         "Fills the KV cache with prompt chunks", "The Millrace authors");
}
