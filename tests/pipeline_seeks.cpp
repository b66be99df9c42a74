// labels: pipeline
// timeout: 240
// An application seeks while replies are on their way: what leaves is a flush, a segment and the replies from there on, and
// nothing of before; without a flush nothing is lost.

#include "tests/cue_recorder.hpp"

using namespace millrace;
using namespace millrace::testing;

namespace
{

constexpr int kLong = 300, kEndless = 1 << 30;
using List = std::vector<std::string>;

/// Two short replies, then some that would take long, then short ones.
int
long_until_ten (int cue)
{
  return cue < 2 || cue >= 10 ? 3 : kLong;
}

} // namespace

TEST (Seeks, AFlushingSeekWhileRepliesAreGeneratedLeavesNothingOfBefore)
{
  CueRecorder recorded (14, long_until_ten);
  recorded.hold_at = reply (1);
  recorded.set_state (GST_STATE_PLAYING);
  recorded.until (reply (1)); // cues 2, 3, … are half-way
  const guint32 seqnum = recorded.seek (10, GST_SEEK_FLAG_FLUSH);
  const auto notes = recorded.until ("eos");
  const List expected = List{"segment 0"} + replies (0, 1) + List{"flush-start", "flush-stop", "segment 10"} +
                        replies (10, 13) + List{"eos"};
  EXPECT_EQ (texts (notes), expected);
  for (size_t i = 3; i < notes.size (); i++) {
    if (notes[i].seqnum != 0) {
      EXPECT_EQ (notes[i].seqnum, seqnum) << notes[i].what;
    }
  }
  EXPECT_LT (recorded.generated_tokens (), static_cast<uint64_t> (kLong))
      << "none of before was computed to its end";
}

TEST (Seeks, APausedPipelineShowsWhatItWasSoughtTo)
{
  CueRecorder recorded (14, long_until_ten);
  recorded.set_state (GST_STATE_PAUSED);
  recorded.settle ();
  for (const int cue : {10, 13, 12}) {
    const guint32 seqnum = recorded.seek (cue, GST_SEEK_FLAG_FLUSH | GST_SEEK_FLAG_ACCURATE);
    recorded.settle ();
    const size_t from = recorded.last ("flush-stop");
    const auto notes = recorded.until (reply (cue), from);
    List shown = texts (notes, from);
    shown.resize (3); // the next may have ended with it
    EXPECT_EQ (shown, (List{"flush-stop", "segment " + std::to_string (cue), reply (cue)}));
    EXPECT_EQ (notes[from + 1].seqnum, seqnum);
  }
  recorded.set_state (GST_STATE_PLAYING);
  const auto notes = recorded.until ("eos");
  const List expected = List{"flush-stop", "segment 12"} + replies (12, 13) + List{"eos"};
  EXPECT_EQ (texts (notes, recorded.last ("flush-stop")), expected);
  EXPECT_LT (recorded.generated_tokens (), static_cast<uint64_t> (kLong));
}

TEST (Seeks, OfManySeeksInARowTheLastCounts)
{
  CueRecorder recorded (20, [] (int cue) { return cue < 18 ? 2 + cue % 5 : 3; });
  recorded.set_state (GST_STATE_PLAYING);
  recorded.until (reply (0));
  std::vector<std::pair<int, guint32>> seeks;
  for (int i = 0; i < 40; i++) {
    const int cue = i * 7 % 18;
    seeks.emplace_back (cue, recorded.seek (cue, GST_SEEK_FLAG_FLUSH));
  }
  const auto notes = recorded.until ("eos", recorded.last ("flush-start"));
  size_t at =
      static_cast<size_t> (std::find_if (notes.begin (), notes.end (),
                                         [] (const Note &note) { return note.what == "flush-start"; }) -
                           notes.begin ());
  for (const auto &[cue, seqnum] : seeks) {
    ASSERT_LT (at + 1, notes.size ());
    EXPECT_EQ (notes[at].what, "flush-start");
    EXPECT_EQ (notes[at].seqnum, seqnum);
    EXPECT_EQ (notes[at + 1].what, "flush-stop");
    EXPECT_EQ (notes[at + 1].seqnum, seqnum);
    at += 2;
    if (at == notes.size () || notes[at].what == "flush-start")
      continue;
    EXPECT_EQ (notes[at].what, "segment " + std::to_string (cue));
    EXPECT_EQ (notes[at++].seqnum, seqnum);
    for (int next = cue; at < notes.size () && notes[at].what.starts_with ("reply"); at++)
      EXPECT_EQ (notes[at].what, reply (next++));
    if (at < notes.size () && notes[at].what == "eos")
      at++;
  }
  EXPECT_EQ (at, notes.size ());
  EXPECT_EQ (notes[at - 2].what, reply (19));
}

