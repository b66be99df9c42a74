#include "engine/drafting/draft_statistics.hpp"

namespace millrace
{

const char *
draft_source_name (DraftSource source)
{
  switch (source) {
  case DraftSource::kNgram:
    return "ngram";
  case DraftSource::kSuffix:
    return "suffix";
  case DraftSource::kPrediction:
    return "prediction";
  case DraftSource::kStore:
    return "store";
  case DraftSource::kModel:
    break;
  }
  return "model";
}

void
DraftStatistics::add (const DraftStatistics &other)
{
  attempts += other.attempts;
  drafted += other.drafted;
  accepted += other.accepted;
  full_accepts += other.full_accepts;
  for (size_t i = 0; i < accepted_at.size (); i++)
    accepted_at[i] += other.accepted_at[i];
  for (size_t i = 0; i < accepted_by.size (); i++)
    accepted_by[i] += other.accepted_by[i];
  pauses += other.pauses;
  drafting_us += other.drafting_us;
  verifying_us += other.verifying_us;
  saved_us += other.saved_us;
}

} // namespace millrace
