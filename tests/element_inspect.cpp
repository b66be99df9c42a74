// labels: element
// What gst-inspect-1.0 says of the elements is complete: whoever reads it needs no other page to use one.

#include <gst/gst.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

namespace
{

std::vector<GstElementFactory *>
factories ()
{
  gst_init (nullptr, nullptr);
  std::vector<GstElementFactory *> found;
  for (const char *plugin : {"millrace", "millracehttp"}) {
    GList *features = gst_registry_get_feature_list_by_plugin (gst_registry_get (), plugin);
    for (GList *item = features; item; item = item->next) {
      if (GST_IS_ELEMENT_FACTORY (item->data))
        found.push_back (GST_ELEMENT_FACTORY (gst_object_ref (item->data)));
    }
    gst_plugin_feature_list_free (features);
  }
  return found;
}

std::string
sources ()
{
  std::ostringstream text;
  for (const char *name : {"llmscheduler.cpp", "llmbin.cpp", "http/llmhttpsrc.cpp", "http/llmhttpsink.cpp"})
    text << std::ifstream (std::string (MILLRACE_SOURCE_DIR "/elements/") + name).rdbuf ();
  return text.str ();
}

bool
is_number (GType type)
{
  for (const GType number :
       {G_TYPE_INT, G_TYPE_UINT, G_TYPE_INT64, G_TYPE_UINT64, G_TYPE_FLOAT, G_TYPE_DOUBLE}) {
    if (type == number)
      return true;
  }
  return false;
}

} // namespace

TEST (Inspect, EveryElementSaysWhatItIs)
{
  const auto found = factories ();
  EXPECT_GE (found.size (), 12u);
  for (auto *factory : found) {
    const std::string name = GST_OBJECT_NAME (factory);
    for (const char *key : {GST_ELEMENT_METADATA_LONGNAME, GST_ELEMENT_METADATA_KLASS,
                            GST_ELEMENT_METADATA_DESCRIPTION, GST_ELEMENT_METADATA_AUTHOR}) {
      const char *text = gst_element_factory_get_metadata (factory, key);
      EXPECT_TRUE (text && std::strlen (text) >= 5) << name << ": " << key;
    }
    const std::string klass = gst_element_factory_get_metadata (factory, GST_ELEMENT_METADATA_KLASS);
    EXPECT_TRUE (std::regex_search (klass, std::regex ("^(Filter|Source|Sink)/.*LLM")))
        << name << ": " << klass;
    const std::string description =
        gst_element_factory_get_metadata (factory, GST_ELEMENT_METADATA_DESCRIPTION);
    EXPECT_NE (description.back (), '.') << name << ": as in GStreamer, a phrase";
    EXPECT_GE (gst_element_factory_get_num_pad_templates (factory), 1u) << name;
    for (const GList *item = gst_element_factory_get_static_pad_templates (factory); item;
         item = item->next) {
      auto *pad = static_cast<GstStaticPadTemplate *> (item->data);
      GstCaps *caps = gst_static_pad_template_get_caps (pad);
      EXPECT_FALSE (gst_caps_is_any (caps) || gst_caps_is_empty (caps)) << name << ": " << pad->name_template;
      gst_caps_unref (caps);
    }
    gst_object_unref (factory);
  }
}

TEST (Inspect, EveryPropertySaysItsUnitAndWhatItIs)
{
  // What a number counts or measures, or what range it has a meaning in.
  const std::regex unit (
      "token|byte|second|ms\\b|request|guess|step|thread|core|port|step|prompt|char|probabilit|"
      "share|logit|score|0:|number|seed|message|connection|answer|place|generation",
      std::regex::icase);
  for (auto *factory : factories ()) {
    const std::string name = GST_OBJECT_NAME (factory);
    GstElement *element = gst_element_factory_create (factory, nullptr);
    ASSERT_NE (element, nullptr) << name;
    gst_object_ref_sink (element);
    guint count = 0;
    GParamSpec **specs = g_object_class_list_properties (G_OBJECT_GET_CLASS (element), &count);
    for (guint i = 0; i < count; i++) {
      const GParamSpec *spec = specs[i];
      if (!g_str_has_prefix (g_type_name (spec->owner_type), "Llm"))
        continue; // GStreamer's own
      const std::string property = name + "::" + spec->name;
      const char *blurb = g_param_spec_get_blurb (specs[i]);
      ASSERT_NE (blurb, nullptr) << property;
      EXPECT_GE (std::strlen (blurb), 12u) << property << ": " << blurb;
      EXPECT_STRNE (blurb, g_param_spec_get_nick (specs[i])) << property;
      if (is_number (spec->value_type)) {
        EXPECT_TRUE (std::regex_search (blurb, unit)) << property << " has no unit: " << blurb;
      }
      if (spec->flags & G_PARAM_WRITABLE) {
        const auto mutability =
            spec->flags & (GST_PARAM_MUTABLE_READY | GST_PARAM_MUTABLE_PAUSED | GST_PARAM_MUTABLE_PLAYING);
        EXPECT_NE (mutability, 0) << property << " does not say when it may be changed";
      }
    }
    g_free (specs);
    gst_object_unref (element);
    gst_object_unref (factory);
  }
}

TEST (Inspect, EverySignalIsDocumented)
{
  const std::string text = sources ();
  int signals = 0;
  for (auto *factory : factories ()) {
    GstElement *element = gst_element_factory_create (factory, nullptr);
    gst_object_ref_sink (element);
    for (GType type = G_OBJECT_TYPE (element); g_str_has_prefix (g_type_name (type), "Llm");
         type = g_type_parent (type)) {
      guint count = 0;
      guint *ids = g_signal_list_ids (type, &count);
      for (guint i = 0; i < count; i++, signals++) {
        const std::string name =
            std::string (GST_OBJECT_NAME (factory)) + "::" + g_signal_name (ids[i]) + ":";
        EXPECT_NE (text.find (" * " + name), std::string::npos)
            << name << " has no description in the source";
      }
      g_free (ids);
    }
    gst_object_unref (element);
    gst_object_unref (factory);
  }
  EXPECT_GE (signals, 1);
}
