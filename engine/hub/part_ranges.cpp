#include "engine/hub/part_ranges.hpp"

#include <algorithm>
#include <charconv>

namespace millrace
{

namespace
{

constexpr std::string_view kMagic = "millrace-part 1", kSize = "size ", kDigest = "digest ", kTag = "tag ",
                           kHave = "have ";
constexpr size_t kMostTag = 1024;

/// Takes the first line off; false when there is none.
bool
next_line (std::string_view &text, std::string_view &line)
{
  const size_t end = text.find ('\n');
  if (end == std::string_view::npos)
    return false;
  line = text.substr (0, end);
  text.remove_prefix (end + 1);
  return true;
}

bool
take_number (std::string_view &text, uint64_t &value)
{
  const auto result = std::from_chars (text.data (), text.data () + text.size (), value);
  text.remove_prefix (static_cast<size_t> (result.ptr - text.data ()));
  return result.ec == std::errc ();
}

/// "0 512"
std::optional<ByteRange>
parse_range (std::string_view text, uint64_t size)
{
  ByteRange range;
  if (!take_number (text, range.begin) || !text.starts_with (' '))
    return std::nullopt;
  text.remove_prefix (1);
  if (!take_number (text, range.end) || !text.empty () || range.begin >= range.end || range.end > size)
    return std::nullopt;
  return range;
}

} // namespace

void
PartRanges::add (const ByteRange &range)
{
  if (range.begin >= range.end)
    return;
  ByteRange merged = range;
  const auto first = std::ranges::find_if (have_, [&] (const ByteRange &r) { return r.end >= range.begin; });
  auto last = first;
  for (; last != have_.end () && last->begin <= range.end; ++last)
    merged = {std::min (merged.begin, last->begin), std::max (merged.end, last->end)};
  have_.insert (have_.erase (first, last), merged);
}

uint64_t
PartRanges::bytes () const
{
  uint64_t sum = 0;
  for (const ByteRange &range : have_)
    sum += range.bytes ();
  return sum;
}

std::vector<ByteRange>
PartRanges::missing (uint64_t most) const
{
  std::vector<ByteRange> ranges;
  const auto gap = [&] (uint64_t begin, uint64_t end) {
    for (; begin < end; begin += std::min (most, end - begin))
      ranges.push_back ({begin, begin + std::min (most, end - begin)});
  };
  uint64_t at = 0;
  for (const ByteRange &range : have_) {
    gap (at, range.begin);
    at = range.end;
  }
  gap (at, size_);
  return ranges;
}

std::string
PartRanges::text () const
{
  std::string text = std::string (kMagic) + "\n" + std::string (kSize) + std::to_string (size_) + "\n" +
                     std::string (kDigest) + digest_ + "\n";
  if (!tag.empty () && tag.size () <= kMostTag && tag.find ('\n') == std::string::npos)
    text += std::string (kTag) + tag + "\n";
  for (const ByteRange &range : have_)
    text += std::string (kHave) + std::to_string (range.begin) + " " + std::to_string (range.end) + "\n";
  return text;
}

std::optional<PartRanges>
PartRanges::parse (std::string_view text, uint64_t size, const std::string &digest)
{
  PartRanges ranges (size, digest);
  std::string_view line;
  for (const std::string &expected :
       {std::string (kMagic), std::string (kSize) + std::to_string (size), std::string (kDigest) + digest})
    if (!next_line (text, line) || line != expected)
      return std::nullopt;
  while (!text.empty ()) {
    if (!next_line (text, line))
      return std::nullopt;
    if (line.starts_with (kTag)) {
      ranges.tag = line.substr (kTag.size ());
      continue;
    }
    const auto range =
        line.starts_with (kHave) ? parse_range (line.substr (kHave.size ()), size) : std::nullopt;
    if (!range)
      return std::nullopt;
    ranges.add (*range);
  }
  return ranges;
}

} // namespace millrace
