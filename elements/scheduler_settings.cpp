#include "elements/scheduler_settings.hpp"

namespace millrace
{

namespace
{

enum Property {
  kMaxBatch,
  kPrefillTokens,
  kMaxDraftProperty,
  kMaxStepMs,
  kKvMemory,
  kKvTypeProperty,
  kPrefixCache,
  kCacheDirectory,
  kCacheSize,
  kMaxQueued,
  kWhenFull,
  kStatsInterval,
  kProperties
};

GType
kv_type_get_type ()
{
  static const GEnumValue values[] = {
      {static_cast<int> (KvType::kF32), "32-bit floats, as computed", "f32"},
      {static_cast<int> (KvType::kF16), "IEEE half precision", "f16"},
      {static_cast<int> (KvType::kBF16), "bfloat16", "bf16"},
      {static_cast<int> (KvType::kQ8), "8 bits, a scale for each position of a head", "q8"},
      {static_cast<int> (KvType::kK8V4), "8-bit keys, 4-bit values", "k8v4"},
      {0, nullptr, nullptr}};
  static const GType type = g_enum_register_static ("LlmSchedulerKvType", values);
  return type;
}

GType
when_full_get_type ()
{
  static const GEnumValue values[] = {
      {static_cast<int> (SchedulerInbox::WhenFull::kBlock), "Upstream is made to wait", "block"},
      {static_cast<int> (SchedulerInbox::WhenFull::kReject), "Requests end with the error queue_full",
       "reject"},
      {0, nullptr, nullptr}};
  static const GType type = g_enum_register_static ("LlmSchedulerWhenFull", values);
  return type;
}

} // namespace

guint
install_scheduler_properties (GObjectClass *klass, guint first)
{
  const SchedulerElementSettings defaults;
  const SchedulerSettings &scheduler = defaults.scheduler;
  const auto ready =
      static_cast<GParamFlags> (G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS | GST_PARAM_MUTABLE_READY);
  const auto install = [&] (Property property, GParamSpec *spec) {
    g_object_class_install_property (klass, first + property, spec);
  };
  install (kMaxBatch, g_param_spec_int ("max-batch", "Maximum batch", "Requests that run at a time", 1, 4096,
                                        scheduler.max_batch, ready));
  install (kPrefillTokens,
           g_param_spec_int (
               "prefill-tokens", "Prefill tokens",
               "Prompt tokens of a step at most, over all requests; fewer while max-step-ms asks for it", 1,
               65536, scheduler.prefill_tokens, ready));
  install (kMaxDraftProperty, g_param_spec_int ("max-draft", "Maximum draft",
                                                "Drafted tokens of a request in a step; 0: no speculation", 0,
                                                kMaxDraft, scheduler.max_draft, ready));
  install (kMaxStepMs,
           g_param_spec_double (
               "max-step-ms", "Maximum step",
               "Milliseconds that a step should take at most while it serves running requests and "
               "prompts together; prompts are cut to fit. 0: 1.7 times a step without prompts",
               0, 1e6, scheduler.max_step_ms, ready));
  install (kKvMemory, g_param_spec_uint64 (
                          "kv-memory", "KV memory",
                          "Bytes of the KV cache; 0: a quarter of the memory that machine and control groups "
                          "leave at start, at most what max-batch requests can use",
                          0, G_MAXUINT64, 0, ready));
  install (kKvTypeProperty,
           g_param_spec_enum ("kv-type", "KV type",
                              "How keys and values are stored (docs/scheduling.md: what it changes)",
                              kv_type_get_type (), static_cast<int> (scheduler.kv_type), ready));
  install (kPrefixCache,
           g_param_spec_boolean ("prefix-cache", "Prefix cache",
                                 "Keep computed prompts and answers for requests that begin alike",
                                 scheduler.prefix_cache, ready));
  install (
      kCacheDirectory,
      g_param_spec_string ("cache-directory", "Cache directory",
                           "Folder where cached prefixes survive the end of the program; made when missing. "
                           "Trust in it is trust in the answers",
                           nullptr, ready));
  install (kCacheSize,
           g_param_spec_uint64 ("cache-size", "Cache size",
                                "Bytes of the cache directory; what was used longest ago goes first", 0,
                                G_MAXUINT64, scheduler.cache_bytes, ready));
  install (kMaxQueued, g_param_spec_uint ("max-queued", "Maximum queued",
                                          "Requests that wait before when-full takes effect", 1, G_MAXUINT,
                                          defaults.max_queued, ready));
  install (kWhenFull,
           g_param_spec_enum ("when-full", "When full", "What becomes of requests that max-queued bars",
                              when_full_get_type (), static_cast<int> (defaults.when_full), ready));
  install (kStatsInterval,
           g_param_spec_int (
               "stats-interval", "Statistics interval",
               "Milliseconds between element messages llm-step, which say what stats says; 0: one for "
               "each step, -1: none",
               -1, G_MAXINT, defaults.stats_interval_ms, ready));
  gst_type_mark_as_plugin_api (kv_type_get_type (), static_cast<GstPluginAPIFlags> (0));
  gst_type_mark_as_plugin_api (when_full_get_type (), static_cast<GstPluginAPIFlags> (0));
  return first + kProperties;
}

bool
set_scheduler_property (SchedulerElementSettings &settings, guint first, guint id, const GValue *value)
{
  SchedulerSettings &scheduler = settings.scheduler;
  switch (static_cast<int> (id - first)) {
  case kMaxBatch:
    scheduler.max_batch = g_value_get_int (value);
    return true;
  case kPrefillTokens:
    scheduler.prefill_tokens = g_value_get_int (value);
    return true;
  case kMaxDraftProperty:
    scheduler.max_draft = g_value_get_int (value);
    return true;
  case kMaxStepMs:
    scheduler.max_step_ms = g_value_get_double (value);
    return true;
  case kKvMemory:
    scheduler.kv_bytes = g_value_get_uint64 (value);
    return true;
  case kKvTypeProperty:
    scheduler.kv_type = static_cast<KvType> (g_value_get_enum (value));
    return true;
  case kPrefixCache:
    scheduler.prefix_cache = g_value_get_boolean (value);
    return true;
  case kCacheDirectory: {
    const char *text = g_value_get_string (value);
    scheduler.cache_directory = text ? text : "";
    return true;
  }
  case kCacheSize:
    scheduler.cache_bytes = g_value_get_uint64 (value);
    return true;
  case kMaxQueued:
    settings.max_queued = g_value_get_uint (value);
    return true;
  case kWhenFull:
    settings.when_full = static_cast<SchedulerInbox::WhenFull> (g_value_get_enum (value));
    return true;
  case kStatsInterval:
    settings.stats_interval_ms = g_value_get_int (value);
    return true;
  default:
    return false;
  }
}

bool
get_scheduler_property (const SchedulerElementSettings &settings, guint first, guint id, GValue *value)
{
  const SchedulerSettings &scheduler = settings.scheduler;
  switch (static_cast<int> (id - first)) {
  case kMaxBatch:
    g_value_set_int (value, scheduler.max_batch);
    return true;
  case kPrefillTokens:
    g_value_set_int (value, scheduler.prefill_tokens);
    return true;
  case kMaxDraftProperty:
    g_value_set_int (value, scheduler.max_draft);
    return true;
  case kMaxStepMs:
    g_value_set_double (value, scheduler.max_step_ms);
    return true;
  case kKvMemory:
    g_value_set_uint64 (value, scheduler.kv_bytes);
    return true;
  case kKvTypeProperty:
    g_value_set_enum (value, static_cast<int> (scheduler.kv_type));
    return true;
  case kPrefixCache:
    g_value_set_boolean (value, scheduler.prefix_cache);
    return true;
  case kCacheDirectory:
    g_value_set_string (value,
                        scheduler.cache_directory.empty () ? nullptr : scheduler.cache_directory.c_str ());
    return true;
  case kCacheSize:
    g_value_set_uint64 (value, scheduler.cache_bytes);
    return true;
  case kMaxQueued:
    g_value_set_uint (value, settings.max_queued);
    return true;
  case kWhenFull:
    g_value_set_enum (value, static_cast<int> (settings.when_full));
    return true;
  case kStatsInterval:
    g_value_set_int (value, settings.stats_interval_ms);
    return true;
  default:
    return false;
  }
}

} // namespace millrace
