#include "library/variant.hpp"

namespace millrace
{

// Null: a type that has no GVariant. Recursion is as deep as the structures that the elements make.
static GVariant *
variant_of (const GValue *value)
{
  if (G_VALUE_HOLDS_INT (value))
    return g_variant_new_int32 (g_value_get_int (value));
  if (G_VALUE_HOLDS_UINT (value))
    return g_variant_new_uint32 (g_value_get_uint (value));
  if (G_VALUE_HOLDS_INT64 (value))
    return g_variant_new_int64 (g_value_get_int64 (value));
  if (G_VALUE_HOLDS_UINT64 (value))
    return g_variant_new_uint64 (g_value_get_uint64 (value));
  if (G_VALUE_HOLDS_DOUBLE (value))
    return g_variant_new_double (g_value_get_double (value));
  if (G_VALUE_HOLDS_BOOLEAN (value))
    return g_variant_new_boolean (g_value_get_boolean (value));
  if (G_VALUE_HOLDS_STRING (value) && g_value_get_string (value))
    return g_variant_new_string (g_value_get_string (value));
  if (GST_VALUE_HOLDS_STRUCTURE (value))
    return variant_of (gst_value_get_structure (value));
  if (GST_VALUE_HOLDS_ARRAY (value)) {
    GVariantBuilder list;
    g_variant_builder_init (&list, G_VARIANT_TYPE ("av"));
    for (guint i = 0; i < gst_value_array_get_size (value); i++) {
      if (GVariant *item = variant_of (gst_value_array_get_value (value, i)))
        g_variant_builder_add (&list, "v", item);
    }
    return g_variant_builder_end (&list);
  }
  return nullptr;
}

GVariant *
variant_of (const GstStructure *structure)
{
  GVariantDict dict;
  g_variant_dict_init (&dict, nullptr);
  for (int i = 0; structure && i < gst_structure_n_fields (structure); i++) {
    const char *name = gst_structure_nth_field_name (structure, static_cast<guint> (i));
    if (GVariant *value = variant_of (gst_structure_get_value (structure, name)))
      g_variant_dict_insert_value (&dict, name, value);
  }
  return g_variant_dict_end (&dict);
}

} // namespace millrace
