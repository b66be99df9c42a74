/**
 * SECTION:element-llmngramdrafter
 * @title: llmngramdrafter
 *
 * Guesses the next tokens by looking up what followed the last ones earlier: in the same request, in the output that the
 * request says it expects, and, with shared-store, in what other requests said.
 *
 * The verifier scores the guesses in one pass and the sampler accepts those that it would have drawn anyway,
 * so the output never changes; only the number of steps does. How many guesses are verified is decided by what they are
 * expected to bring.
 *
 * ## Example launch line
 * |[
 * echo "a = 1; b = 2; c = 3;" | gst-launch-1.0 -q fdsrc ! llmprompt max-tokens=32 ! llmtokenizer ! llmscheduler ! llmprefill ! llmngramdrafter max-draft=6 ! llmverifier ! llmsampler ! llmdetokenizer ! fdsink
 * ]| Drafts up to 6 tokens ahead.
 *
 * Since: 0.1
 */

#include "elements/elements.hpp"

#include "elements/drafter_element.hpp"
#include "engine/drafting/lookup_policy.hpp"

struct LlmNgramDrafter {
  LlmDrafter parent;
  // OBJECT_LOCK
  millrace::LookupPolicy policy;
  int min_match;
  int shared_store; // tokens
};

struct LlmNgramDrafterClass {
  LlmDrafterClass parent;
};

G_DEFINE_TYPE (LlmNgramDrafter, llm_ngram_drafter, LLM_TYPE_DRAFTER)

enum { PROP_POLICY = LLM_DRAFTER_PROP_LAST, PROP_MIN_MATCH, PROP_SHARED_STORE };

static LlmNgramDrafter *
drafter_cast (gpointer object)
{
  return reinterpret_cast<LlmNgramDrafter *> (object);
}

static GType
llm_draft_policy_get_type ()
{
  using millrace::LookupPolicy;
  static const GEnumValue values[] = {{static_cast<int> (LookupPolicy::kSuffix),
                                       "What most often followed the longest repeated suffix", "suffix"},
                                      {static_cast<int> (LookupPolicy::kNgram),
                                       "Counts of what followed 2, 3 and 4 tokens, and which of it was right",
                                       "ngram"},
                                      {0, nullptr, nullptr}};
  static const GType type = g_enum_register_static ("LlmDraftPolicy", values);
  return type;
}

static std::unique_ptr<millrace::Drafter>
llm_ngram_drafter_create (LlmDrafter *drafter, const millrace::DrafterSettings &settings)
{
  auto *self = drafter_cast (drafter);
  GST_OBJECT_LOCK (self);
  const millrace::LookupSettings lookup{.policy = self->policy,
                                        .max_draft = settings.max_draft,
                                        .gate = settings.gate,
                                        .min_match = self->min_match,
                                        .shared_store_tokens = self->shared_store};
  GST_OBJECT_UNLOCK (self);
  return millrace::make_lookup_drafter (lookup);
}

static void
llm_ngram_drafter_set_property (GObject *object, guint id, const GValue *value, GParamSpec *spec)
{
  if (id < LLM_DRAFTER_PROP_LAST) {
    G_OBJECT_CLASS (llm_ngram_drafter_parent_class)->set_property (object, id, value, spec);
    return;
  }
  auto *self = drafter_cast (object);
  GST_OBJECT_LOCK (self);
  switch (id) {
  case PROP_POLICY:
    self->policy = static_cast<millrace::LookupPolicy> (g_value_get_enum (value));
    break;
  case PROP_MIN_MATCH:
    self->min_match = g_value_get_int (value);
    break;
  case PROP_SHARED_STORE:
    self->shared_store = g_value_get_int (value);
    break;
  default:
    G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, spec);
  }
  GST_OBJECT_UNLOCK (self);
}

static void
llm_ngram_drafter_get_property (GObject *object, guint id, GValue *value, GParamSpec *spec)
{
  if (id < LLM_DRAFTER_PROP_LAST) {
    G_OBJECT_CLASS (llm_ngram_drafter_parent_class)->get_property (object, id, value, spec);
    return;
  }
  auto *self = drafter_cast (object);
  GST_OBJECT_LOCK (self);
  switch (id) {
  case PROP_POLICY:
    g_value_set_enum (value, static_cast<int> (self->policy));
    break;
  case PROP_MIN_MATCH:
    g_value_set_int (value, self->min_match);
    break;
  case PROP_SHARED_STORE:
    g_value_set_int (value, self->shared_store);
    break;
  default:
    G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, spec);
  }
  GST_OBJECT_UNLOCK (self);
}

static void
llm_ngram_drafter_init (LlmNgramDrafter *self)
{
  const millrace::LookupSettings defaults;
  self->policy = defaults.policy;
  self->min_match = defaults.min_match;
  self->shared_store = static_cast<int> (defaults.shared_store_tokens);
}

static void
llm_ngram_drafter_class_init (LlmNgramDrafterClass *klass)
{
  GObjectClass *object_class = G_OBJECT_CLASS (klass);
  object_class->set_property = llm_ngram_drafter_set_property;
  object_class->get_property = llm_ngram_drafter_get_property;
  const auto flags =
      static_cast<GParamFlags> (G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS | GST_PARAM_MUTABLE_READY);
  const millrace::LookupSettings defaults;
  const GType policy = llm_draft_policy_get_type ();
  g_object_class_install_property (object_class, PROP_POLICY,
                                   g_param_spec_enum ("policy", "Policy", "What guesses are made from",
                                                      policy, static_cast<int> (defaults.policy), flags));
  g_object_class_install_property (
      object_class, PROP_MIN_MATCH,
      g_param_spec_int ("min-match", "Minimum match",
                        "Tokens that must have occurred before in the same order; 2 to 4 with policy=ngram",
                        1, millrace::kLongestMinMatch, defaults.min_match, flags));
  g_object_class_install_property (
      object_class, PROP_SHARED_STORE,
      g_param_spec_int ("shared-store", "Shared store",
                        "Tokens of finished outputs to keep, to guess from in other requests; up to 36 bytes "
                        "each, with policy=suffix. "
                        "Outputs do not change, but how fast one comes may tell a user that another's "
                        "request said the same. 0: none",
                        0, millrace::kLargestSharedStore, static_cast<int> (defaults.shared_store_tokens),
                        flags));
  gst_type_mark_as_plugin_api (policy, static_cast<GstPluginAPIFlags> (0));
  reinterpret_cast<LlmDrafterClass *> (klass)->create_drafter = llm_ngram_drafter_create;
  gst_element_class_set_static_metadata (GST_ELEMENT_CLASS (klass), "LLM n-gram drafter", "Filter/LLM",
                                         "Guesses next tokens from what was said before",
                                         "The Millrace authors");
}
