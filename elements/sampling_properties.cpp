#include "elements/sampling_properties.hpp"

#include <gst/gst.h>

#include <iterator>
#include <variant>

namespace millrace
{

namespace
{

using Member = std::variant<double SamplingParams::*, int SamplingParams::*, bool SamplingParams::*,
                            uint64_t SamplingParams::*, std::vector<std::string> SamplingParams::*>;

struct SamplingProperty {
  const char *name;
  const char *nick;
  const char *blurb;
  Member member;
  double minimum, maximum;
};

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

guint
install_sampling_properties (GObjectClass *klass, guint first)
{
  const auto flags =
      static_cast<GParamFlags> (G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS | GST_PARAM_MUTABLE_PLAYING);
  const SamplingParams defaults;
  guint id = first;
  for (const auto &[name, nick, blurb, member, minimum, maximum] : kProperties) {
    GParamSpec *spec = std::visit (
        Overload{[&, name = name, nick = nick, blurb = blurb, low = minimum,
                  high = maximum] (double SamplingParams::*field) {
                   return g_param_spec_double (name, nick, blurb, low, high, defaults.*field, flags);
                 },
                 [&, name = name, nick = nick, blurb = blurb, low = minimum,
                  high = maximum] (int SamplingParams::*field) {
                   return g_param_spec_int (name, nick, blurb, static_cast<int> (low),
                                            static_cast<int> (high), defaults.*field, flags);
                 },
                 [&, name = name, nick = nick, blurb = blurb] (bool SamplingParams::*field) {
                   return g_param_spec_boolean (name, nick, blurb, defaults.*field, flags);
                 },
                 [&, name = name, nick = nick, blurb = blurb] (uint64_t SamplingParams::*field) {
                   return g_param_spec_uint64 (name, nick, blurb, 0, G_MAXUINT64, defaults.*field, flags);
                 },
                 [&, name = name, nick = nick, blurb = blurb] (std::vector<std::string> SamplingParams::*) {
                   return gst_param_spec_array (
                       name, nick, blurb,
                       g_param_spec_string ("string", "String", "One stop string", nullptr, flags), flags);
                 }},
        member);
    g_object_class_install_property (klass, id++, spec);
  }
  return id;
}

bool
set_sampling_property (SamplingParams &params, guint first, guint id, const GValue *value)
{
  if (id < first || id - first >= std::size (kProperties))
    return false;
  std::visit (Overload{[&] (double SamplingParams::*field) { params.*field = g_value_get_double (value); },
                       [&] (int SamplingParams::*field) { params.*field = g_value_get_int (value); },
                       [&] (bool SamplingParams::*field) { params.*field = g_value_get_boolean (value); },
                       [&] (uint64_t SamplingParams::*field) { params.*field = g_value_get_uint64 (value); },
                       [&] (std::vector<std::string> SamplingParams::*field) {
                         auto &strings = params.*field;
                         strings.clear ();
                         for (guint i = 0; i < gst_value_array_get_size (value); i++) {
                           const GValue *item = gst_value_array_get_value (value, i);
                           if (G_VALUE_HOLDS_STRING (item) && g_value_get_string (item))
                             strings.emplace_back (g_value_get_string (item));
                         }
                       }},
              kProperties[id - first].member);
  return true;
}

bool
get_sampling_property (const SamplingParams &params, guint first, guint id, GValue *value)
{
  if (id < first || id - first >= std::size (kProperties))
    return false;
  std::visit (Overload{[&] (double SamplingParams::*field) { g_value_set_double (value, params.*field); },
                       [&] (int SamplingParams::*field) { g_value_set_int (value, params.*field); },
                       [&] (bool SamplingParams::*field) { g_value_set_boolean (value, params.*field); },
                       [&] (uint64_t SamplingParams::*field) { g_value_set_uint64 (value, params.*field); },
                       [&] (std::vector<std::string> SamplingParams::*field) {
                         for (const std::string &text : params.*field) {
                           GValue item = G_VALUE_INIT;
                           g_value_init (&item, G_TYPE_STRING);
                           g_value_set_string (&item, text.c_str ());
                           gst_value_array_append_and_take_value (value, &item);
                         }
                       }},
              kProperties[id - first].member);
  return true;
}

} // namespace millrace
