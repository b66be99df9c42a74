// The header of one safetensors file.
//
// File: u64 little-endian header length, JSON object, data section. Each value of the object has dtype, shape
// and data_offsets [begin, end) relative to the data section; "__metadata__" is a map of strings. The
// offsets are untrusted: they are checked one by one and then, sorted, as a gapless cover of the section.
#include "engine/weights/safetensors_header.hpp"

#include "engine/error.hpp"

#include <algorithm>
#include <array>
#include <simdjson.h>

namespace dom = simdjson::dom;

namespace millrace
{

namespace
{

constexpr size_t kLengthBytes = 8;
constexpr uint64_t kMaxHeaderBytes = 100'000'000; // the format's own limit
constexpr size_t kMaxRank = 16;
constexpr const char *kDamaged = "; the file is damaged, fetch it again";

class HeaderParser
{
public:
  HeaderParser (const std::filesystem::path &file, std::span<const std::byte> bytes)
      : file_ (file)
      , bytes_ (bytes)
  {
  }
  std::vector<TensorEntry> parse ();

private:
  [[noreturn]] void fail (std::string_view field, const std::string &problem) const;
  std::string_view header_text ();
  void check_metadata (const dom::element &metadata) const;
  TensorEntry entry (std::string_view name, const dom::element &value) const;
  Shape shape (std::string_view name, const dom::element &value) const;
  std::span<const std::byte> range (std::string_view name, const dom::element &value) const;
  void check_size (const TensorEntry &entry) const;
  void check_cover (std::vector<TensorEntry> &entries) const;

