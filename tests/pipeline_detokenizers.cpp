// labels: pipeline
// timeout: 120
// Another llmdetokenizer takes the place of one that puts replies in order: replies go on, in order.

#include "tests/cue_recorder.hpp"

using namespace millrace;
using namespace millrace::testing;

namespace
{

struct Exchange {
  CueRecorder &recorded;
  const char *format;
  int pushes = 0;
  size_t notes = 0; ///< that had been taken down before
};

void
exchange (Exchange &with)
{
  auto sampler = with.recorded.find ("sampler"), old = with.recorded.find ("detokenizer"),
       out = with.recorded.find ("out");
  gst_element_unlink_many (sampler.get (), old.get (), out.get (), nullptr);
  gst_bin_remove (GST_BIN (with.recorded.pipeline ()), old.get ());
  gst_element_set_state (old.get (), GST_STATE_NULL);
  GstElement *next = gst_element_factory_make ("llmdetokenizer", "detokenizer");
  gst_util_set_object_arg (G_OBJECT (next), "format", with.format);
  gst_bin_add (GST_BIN (with.recorded.pipeline ()), next);
  EXPECT_TRUE (gst_element_link_many (sampler.get (), next, out.get (), nullptr));
  EXPECT_TRUE (gst_element_sync_state_with_parent (next));
  with.notes = with.recorded.notes ().size ();
}

} // namespace

TEST (Detokenizers, OneThatComesInMidStreamDoesNotWaitForRepliesThatHaveLeft)
{
  for (const char *format : {"whole", "growing"}) {
    CueRecorder recorded (
        1 << 30, [] (int cue) { return cue % 3 ? 3 : 12; },
        "llmprompt name=prompt model=demo-draft ! llmtokenizer ! llmscheduler name=scheduler ! llmverifier ! "
        "llmsampler name=sampler ! llmdetokenizer name=detokenizer",
        "prompt");
    Exchange with{recorded, format};
    auto pad = Ref<GstPad>::adopt (gst_element_get_static_pad (recorded.find ("sampler").get (), "src"));
    gst_pad_add_probe (
        pad.get (),
        static_cast<GstPadProbeType> (GST_PAD_PROBE_TYPE_BLOCK | GST_PAD_PROBE_TYPE_BUFFER |
                                      GST_PAD_PROBE_TYPE_BUFFER_LIST),
        [] (GstPad *, GstPadProbeInfo *, gpointer data) {
          auto &with = *static_cast<Exchange *> (data);
          if (++with.pushes < 50)
            return GST_PAD_PROBE_PASS;
          exchange (with);
          return GST_PAD_PROBE_REMOVE;
        },
        &with, nullptr);
    recorded.set_state (GST_STATE_PLAYING);
    const auto notes = recorded.until (reply (120));
    std::vector<int> cues;
    for (const auto &what : texts (notes, with.notes))
      if (what.starts_with ("reply")) // the segment comes again to what has just been linked
        cues.push_back (std::stoi (what.substr (6)));
    cues.erase (std::unique (cues.begin (), cues.end ()),
                cues.end ()); // a growing reply comes again and again
    EXPECT_TRUE (std::is_sorted (cues.begin (), cues.end ())) << ::testing::PrintToString (cues);
    // What the other had begun or held back has gone with it; every reply that began later is there.
    const auto later = std::find (cues.begin (), cues.end (), cues.front () + 20);
    for (size_t i = 0; later + static_cast<std::ptrdiff_t> (i) < cues.end (); i++)
      ASSERT_EQ (later[static_cast<std::ptrdiff_t> (i)], cues.front () + 20 + static_cast<int> (i));
    EXPECT_GE (cues.back (), 120);
  }
}
