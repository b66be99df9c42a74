#include "elements/drafter_element.hpp"

struct LlmDrafterPrivate {
  millrace::DrafterSettings settings;         // OBJECT_LOCK
  std::unique_ptr<millrace::Drafter> drafter; // streaming thread
};

G_DEFINE_ABSTRACT_TYPE_WITH_PRIVATE (LlmDrafter, llm_drafter, LLM_TYPE_STAGE)

enum { PROP_0, PROP_MAX_DRAFT, PROP_GATE };

static LlmDrafterPrivate *
private_of (gpointer object)
{
  return static_cast<LlmDrafterPrivate *> (
      llm_drafter_get_instance_private (static_cast<LlmDrafter *> (object)));
}

static GType
llm_draft_gate_get_type ()
{
  using millrace::DraftGate;
  static const GEnumValue values[] = {
      {static_cast<int> (DraftGate::kCost),
       "Expected right tokens against the measured cost of verifying them", "cost"},
      {static_cast<int> (DraftGate::kEma),
       "Moving average of the share that was right, α = 0.1: below 0.5 a pause of 8 steps", "ema"},
      {static_cast<int> (DraftGate::kNone), "All guesses are verified", "none"},
      {0, nullptr, nullptr}};
  static const GType type = g_enum_register_static ("LlmDraftGate", values);
  return type;
}

static void
llm_drafter_process (LlmStage *stage, millrace::Step &step)
{
  LlmDrafterPrivate *priv = private_of (stage);
  if (!priv->drafter) {
    GST_OBJECT_LOCK (stage);
    const auto settings = priv->settings;
    GST_OBJECT_UNLOCK (stage);
    priv->drafter = LLM_DRAFTER_GET_CLASS (stage)->create_drafter (LLM_DRAFTER (stage), settings);
  }
  priv->drafter->draft (step);
}

static void
llm_drafter_reset (LlmStage *stage)
{
  private_of (stage)->drafter.reset ();
}

static void
llm_drafter_set_property (GObject *object, guint id, const GValue *value, GParamSpec *spec)
{
  auto &settings = private_of (object)->settings;
  GST_OBJECT_LOCK (object);
  switch (id) {
  case PROP_MAX_DRAFT:
    settings.max_draft = g_value_get_int (value);
    break;
  case PROP_GATE:
    settings.gate = static_cast<millrace::DraftGate> (g_value_get_enum (value));
    break;
  default:
    G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, spec);
  }
  GST_OBJECT_UNLOCK (object);
}

static void
llm_drafter_get_property (GObject *object, guint id, GValue *value, GParamSpec *spec)
{
  const auto &settings = private_of (object)->settings;
  GST_OBJECT_LOCK (object);
  switch (id) {
  case PROP_MAX_DRAFT:
    g_value_set_int (value, settings.max_draft);
    break;
  case PROP_GATE:
    g_value_set_enum (value, static_cast<int> (settings.gate));
    break;
  default:
    G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, spec);
  }
  GST_OBJECT_UNLOCK (object);
}

static void
llm_drafter_finalize (GObject *object)
{
  std::destroy_at (private_of (object));
  G_OBJECT_CLASS (llm_drafter_parent_class)->finalize (object);
}

static void
llm_drafter_init (LlmDrafter *self)
{
  std::construct_at (private_of (self));
}

static void
llm_drafter_class_init (LlmDrafterClass *klass)
{
  GObjectClass *object_class = G_OBJECT_CLASS (klass);
  object_class->set_property = llm_drafter_set_property;
  object_class->get_property = llm_drafter_get_property;
  object_class->finalize = llm_drafter_finalize;
  const auto flags =
      static_cast<GParamFlags> (G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS | GST_PARAM_MUTABLE_READY);
  const millrace::DrafterSettings defaults;
  g_object_class_install_property (
      object_class, PROP_MAX_DRAFT,
      g_param_spec_int ("max-draft", "Maximum draft",
                        "Tokens to guess at most in a step; the scheduler's max-draft bounds it too", 0,
                        millrace::kMaxDraft, defaults.max_draft, flags));
  const GType gate = llm_draft_gate_get_type ();
  g_object_class_install_property (
      object_class, PROP_GATE,
      g_param_spec_enum ("gate", "Gate", "What decides whether, and how many of, the guesses are verified",
                         gate, static_cast<int> (defaults.gate), flags));
  gst_type_mark_as_plugin_api (gate, static_cast<GstPluginAPIFlags> (0));
  gst_type_mark_as_plugin_api (LLM_TYPE_DRAFTER, static_cast<GstPluginAPIFlags> (0));
  auto *stage_class = reinterpret_cast<LlmStageClass *> (klass);
  millrace::add_stage_pads (stage_class, millrace::kPlannedCaps, millrace::kPlannedCaps);
  stage_class->process = llm_drafter_process;
  stage_class->reset = llm_drafter_reset;
}
