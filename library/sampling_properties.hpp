// The members of SamplingParams as GObject properties, for llmprompt and for MillraceRequest.
#pragma once

#include "engine/sampling/sampling_params.hpp"

#include <glib-object.h>

#include <span>
#include <string>
#include <variant>
#include <vector>

namespace millrace
{

struct SamplingProperty {
  const char *name; ///< with dashes; in JSON with underscores
  const char *nick;
  const char *blurb;
  std::variant<double SamplingParams::*, int SamplingParams::*, bool SamplingParams::*,
               uint64_t SamplingParams::*, std::vector<std::string> SamplingParams::*>
      member;
  double minimum, maximum;
};

std::span<const SamplingProperty> sampling_properties ();

enum class SamplingStyle {
  kElement, ///< ranges on the properties, strings as GstValueArray
  kObject,  ///< any number of the type, for whoever answers a wrong one with a GError; strings as GStrv
};

/// Installs the properties of kElement or kObject from `first` on; the next free id.
guint install_sampling_properties (GObjectClass *klass, guint first, SamplingStyle style);

// False when `id` is not one of theirs.
bool set_sampling_property (SamplingParams &params, guint first, guint id, const GValue *value);
bool get_sampling_property (const SamplingParams &params, guint first, guint id, GValue *value);

} // namespace millrace