  std::filesystem::path file_;
  std::span<const std::byte> bytes_;
  std::span<const std::byte> data_;
};

std::optional<DType>
dtype_of (std::string_view name)
{
  for (auto i = 0; i < kDTypes; ++i) {
    const auto dtype = static_cast<DType> (i);
    if (!is_block_type (dtype) && dtype_name (dtype) == name)
      return dtype;
  }
  return std::nullopt;
}

void
HeaderParser::fail (std::string_view field, const std::string &problem) const
{
  throw LoadError (file_, printable (field), problem);
}

std::vector<TensorEntry>
HeaderParser::parse ()
{
  const std::string_view text = header_text ();
  dom::parser parser;
  dom::element root;
  if (const auto error = parser.parse (text.data (), text.size ()).get (root))
    fail ("header", std::string ("is not valid JSON (") + simdjson::error_message (error) + ")" + kDamaged);
  dom::object object;
  if (root.get (object))
    fail ("header", std::string ("is not a JSON object") + kDamaged);

  std::vector<TensorEntry> entries;
  for (const auto [name, value] : object) {
    if (name == "__metadata__")
      check_metadata (value);
    else
      entries.push_back (entry (name, value));
  }
  check_cover (entries);
  return entries;
}

std::string_view
HeaderParser::header_text ()
{
  static constexpr std::string_view kLfsPointer = "version https://git-lfs";
  const std::string_view all (reinterpret_cast<const char *> (bytes_.data ()), bytes_.size ());
  if (all.starts_with (kLfsPointer))
    fail ("", "is a Git LFS pointer, not the weights; run `git lfs pull` in its repository");
  if (bytes_.size () < kLengthBytes)
    fail ("header length", "the file has " + std::to_string (bytes_.size ()) +
                               " bytes, too short for a safetensors file" + kDamaged);
  uint64_t length = 0;
  for (size_t i = 0; i < kLengthBytes; ++i)
    length |= static_cast<uint64_t> (bytes_[i]) << (8 * i);
  if (length > kMaxHeaderBytes)
    fail ("header length", std::to_string (length) + " is above the format's limit of " +
                               std::to_string (kMaxHeaderBytes) + "; is this a safetensors file?");
  if (length > bytes_.size () - kLengthBytes)
    fail ("header length", std::to_string (length) + " exceeds the " + std::to_string (bytes_.size ()) +
                               " bytes of the file" + kDamaged);
  data_ = bytes_.subspan (kLengthBytes + static_cast<size_t> (length));
  const std::string_view text = all.substr (kLengthBytes, static_cast<size_t> (length));
  if (!text.starts_with ('{'))
    fail ("header", "does not begin with '{'; is this a safetensors file?");
  return text;
}

void
HeaderParser::check_metadata (const dom::element &metadata) const
{
  dom::object object;
  if (metadata.get (object))
    fail ("__metadata__", std::string ("is not an object") + kDamaged);
  for (const auto [key, value] : object)
    if (!value.is_string ())
      fail ("__metadata__", "\"" + printable (key) + "\" is not a string" + kDamaged);
}

TensorEntry
HeaderParser::entry (std::string_view name, const dom::element &value) const
{
  dom::object object;
  if (value.get (object))
    fail (name, std::string ("is not an object") + kDamaged);
  TensorEntry entry;
  entry.name = name;
  int dtypes = 0;
  int shapes = 0;
  int ranges = 0;
  for (const auto [key, field] : object) {
    if (key == "dtype") {
      std::string_view dtype;
      if (field.get (dtype))
        fail (name, std::string ("dtype is not a string") + kDamaged);
      entry.dtype_name = printable (dtype);
      entry.dtype = dtype_of (dtype);
      ++dtypes;
    } else if (key == "shape") {
      entry.shape = shape (name, field);
      ++shapes;
    } else if (key == "data_offsets") {
      entry.data = range (name, field);
      ++ranges;
    }
  }
  const std::array<std::pair<int, const char *>, 3> fields{
      {{dtypes, "dtype"}, {shapes, "shape"}, {ranges, "data_offsets"}}};
  for (const auto &[count, field] : fields)
    if (count != 1)
      fail (name, std::string (field) + (count ? " is given twice" : " is missing") + kDamaged);
  check_size (entry);
  return entry;
}

Shape
HeaderParser::shape (std::string_view name, const dom::element &value) const
{
  dom::array array;
  if (value.get (array))
    fail (name, std::string ("shape is not an array") + kDamaged);
  Shape shape;
  for (const dom::element dimension : array) {
    int64_t size = 0;
    if (dimension.get (size) || size < 0)
      fail (name, "shape[" + std::to_string (shape.size ()) + "] is not a non-negative integer" + kDamaged);
    if (shape.size () == kMaxRank)
      fail (name, "shape has more than " + std::to_string (kMaxRank) + " dimensions" + kDamaged);
    shape.push_back (size);
  }
  return shape;
}

std::span<const std::byte>
HeaderParser::range (std::string_view name, const dom::element &value) const
{
  dom::array array;
  if (value.get (array) || array.size () != 2)
    fail (name, std::string ("data_offsets is not an array of two offsets") + kDamaged);
  uint64_t begin = 0;
  uint64_t end = 0;
  if (array.at (0).get (begin) || array.at (1).get (end))
    fail (name, std::string ("data_offsets holds something else than non-negative integers") + kDamaged);
  const std::string text = "data_offsets [" + std::to_string (begin) + ", " + std::to_string (end) + "]";
  if (begin > end)
    fail (name, text + " end before they begin" + kDamaged);
  if (end > data_.size ())
    fail (name, text + " reach beyond the " + std::to_string (data_.size ()) +
                    " bytes of the data section; the file is cut short, fetch it again");
  return data_.subspan (static_cast<size_t> (begin), static_cast<size_t> (end - begin));
}

/// The byte range is shape × dtype; without the dtype's size only the shape's product is checked.
void
HeaderParser::check_size (const TensorEntry &entry) const
{
  int64_t bytes = entry.dtype ? static_cast<int64_t> (dtype_bytes (*entry.dtype)) : 1;
  int64_t elements = 1; // apart: element_count () multiplies in this order and must not overflow either
  for (const int64_t dimension : entry.shape)
    if (__builtin_mul_overflow (bytes, dimension, &bytes) ||
        __builtin_mul_overflow (elements, dimension, &elements))
      fail (entry.name,
            "shape " + to_string (entry.shape) + " has more elements than can be counted" + kDamaged);
  if (entry.dtype && static_cast<uint64_t> (bytes) != entry.data.size ())
    fail (entry.name, "shape " + to_string (entry.shape) + " of " + entry.dtype_name + " needs " +
                          std::to_string (bytes) + " bytes, data_offsets give " +
                          std::to_string (entry.data.size ()) + kDamaged);
}

void
HeaderParser::check_cover (std::vector<TensorEntry> &entries) const
{
  std::sort (entries.begin (), entries.end (),
             [] (const TensorEntry &a, const TensorEntry &b) { return a.name < b.name; });
  for (size_t i = 1; i < entries.size (); ++i)
    if (entries[i].name == entries[i - 1].name)
      fail (entries[i].name, std::string ("is listed twice in the header") + kDamaged);

  const auto begin = [&] (const TensorEntry &entry) { return entry.data.data () - data_.data (); };
  std::sort (entries.begin (), entries.end (), [&] (const TensorEntry &a, const TensorEntry &b) {
    return std::pair (begin (a), a.data.size ()) < std::pair (begin (b), b.data.size ());
  });
  ptrdiff_t expected = 0;
  const TensorEntry *previous = nullptr;
  for (const TensorEntry &entry : entries) {
    const std::string before = previous ? "tensor " + printable (previous->name) : "the section's begin";
    if (begin (entry) < expected)
      fail (entry.name, "data_offsets overlap those of " + before + kDamaged);
    if (begin (entry) > expected)
      fail (entry.name, "data_offsets leave a hole of " + std::to_string (begin (entry) - expected) +
                            " bytes after " + before + kDamaged);
    expected += static_cast<ptrdiff_t> (entry.data.size ());
    previous = &entry;
  }
  if (static_cast<size_t> (expected) != data_.size ())
    fail (previous ? previous->name : "header", "the tensors end at byte " + std::to_string (expected) +
                                                    " of the data section, which has " +
                                                    std::to_string (data_.size ()) + kDamaged);
}

} // namespace

std::vector<TensorEntry>
parse_safetensors (const std::filesystem::path &file, std::span<const std::byte> bytes)
{
  return HeaderParser (file, bytes).parse ();
}

} // namespace millrace