TEST (Seeks, AfterTheEndItGoesOnFromWhereItWasSoughtTo)
{
  CueRecorder recorded (6);
  recorded.set_state (GST_STATE_PLAYING);
  recorded.until ("eos");
  for (const int cue : {3, 5, 0}) {
    const guint32 seqnum = recorded.seek (cue, GST_SEEK_FLAG_FLUSH);
    const size_t from = recorded.last ("flush-start");
    const auto notes = recorded.until ("eos", from);
    const List expected =
        List{"flush-start", "flush-stop", "segment " + std::to_string (cue)} + replies (cue, 5) + List{"eos"};
    EXPECT_EQ (texts (notes, from), expected);
    EXPECT_EQ (notes.back ().seqnum, seqnum);
  }
}

TEST (Seeks, WithoutAFlushNothingIsLostAndTheSegmentComesBehindWhatWasBefore)
{
  CueRecorder recorded (kEndless);
  recorded.set_state (GST_STATE_PLAYING);
  recorded.settle (); // a seek holds up changes of state, and without a flush waits for room
  const guint32 seqnum = recorded.seek (100'000, GST_SEEK_FLAG_NONE);
  const auto notes = recorded.until (reply (100'009));
  const size_t segment = recorded.last ("segment 100000");
  ASSERT_LT (segment, notes.size ());
  EXPECT_EQ (notes[segment].seqnum, seqnum);
  const auto pushed = recorded.pushed ();
  const auto before = std::find (pushed.begin (), pushed.end (), 100'000) - pushed.begin ();
  auto sought = texts (notes);
  sought.resize (segment + 11);
  EXPECT_EQ (sought, List{"segment 0"} + replies (0, static_cast<int> (before) - 1) + List{"segment 100000"} +
                         replies (100'000, 100'009));
}

TEST (Seeks, AnElementMaySeekInTheMiddleOfAStep)
{
  for (const std::string &at : {std::string ("segment 0"), reply (1)}) {
    CueRecorder recorded (14, long_until_ten);
    recorded.seek_at = at;
    recorded.seek_to = 11;
    recorded.set_state (GST_STATE_PLAYING);
    recorded.until ("flush-stop");
    const size_t from = recorded.last ("flush-stop");
    const auto notes = recorded.until ("eos", from);
    const List expected = List{"flush-stop", "segment 11"} + replies (11, 13) + List{"eos"};
    EXPECT_EQ (texts (notes, from), expected);
    EXPECT_LT (recorded.generated_tokens (), static_cast<uint64_t> (kLong));
  }
}

TEST (Seeks, ASegmentSeekEndsWithSegmentDoneBehindItsReplies)
{
  CueRecorder recorded (kEndless);
  recorded.set_state (GST_STATE_PLAYING);
  recorded.until (reply (1));
  recorded.seek (5, GST_SEEK_FLAG_FLUSH | GST_SEEK_FLAG_SEGMENT, 9 * GST_SECOND);
  const auto notes = recorded.until ("segment-done");
  EXPECT_EQ (texts (notes, recorded.last ("flush-stop")),
             List{"flush-stop"} + List{"segment 5"} + replies (5, 8) + List{"segment-done"});
}

TEST (Seeks, SeveralSourcesAreSoughtAndNoneLosesAReply)
{
  for (int round = 0; round < 10; round++) {
    CueRecorder recorded (
        14, long_until_ten,
        "llmprompt name=prompt model=demo-draft ! llmtokenizer ! llmscheduler name=scheduler ! llmverifier ! "
        "llmsampler ! llmdetokenizer name=detokenizer "
        "llmprompt name=other ! llmtokenizer ! scheduler. detokenizer.",
        "prompt");
    auto *other = add_cue_source (recorded.pipeline (), "other");
    other->count = 14;
    other->tokens = long_until_ten;
    recorded.set_state (GST_STATE_PLAYING);
    recorded.until (reply (0));
    const guint32 seqnum = recorded.seek (10, GST_SEEK_FLAG_FLUSH);
    const auto notes = recorded.until ("eos");
    const size_t from = recorded.last ("flush-start");
    List sought = texts (notes, from), expected;
    ASSERT_EQ (sought.size (), 12u) << ::testing::PrintToString (sought);
    EXPECT_EQ (sought[1], "flush-stop");
    EXPECT_EQ (sought[2], "segment 0") << "with several sources, times are running times";
    EXPECT_EQ (sought[11], "eos");
    for (const size_t event : {0, 1, 2, 11})
      EXPECT_EQ (notes[from + event].seqnum, seqnum) << sought[event];
    sought.erase (sought.begin (), sought.begin () + 3);
    sought.pop_back ();
    std::sort (sought.begin (), sought.end ());
    for (int cue = 10; cue < 14; cue++)
      expected.insert (expected.end (), 2,
                       "reply " + std::to_string (cue) + " at " + std::to_string (cue - 10));
    EXPECT_EQ (sought, expected);
  }
}
