/**
 * SECTION:element-llmngramdrafter
 * @title: llmngramdrafter
 *
 * Guesses the next tokens by looking up what followed the last ones earlier in the same request.
 *
 * The verifier scores the guesses in one pass and the sampler accepts those that it would have drawn anyway,
 * so the output never changes; only the number of steps does. Guesses become shorter, and pause, where they
 * miss.
 *
 * ## Example launch line
 * |[
 * echo "a = 1; b = 2; c = 3;" | gst-launch-1.0 -q fdsrc ! llmprompt max-tokens=32 ! llmtokenizer ! llmscheduler ! llmprefill ! llmngramdrafter max-draft=6 ! llmverifier ! llmsampler ! llmdetokenizer ! fdsink
 * ]| Drafts up to 6 tokens ahead.
 *
 * Since: 0.1
 */

#include "elements/elements.hpp"

#include "engine/drafting/lookup_policy.hpp"
#include "library/stage.hpp"

#include <memory>

struct LlmNgramDrafter {
  LlmStage parent;
  millrace::LookupSettings settings;          // OBJECT_LOCK
  std::unique_ptr<millrace::Drafter> drafter; // streaming thread
};

struct LlmNgramDrafterClass {
  LlmStageClass parent;
};

G_DEFINE_TYPE (LlmNgramDrafter, llm_ngram_drafter, LLM_TYPE_STAGE)

enum { PROP_0, PROP_MAX_DRAFT, PROP_MIN_MATCH };

static LlmNgramDrafter *
drafter_cast (gpointer object)
{
  return reinterpret_cast<LlmNgramDrafter *> (object);
}

static void
llm_ngram_drafter_process (LlmStage *stage, millrace::Step &step)
{
  auto *self = drafter_cast (stage);
  if (!self->drafter) {
    GST_OBJECT_LOCK (self);
    const auto settings = self->settings;
    GST_OBJECT_UNLOCK (self);
    self->drafter = millrace::make_lookup_drafter (settings);
  }

  self->drafter->draft (step);
}

static void
llm_ngram_drafter_reset (LlmStage *stage)
{
  drafter_cast (stage)->drafter.reset ();
}

static void
llm_ngram_drafter_set_property (GObject *object, guint id, const GValue *value, GParamSpec *spec)
{
  auto *self = drafter_cast (object);
  GST_OBJECT_LOCK (self);
  switch (id) {
  case PROP_MAX_DRAFT:
    self->settings.max_draft = g_value_get_int (value);
    break;
  case PROP_MIN_MATCH:
    self->settings.min_match = g_value_get_int (value);
    break;
  default:
    G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, spec);
  }
  GST_OBJECT_UNLOCK (self);
}

static void
llm_ngram_drafter_get_property (GObject *object, guint id, GValue *value, GParamSpec *spec)
{
  auto *self = drafter_cast (object);
  GST_OBJECT_LOCK (self);
  switch (id) {
  case PROP_MAX_DRAFT:
    g_value_set_int (value, self->settings.max_draft);
    break;
  case PROP_MIN_MATCH:
    g_value_set_int (value, self->settings.min_match);
    break;
  default:
    G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, spec);
  }
  GST_OBJECT_UNLOCK (self);
}

static void
llm_ngram_drafter_finalize (GObject *object)
{
  auto *self = drafter_cast (object);
  std::destroy_at (&self->settings);
  std::destroy_at (&self->drafter);
  G_OBJECT_CLASS (llm_ngram_drafter_parent_class)->finalize (object);
}

static void
llm_ngram_drafter_init (LlmNgramDrafter *self)
{
  std::construct_at (&self->settings);
  std::construct_at (&self->drafter);
}

static void
llm_ngram_drafter_class_init (LlmNgramDrafterClass *klass)
{
  GObjectClass *object_class = G_OBJECT_CLASS (klass);
  object_class->set_property = llm_ngram_drafter_set_property;
  object_class->get_property = llm_ngram_drafter_get_property;
  object_class->finalize = llm_ngram_drafter_finalize;
  const auto flags =
      static_cast<GParamFlags> (G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS | GST_PARAM_MUTABLE_READY);
  const millrace::LookupSettings defaults;
  g_object_class_install_property (
      object_class, PROP_MAX_DRAFT,
      g_param_spec_int ("max-draft", "Maximum draft",
                        "Tokens to guess at most in a step; the scheduler's max-draft bounds it too", 0,
                        millrace::kMaxDraft, defaults.max_draft, flags));
  g_object_class_install_property (
      object_class, PROP_MIN_MATCH,
      g_param_spec_int ("min-match", "Minimum match",
                        "Tokens that must have occurred before in the same order", 2, 4, defaults.min_match,
                        flags));
  auto *stage_class = reinterpret_cast<LlmStageClass *> (klass);
  millrace::add_stage_pads (stage_class, millrace::kPlannedCaps, millrace::kPlannedCaps);
  stage_class->process = llm_ngram_drafter_process;
  stage_class->reset = llm_ngram_drafter_reset;
  gst_element_class_set_static_metadata (GST_ELEMENT_CLASS (klass), "LLM n-gram drafter", "Filter/LLM",
                                         "Guesses next tokens from what the request has said before",
                                         "The Millrace authors");
}
