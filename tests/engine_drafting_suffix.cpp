// The suffix policy: which occurrences it finds, how they vote, and where guesses come from.
//
// labels: unit property
#include "engine/drafting/draft_controller.hpp"
#include "engine/drafting/suffix_drafter.hpp"
#include "engine/drafting/suffix_votes.hpp"
#include "engine/drafting/token_index.hpp"
#include "tests/draft_rows.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

using namespace millrace;
using namespace millrace::testing;

namespace
{

using Tokens = std::vector<TokenId>;

Tokens
joined (std::initializer_list<Tokens> parts)
{
  Tokens all;
  for (const Tokens &part : parts)
    all.insert (all.end (), part.begin (), part.end ());
  return all;
}

Draft
draft_after (const Tokens &prompt, int min_match = 2)
{
  SuffixDrafter drafter ({.min_match = min_match});
  Sequence sequence = make_sequence (prompt, 10'000);
  return draft_of (drafter, sequence);
}

/// What TokenIndex::find () is to find, by looking everywhere. `first` is the position of history[0].
std::vector<TokenIndex::Match>
all_matches (const Tokens &history, size_t forgotten, uint32_t first, const Tokens &tail, int shortest)
{
  std::vector<TokenIndex::Match> found;
  for (const auto &[least, longest] :
       {std::pair (8, TokenIndex::kLongestMatch), std::pair (4, 7), std::pair (2, 3), std::pair (1, 1)}) {
    for (size_t next = history.size (); next-- > forgotten;) {
      int length = 0;
      while (length < TokenIndex::kLongestMatch &&
             static_cast<size_t> (length) < std::min (tail.size (), next - forgotten) &&
             history[next - 1 - static_cast<size_t> (length)] ==
                 tail[tail.size () - 1 - static_cast<size_t> (length)])
        ++length;
      if (length >= std::max (least, shortest) && length <= longest && history[next] != TokenIndex::kBorder)
        found.push_back ({first + static_cast<uint32_t> (next), length});
    }
    if (found.size () >= TokenIndex::kEnough)
      break;
  }
  return found;
}

/// Everything that is returned is right, and the latest of its kind; nothing is missing where few occurrences compete.
void
compare (const TokenIndex::Matches &found, const std::vector<TokenIndex::Match> &all, const std::string &what)
{
  const auto kind = [] (const TokenIndex::Match &match) {
    return match.length >= 8 ? 3 : match.length >= 4 ? 2 : match.length >= 2 ? 1 : 0;
  };
  for (int k = 0; k < 4; ++k) {
    std::vector<TokenIndex::Match> got, there;
    std::ranges::copy_if (found.span (), std::back_inserter (got),
                          [&] (const auto &each) { return kind (each) == k; });
    std::ranges::copy_if (all, std::back_inserter (there),
                          [&] (const auto &each) { return kind (each) == k; });
    ASSERT_LE (got.size (), there.size ()) << what;
    for (size_t i = 0; i < got.size (); ++i) {
      ASSERT_EQ (got[i].next, there[i].next) << what;
      ASSERT_EQ (got[i].length, there[i].length) << what;
    }
  }
  if (all.size () <= TokenIndex::kMaxMatches) {
    ASSERT_EQ (static_cast<size_t> (found.count), all.size ()) << what;
  }
}

} // namespace

// --- occurrences ----------------------------------------------------------------------------------

TEST (TokenIndex, finds_what_a_search_of_everything_finds)
{
  size_t found = 0;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    std::mt19937_64 random (seed);
    TokenIndex index;
    Tokens history;
    const uint64_t vocab = std::array<uint64_t, 5>{1, 2, 5, 40, 100'000}[seed % 5];
    const size_t length = 1 + random () % (seed % 10 == 0 ? 5'000 : 600);
    Tokens phrase = random_text (random, 40, vocab);
    while (history.size () < length) {
      // Random tokens, and pieces of a phrase, so that long matches occur.
      if (random () % 3 == 0) {
        const size_t from = random () % phrase.size (), to = from + random () % (phrase.size () - from);
        for (size_t i = from; i <= to; ++i) {
          history.push_back (phrase[i]);
          index.append (phrase[i]);
        }
      } else if (random () % 50 == 0) {
        history.push_back (TokenIndex::kBorder);
        index.border ();
      } else {
        history.push_back (static_cast<TokenId> (random () % vocab));
        index.append (history.back ());
      }
      if (random () % 4)
        continue;
      Tokens tail (history.end () -
                       static_cast<std::ptrdiff_t> (std::min<size_t> (history.size (), random () % 50)),
                   history.end ());
      tail.erase (tail.begin (), std::find (tail.rbegin (), tail.rend (), TokenIndex::kBorder).base ());
      for (uint64_t i = random () % 4; i > 0; --i) // guesses behind it
        tail.push_back (static_cast<TokenId> (random () % vocab));
      const int shortest = 1 + static_cast<int> (random () % 8);
      const auto matches = index.find (tail, shortest);
      found += static_cast<size_t> (matches.count);
      ASSERT_NO_FATAL_FAILURE (
          compare (matches, all_matches (history, 0, 0, tail, shortest), "seed " + std::to_string (seed)));
    }
  }
  EXPECT_GT (found, 20'000u);
}

TEST (TokenIndex, forgets_and_goes_round_and_its_positions_too)
{
  size_t found = 0;
  for (uint64_t seed = 0; seed < 12; ++seed) {
    std::mt19937_64 random (seed);
    const uint32_t first = seed % 2 ? UINT32_MAX - static_cast<uint32_t> (random () % 3'000) : 0;
    TokenIndex index (1'000, first);
    ASSERT_EQ (index.capacity (), 1'024u);
    Tokens history;
    size_t forgotten = 0;
    const uint64_t vocab = seed % 3 ? 30 : 4;
    for (int i = 0; i < 6'000; ++i) {
      if (index.size () == index.capacity () || (index.size () > 0 && random () % 100 == 0)) {
        const size_t count = 1 + random () % std::min<size_t> (index.size (), 300);
        index.forget (count);
        forgotten += count;
      }
      if (random () % 40 == 0) {
        index.border ();
        history.push_back (TokenIndex::kBorder);
      } else {
        history.push_back (static_cast<TokenId> (random () % vocab));
        index.append (history.back ());
      }
      if (i % 7)
        continue;
      const Tokens tail = random_text (random, 1 + random () % 12, vocab);
      const auto matches = index.find (tail, 1);
      found += static_cast<size_t> (matches.count);
      ASSERT_NO_FATAL_FAILURE (compare (matches, all_matches (history, forgotten, first, tail, 1),
                                        "seed " + std::to_string (seed)));
    }
    EXPECT_EQ (index.end () - first, history.size ());
    EXPECT_LE (index.bytes (), 1'024 * 36 + 1'024);
  }
  EXPECT_GT (found, 10'000u);
}

TEST (TokenIndex, a_cleared_one_is_empty_and_gives_memory_back)
{
  TokenIndex index;
  std::mt19937_64 random (2);
  const Tokens text = random_text (random, 50'000, 100);
  for (const TokenId token : text)
    index.append (token);
  EXPECT_GT (index.find (text, 2).count, 0);
  EXPECT_GT (index.bytes (), 1'000'000u);
  index.clear (10);
  EXPECT_EQ (index.size (), 0u);
  EXPECT_EQ (index.find (text, 2).count, 0);
  EXPECT_LE (index.bytes (), 32u << 10);
  for (int i = 0; i < 6; ++i)
    index.append (i % 3);
  EXPECT_EQ (index.find (Tokens{0, 1, 2}, 2).count, 1);
}

TEST (TokenIndex, hostile_texts_cost_work_within_bounds)
{
  std::mt19937_64 random (3);
  Tokens almost; // long contexts that differ only at the far end
  for (TokenId i = 0; i < 3'000; ++i) {
    almost.push_back (100 + i);
    almost.insert (almost.end (), 31, 5);
  }
  const std::vector<std::pair<const char *, Tokens>> texts = {
      {"one token", Tokens (100'000, 7)},
      {"two tokens", random_text (random, 100'000, 2)},
      {"far ends", almost},
      {"never the same", counting_from (0, 100'000)}};
  for (const auto &[name, text] : texts) {
    TokenIndex index;
    uint64_t most = 0;
    for (size_t i = 0; i < text.size (); ++i) {
      index.append (text[i]);
      if (i % 16)
        continue;
      const uint64_t before = index.work ();
      const size_t from = i > 40 ? i - 40 : 0;
      index.find (std::span (text).subspan (from, i + 1 - from), 2);
      most = std::max (most, index.work () - before);
    }
    // Three walks of 64 occurrences, 32 tokens each.
    EXPECT_LE (most, 3u * 64 * 33) << name;
  }
}

// --- votes ----------------------------------------------------------------------------------------

namespace
{

/// The chain of those matches that have at least `least` tokens in common, from the definition.
Chain
elect (const Tokens &history, const std::vector<TokenIndex::Match> &matches, int least, Tokens ahead,
       int most, bool goes_on)
{
  std::vector<TokenIndex::Match> voters;
  int shortest = TokenIndex::kLongestMatch;
  for (const auto &match : matches) {
    if (match.length >= least) {
      voters.push_back (match);
      shortest = std::min (shortest, match.length);
    }
  }
  Chain chain;
  double chance = 1;
  Tokens all = history;
  all.insert (all.end (), ahead.begin (), ahead.end ());
  for (size_t depth = 0; depth < static_cast<size_t> (most); ++depth) {
    std::map<TokenId, std::vector<TokenIndex::Match>> votes;
    int voting = 0;
    for (const auto &voter : voters) {
      const size_t at = voter.next + depth;
      if (at >= (goes_on ? all.size () : history.size ()) || all[at] == TokenIndex::kBorder)
        continue;
      votes[all[at]].push_back (voter);
      ++voting;
    }
    const std::vector<TokenIndex::Match> *winners = nullptr;
    TokenId winner = 0;
    const auto latest = [] (const auto &those) {
      return std::ranges::max (those, {}, &TokenIndex::Match::next).next;
    };
    for (const auto &[token, those] : votes) {
      if (!winners || those.size () > winners->size () ||
          (those.size () == winners->size () && latest (those) > latest (*winners))) {
        winners = &those;
        winner = token;
      }
    }
    if (!winners)
      break;
    const double length = shortest + static_cast<double> (depth);
    const double belief = static_cast<double> (winners->size ()) / (voting + kDoubt / length);
    if (belief < 0.1)
      break;
    chain.tokens[depth] = winner;
    chain.probability[depth] = static_cast<float> (belief);
    chain.expected += chance *= belief;
    ++chain.count;
    all.push_back (winner);
    voters = *winners;
  }
  return chain;
}

} // namespace

TEST (Vote, elects_as_its_definition_says)
{
  size_t elected = 0;
  for (uint64_t seed = 0; seed < 400; ++seed) {
    std::mt19937_64 random (seed);
    const uint64_t vocab = 2 + random () % 12;
    const Tokens history = random_text (random, 20 + random () % 400, vocab);
    TokenIndex index;
    for (const TokenId token : history)
      index.append (token);
    const bool goes_on = seed % 3 != 0;
    const Tokens drafted = random_text (random, goes_on ? random () % 6 : 0, vocab);
    const int most = 1 + static_cast<int> (random () % kMaxDraft);
    Tokens tail (history.end () - 20, history.end ());
    tail.insert (tail.end (), drafted.begin (), drafted.end ());
    const auto matches = index.find (tail, 1);
    const Chain chain = vote (index, matches, {.goes_on = goes_on, .drafted = drafted}, most, kDoubt);

    const std::vector<TokenIndex::Match> all (matches.span ().begin (), matches.span ().end ());
    Chain best;
    for (const int least : {32, 24, 16, 12, 8, 6, 4, 3, 2, 1}) {
      if (std::ranges::none_of (all, [&] (const auto &match) { return match.length >= least; }))
        continue;
      const Chain candidate = elect (history, all, least, drafted, most, goes_on);
      if (candidate.expected > best.expected)
        best = candidate;
    }
    ASSERT_EQ (chain.count, best.count) << "seed " << seed;
    for (size_t i = 0; i < static_cast<size_t> (best.count); ++i) {
      ASSERT_EQ (chain.tokens[i], best.tokens[i]) << "seed " << seed << " at " << i;
      ASSERT_FLOAT_EQ (chain.probability[i], best.probability[i]) << "seed " << seed << " at " << i;
    }
    if (chain.count > 0) {
      ASSERT_EQ (history[chain.from], chain.tokens[0]);
    }
    elected += static_cast<size_t> (chain.count);
  }
  EXPECT_GT (elected, 1'000u);
}

// --- the drafter ----------------------------------------------------------------------------------

TEST (SuffixDrafter, copies_what_followed)
{
  const Draft draft = draft_after ({1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 1, 2, 3});
  EXPECT_EQ (guesses (draft), counting_from (4, 19)) << "fifteen tokens";
  EXPECT_EQ (draft.source[0], DraftSource::kSuffix);
}

TEST (SuffixDrafter, believes_long_matches_more_than_short_ones)
{
  float before = 0;
  for (TokenId common = 2; common <= 32; ++common) {
    const Tokens shared = counting_from (100, 100 + common);
    const Draft draft = draft_after (joined ({{1}, shared, {50, 2}, shared}));
    ASSERT_GE (draft.count, 1) << common;
    EXPECT_EQ (draft.tokens[0], 50);
    EXPECT_GT (draft.probability[0], before);
    before = draft.probability[0];
    if (common == 2) {
      EXPECT_NEAR (before, 0.6, 0.05);
    }
    if (common == 16) {
      EXPECT_GT (before, 0.9);
    }
  }
}

TEST (SuffixDrafter, the_longest_match_wins)
{
  // 1 2 was followed by 60 twice, and 7 8 9 1 2 by 50.
  const Draft draft = draft_after ({7, 8, 9, 1, 2, 50, 1, 2, 60, 3, 1, 2, 60, 4, 7, 8, 9, 1, 2});
  ASSERT_GE (draft.count, 1);
  EXPECT_EQ (draft.tokens[0], 50);
}

TEST (SuffixDrafter, many_votes_beat_a_slightly_longer_match)
{
  Tokens tokens = {7, 1, 2, 50};
  for (int i = 0; i < 20; ++i)
    tokens.insert (tokens.end (), {1, 2, 60, 61, 62, 63});
  tokens.insert (tokens.end (), {7, 1, 2});
  const Draft draft = draft_after (tokens);
  ASSERT_GE (draft.count, 4);
  EXPECT_EQ (guesses (draft)[0], 60);
  EXPECT_GT (draft.probability[0], 0.8);
}

TEST (SuffixDrafter, the_majority_wins_then_the_latest)
{
  EXPECT_EQ (
      draft_after ({1, 2, 3, 50, 9, 1, 2, 3, 60, 8, 1, 2, 3, 60, 7, 1, 2, 3, 50, 6, 1, 2, 3, 60, 5, 1, 2, 3})
          .tokens[0],
      60);
  EXPECT_EQ (draft_after ({1, 2, 3, 50, 9, 1, 2, 3, 60, 7, 1, 2, 3}).tokens[0], 60) << "the later of two";
}

TEST (SuffixDrafter, a_period_goes_on_past_the_end_of_the_history)
{
  for (TokenId period = 1; period <= 7; ++period) {
    Tokens prompt;
    for (TokenId i = 0; i < 2 * period + 2; ++i)
      prompt.push_back (i % period);
    const Draft draft = draft_after (prompt);
    ASSERT_EQ (draft.count, kMaxDraft) << period;
    for (int i = 0; i < kMaxDraft; ++i)
      EXPECT_EQ (draft.tokens[static_cast<size_t> (i)], (2 * period + 2 + i) % period) << period;
  }
}

TEST (SuffixDrafter, min_match_is_the_shortest_context)
{
  for (int min_match = 1; min_match <= 12; ++min_match) {
    for (int common = 1; common <= 14; ++common) {
      const Tokens shared = counting_from (1, 1 + common);
      const Draft draft = draft_after (joined ({{100}, shared, {200, 300}, shared}), min_match);
      EXPECT_EQ (draft.count > 0, common >= min_match) << min_match << ", " << common << " in common";
    }
  }
}

TEST (SuffixDrafter, an_output_begins_as_predicted_and_goes_on_so_after_a_difference)
{
  SuffixDrafter drafter ({});
  Sequence sequence = make_sequence ({1, 2, 3}, 1'000);
  sequence.request->prediction = counting_from (100, 200);
  const Draft first = draft_of (drafter, sequence);
  EXPECT_EQ (guesses (first), counting_from (100, 115));
  EXPECT_EQ (first.source[0], DraftSource::kPrediction);
  // As predicted but for one line.
  const Tokens output = joined ({counting_from (100, 140), {7, 8, 9}, counting_from (150, 200)});
  EXPECT_LE (steps_to_say (drafter, sequence, output), static_cast<int> (output.size ()) / 16 + 3 + 4);
  EXPECT_TRUE (guesses (drafter, sequence).empty ()) << "it ended there";
}

TEST (SuffixDrafter, a_prediction_is_guessed_from_its_beginning_only_at_the_beginning)
{
  SuffixDrafter drafter ({});
  Sequence sequence = make_sequence ({1, 2, 3}, 1'000);
  sequence.request->prediction = counting_from (100, 200);
  sequence.tokens.push_back (50);
  EXPECT_TRUE (guesses (drafter, sequence).empty ());
  Sequence known = make_sequence ({1, 2, 3, 4, 5, 6, 1, 2, 3}, 1'000, 1);
  known.request->prediction = counting_from (100, 200);
  EXPECT_EQ (draft_of (drafter, known).tokens[0], 4) << "there is a match";
}

TEST (SuffixDrafter, matches_do_not_run_from_the_prediction_into_the_prompt)
{
  SuffixDrafter drafter ({.min_match = 2});
  Sequence sequence = make_sequence ({3, 4, 60, 61, 62}, 1'000);
  sequence.request->prediction = {8, 1, 2};
  sequence.tokens.insert (sequence.tokens.end (), {8, 1, 2});
  EXPECT_TRUE (guesses (drafter, sequence).empty ()) << "3 does not follow 2";
  sequence.tokens.insert (sequence.tokens.end (), {70, 2, 3});
  EXPECT_TRUE (guesses (drafter, sequence).empty ()) << "2 3 never occurred";
}

TEST (SuffixDrafter, a_prediction_is_trusted_more_than_the_prompt)
{
  SuffixDrafter drafter ({});
  Sequence sequence = make_sequence ({1, 2, 50, 51, 52, 9, 9, 9}, 1'000);
  sequence.request->prediction = {1, 2, 60, 61, 62, 63, 64, 65};
  sequence.tokens.insert (sequence.tokens.end (), {1, 2});
  const Draft draft = draft_of (drafter, sequence);
  EXPECT_EQ (guesses (draft), (Tokens{60, 61, 62, 63, 64, 65}));
  EXPECT_EQ (draft.source[0], DraftSource::kPrediction);
}

namespace
{

/// Makes the same guesses whatever is asked.
class FixedDrafter : public Drafter
{
public:
  explicit FixedDrafter (Tokens tokens)
      : tokens_ (std::move (tokens))
  {
  }
  void draft (Step &step) override
  {
    for (Row &row : step.rows) {
      Draft draft;
      for (const TokenId token : tokens_)
        draft.push (token, 0.9F, DraftSource::kModel);
      step.drafting->offer (row, draft, DraftGate::kCost);
    }
  }
  void clear () override {}

private:
  Tokens tokens_;
};

} // namespace

TEST (SuffixDrafter, goes_on_where_another_drafter_ends)
{
  FixedDrafter other ({5, 6, 7});
  SuffixDrafter drafter ({});
  Sequence sequence = make_sequence (joined ({counting_from (1, 12), {300, 301}}), 1'000);
  DraftController controller;
  Step step;
  step.drafting = &controller;
  step.rows.push_back (make_row (sequence));
  other.draft (step);
  drafter.draft (step);
  const Draft &draft = step.rows[0].draft;
  ASSERT_GE (draft.count, 7);
  EXPECT_EQ (Tokens (draft.tokens.begin (), draft.tokens.begin () + 7), (Tokens{5, 6, 7, 8, 9, 10, 11}));
  EXPECT_EQ (draft.source[2], DraftSource::kModel);
  EXPECT_EQ (draft.source[3], DraftSource::kSuffix);
}

TEST (SuffixDrafter, a_guess_of_another_drafter_can_close_a_period)
{
  // Nothing known follows 41, but with 1 2 behind it the draft itself is what is repeated.
  FixedDrafter other ({1, 2, 3, 1, 2, 3});
  SuffixDrafter drafter ({});
  Sequence sequence = make_sequence ({40, 1, 2, 3, 41}, 1'000);
  DraftController controller;
  Step step;
  step.drafting = &controller;
  step.rows.push_back (make_row (sequence));
  other.draft (step);
  drafter.draft (step);
  const Draft &draft = step.rows[0].draft;
  ASSERT_GT (draft.count, 6);
  EXPECT_EQ (draft.tokens[6], 41) << "what followed 1 2 3 in the history";
}
