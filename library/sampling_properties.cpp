#include "library/sampling_properties.hpp"

#include <gst/gst.h>

#include <cfloat>
#include <climits>
#include <iterator>

namespace millrace
{

namespace
{

const SamplingProperty kProperties[] = {
    {"max-tokens", "Maximum tokens", "Tokens to generate at most; 0: until the context is full",
     &SamplingParams::max_tokens, 0, G_MAXINT},
    {"min-tokens", "Minimum tokens", "Tokens before a stop token may end the text",
     &SamplingParams::min_tokens, 0, G_MAXINT},
    {"temperature", "Temperature", "Divides the logits; 0: greedy, the most likely token always",
     &SamplingParams::temperature, 0, 100},
    {"top-k", "Top k", "Sample among this many most likely tokens; 0: off", &SamplingParams::top_k, 0,
     G_MAXINT},
    {"top-p", "Top p", "Sample among the fewest tokens whose probabilities reach this sum; 1: off",
     &SamplingParams::top_p, 1e-6, 1},
    {"min-p", "Min p", "Sample among tokens with at least this share of the best one's probability; 0: off",
     &SamplingParams::min_p, 0, 1},
    {"repetition-penalty", "Repetition penalty", "Weakens tokens seen in prompt or text; 1: off",
     &SamplingParams::repetition_penalty, 0.01, 100},
    {"presence-penalty", "Presence penalty", "Subtracted once from logits of generated tokens; 0: off",
     &SamplingParams::presence_penalty, -100, 100},
    {"frequency-penalty", "Frequency penalty",
     "Subtracted from logits of generated tokens for each occurrence; 0: off",
     &SamplingParams::frequency_penalty, -100, 100},
    {"seed", "Seed", "Of the random numbers; the same seed gives the same text", &SamplingParams::seed, 0, 0},
    {"logprobs", "Log-probabilities", "-1: none; n: of the chosen and of the n most likely tokens",
     &SamplingParams::logprobs, -1, kMaxTopLogprobs},
    {"ignore-eos", "Ignore end of sequence", "Go on past the model's end-of-sequence tokens",
     &SamplingParams::ignore_eos, 0, 0},
    {"stop", "Stop strings", "The text ends before the first of these, e.g. stop='<\"\\n\\n\",\"END\">'",
     &SamplingParams::stop, 0, 0},
};

template <typename... F>
struct Overload : F... {
  using F::operator()...;
};

} // namespace

std::span<const SamplingProperty>
sampling_properties ()
{
  return kProperties;
}

guint
install_sampling_properties (GObjectClass *klass, guint first, SamplingStyle style)
{
  const bool element = style == SamplingStyle::kElement;
  const auto flags = static_cast<GParamFlags> (G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS |
                                               (element ? GST_PARAM_MUTABLE_PLAYING : 0));
  const SamplingParams defaults;
  guint id = first;
  for (const SamplingProperty &property : kProperties) {
    const char *name = property.name, *nick = property.nick, *blurb = property.blurb;
    GParamSpec *spec = std::visit (
        Overload{[&] (double SamplingParams::*field) {
                   return g_param_spec_double (name, nick, blurb, element ? property.minimum : -DBL_MAX,
                                               element ? property.maximum : DBL_MAX, defaults.*field, flags);
                 },
                 [&] (int SamplingParams::*field) {
                   return g_param_spec_int (
                       name, nick, blurb, element ? static_cast<int> (property.minimum) : INT_MIN,
                       element ? static_cast<int> (property.maximum) : INT_MAX, defaults.*field, flags);
                 },
                 [&] (bool SamplingParams::*field) {
                   return g_param_spec_boolean (name, nick, blurb, defaults.*field, flags);
                 },
                 [&] (uint64_t SamplingParams::*field) {
                   return g_param_spec_uint64 (name, nick, blurb, 0, G_MAXUINT64, defaults.*field, flags);
                 },
                 [&] (std::vector<std::string> SamplingParams::*) {
                   return element
                              ? gst_param_spec_array (name, nick, blurb,
                                                      g_param_spec_string ("string", "String",
                                                                           "One stop string", nullptr, flags),
                                                      flags)
                              : g_param_spec_boxed (name, nick, blurb, G_TYPE_STRV, flags);
                 }},
        property.member);
    g_object_class_install_property (klass, id++, spec);
  }
  return id;
}

static void
set_strings (std::vector<std::string> &strings, const GValue *value)
{
  strings.clear ();
  if (G_VALUE_HOLDS (value, G_TYPE_STRV)) {
    auto **list = static_cast<char **> (g_value_get_boxed (value));
    for (; list && *list; list++)
      strings.emplace_back (*list);
    return;
  }
  for (guint i = 0; i < gst_value_array_get_size (value); i++) {
    const GValue *item = gst_value_array_get_value (value, i);
    if (G_VALUE_HOLDS_STRING (item) && g_value_get_string (item))
      strings.emplace_back (g_value_get_string (item));
  }
}

static void
get_strings (const std::vector<std::string> &strings, GValue *value)
{
  if (G_VALUE_HOLDS (value, G_TYPE_STRV)) {
    char **list = g_new0 (char *, strings.size () + 1);
    for (size_t i = 0; i < strings.size (); i++)
      list[i] = g_strdup (strings[i].c_str ());
    g_value_take_boxed (value, list);
    return;
  }
  for (const std::string &text : strings) {
    GValue item = G_VALUE_INIT;
    g_value_init (&item, G_TYPE_STRING);
    g_value_set_string (&item, text.c_str ());
    gst_value_array_append_and_take_value (value, &item);
  }
}

bool
set_sampling_property (SamplingParams &params, guint first, guint id, const GValue *value)
{
  if (id < first || id - first >= std::size (kProperties))
    return false;
  std::visit (
      Overload{[&] (double SamplingParams::*field) { params.*field = g_value_get_double (value); },
               [&] (int SamplingParams::*field) { params.*field = g_value_get_int (value); },
               [&] (bool SamplingParams::*field) { params.*field = g_value_get_boolean (value); },
               [&] (uint64_t SamplingParams::*field) { params.*field = g_value_get_uint64 (value); },
               [&] (std::vector<std::string> SamplingParams::*field) { set_strings (params.*field, value); }},
      kProperties[id - first].member);
  return true;
}

bool
get_sampling_property (const SamplingParams &params, guint first, guint id, GValue *value)
{
  if (id < first || id - first >= std::size (kProperties))
    return false;
  std::visit (
      Overload{[&] (double SamplingParams::*field) { g_value_set_double (value, params.*field); },
               [&] (int SamplingParams::*field) { g_value_set_int (value, params.*field); },
               [&] (bool SamplingParams::*field) { g_value_set_boolean (value, params.*field); },
               [&] (uint64_t SamplingParams::*field) { g_value_set_uint64 (value, params.*field); },
               [&] (std::vector<std::string> SamplingParams::*field) { get_strings (params.*field, value); }},
      kProperties[id - first].member);
  return true;
}

} // namespace millrace
