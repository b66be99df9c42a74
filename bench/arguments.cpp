#include "bench/arguments.hpp"

#include <array>
#include <charconv>
#include <stdexcept>
#include <utility>

namespace millrace::bench
{

namespace
{

constexpr std::array<std::pair<std::string_view, WeightFormat>, 6> kWeightFormats{
    {{"auto", WeightFormat::kAuto},
     {"f32", WeightFormat::kF32},
     {"f16", WeightFormat::kF16},
     {"bf16", WeightFormat::kBF16},
     {"int8", WeightFormat::kInt8},
     {"int4", WeightFormat::kInt4}}};

} // namespace

std::vector<std::string>
parts (std::string_view list)
{
  std::vector<std::string> parts;
  while (true) {
    const size_t comma = list.find (',');
    parts.emplace_back (list.substr (0, comma));
    if (comma == list.npos)
      return parts;
    list.remove_prefix (comma + 1);
  }
}

int
parse_number (std::string_view flag, std::string_view text, int least, int most)
{
  int number = 0;
  const auto [end, error] = std::from_chars (text.data (), text.data () + text.size (), number);
  if (error != std::errc () || end != text.data () + text.size () || number < least || number > most)
    throw std::invalid_argument (std::string (flag) + ": \"" + std::string (text) +
                                 "\" is not a number from " + std::to_string (least) + " to " +
                                 std::to_string (most));
  return number;
}

std::vector<int>
parse_numbers (std::string_view flag, std::string_view list, int least, int most)
{
  std::vector<int> numbers;
  for (const std::string &part : parts (list))
    numbers.push_back (parse_number (flag, part, least, most));
  return numbers;
}

WeightFormat
parse_weights (std::string_view text)
{
  for (const auto &[name, format] : kWeightFormats)
    if (name == text)
      return format;
  throw std::invalid_argument ("unknown weight format \"" + std::string (text) +
                               "\"; known are auto, f32, f16, bf16, int8, int4");
}

KvType
parse_kv_type (std::string_view text)
{
  for (int type = 0; type < kKvTypes; type++)
    if (text == kv_type_name (static_cast<KvType> (type)))
      return static_cast<KvType> (type);
  throw std::invalid_argument ("unknown KV type \"" + std::string (text) +
                               "\"; known are f32, f16, bf16, q8, k8v4");
}

bool
parse_output (std::string_view text)
{
  if (text != "table" && text != "json")
    throw std::invalid_argument ("-o is table or json");
  return text == "json";
}

} // namespace millrace::bench
