// GstStructure → GVariant, which every language binding can read.
#pragma once

#include <gst/gst.h>

namespace millrace
{

/// `a{sv}`, floating. Structures within become dictionaries, arrays become lists; fields of other types than numbers, booleans
/// and strings are left out.
GVariant *variant_of (const GstStructure *structure);

} // namespace millrace
