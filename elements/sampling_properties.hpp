// A request's default parameters as GObject properties: one table instead of an arm for each.
#pragma once

#include "engine/sampling/sampling_params.hpp"

#include <glib-object.h>

namespace millrace
{

/// Installs the properties with ids first, first + 1, ... and returns the next free id.
guint install_sampling_properties (GObjectClass *klass, guint first);
/// False when `id` is none of them.
bool set_sampling_property (SamplingParams &params, guint first, guint id, const GValue *value);
bool get_sampling_property (const SamplingParams &params, guint first, guint id, GValue *value);

} // namespace millrace
