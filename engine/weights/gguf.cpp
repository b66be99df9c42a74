// The header of a GGUF file.
//
// File: magic, version, count of tensors, count of metadata; key, type and value of each; name, dimensions, type and
// offset of each tensor; padding; data section. A cursor walks over the bytes and is the only one that reads them.
#include "engine/weights/gguf.hpp"

#include "engine/error.hpp"

#include <algorithm>
#include <bit>
#include <set>
#include <utility>

namespace millrace
{

namespace
{

constexpr uint64_t kMaxAlignment = 1 << 20;
constexpr size_t kMaxNameBytes = 65535;             // keys: the specification's limit
constexpr size_t kLeastMetadataBytes = 8 + 4 + 1;   // key length, type, value
constexpr size_t kLeastTensorBytes = 8 + 4 + 4 + 8; // name length, rank, type, offset
constexpr const char *kAlignmentKey = "general.alignment";
constexpr const char *kDamaged = "; the file is damaged, fetch it again";
constexpr const char *kCutShort = "; the file is cut short, fetch it again";

class HeaderParser
{
public:
  HeaderParser (const std::filesystem::path &file, std::span<const std::byte> bytes)
      : file_ (file)
      , bytes_ (bytes)
  {
  }
  GgufHeader parse ();

private:
  struct Range {
    uint64_t begin = 0, end = 0;
    size_t tensor = 0;
  };

  [[noreturn]] void fail (std::string_view field, const std::string &problem) const;
  size_t left () const { return bytes_.size () - at_; }
  std::span<const std::byte> take (uint64_t count, std::string_view field);
  template <typename T>
  T number (std::string_view field);
  std::string_view text (std::string_view field);
  uint64_t count_of (std::string_view field, size_t least_bytes);
  void read_start ();
  void read_metadata (GgufMetadata &metadata);
  GgufType type (std::string_view key);
  GgufValue value (std::string_view key);
  GgufValue scalar (std::string_view key, GgufType type);
  void read_array (std::string_view key, GgufValue &value);
  void check_booleans (std::string_view key, std::span<const std::byte> bytes) const;
  uint64_t alignment (const GgufMetadata &metadata) const;
  TensorEntry tensor ();
  void place_data (std::vector<TensorEntry> &tensors, uint64_t alignment) const;
  uint64_t byte_count (const TensorEntry &entry, const DTypeBlock &block) const;

  std::filesystem::path file_;
  std::span<const std::byte> bytes_;
  size_t at_ = 0;
  uint32_t version_ = 0;
  uint64_t tensor_count_ = 0, metadata_count_ = 0;
  std::vector<std::pair<const GgufTensorType *, uint64_t>>
      places_; ///< type (or null) and offset of each tensor
};

uint64_t
little_endian (std::span<const std::byte> bytes)
{
  uint64_t value = 0;
  for (size_t i = 0; i < bytes.size (); ++i)
    value |= static_cast<uint64_t> (bytes[i]) << (8 * i);
  return value;
}

void
HeaderParser::fail (std::string_view field, const std::string &problem) const
{
  throw LoadError (file_, printable (field), problem);
}

std::span<const std::byte>
HeaderParser::take (uint64_t count, std::string_view field)
{
  if (count > left ())
    fail (field, std::to_string (count) + " bytes are needed at byte " + std::to_string (at_) + " of " +
                     std::to_string (bytes_.size ()) + kCutShort);
  const auto taken = bytes_.subspan (at_, static_cast<size_t> (count));
  at_ += static_cast<size_t> (count);
  return taken;
}

template <typename T>
T
HeaderParser::number (std::string_view field)
{
  return static_cast<T> (little_endian (take (sizeof (T), field)));
}

std::string_view
HeaderParser::text (std::string_view field)
{
  const auto bytes = take (number<uint64_t> (field), field);
  return {reinterpret_cast<const char *> (bytes.data ()), bytes.size ()};
}

/// How many there are of something that has at least `least_bytes` in the file.
uint64_t
HeaderParser::count_of (std::string_view field, size_t least_bytes)
{
  const auto count = number<uint64_t> (field);
  if (count > left () / least_bytes)
    fail (field, std::to_string (count) + " entries do not fit in the " + std::to_string (left ()) +
                     " bytes that are left" + kCutShort);
  return count;
}

GgufHeader
HeaderParser::parse ()
{
  GgufHeader header;
  read_start ();
  header.version = version_;
  read_metadata (header.metadata);
  header.tensors.reserve (static_cast<size_t> (tensor_count_));
  std::set<std::string_view> names;
  for (uint64_t i = 0; i < tensor_count_; ++i) {
    header.tensors.push_back (tensor ());
    if (!names.insert (header.tensors.back ().name).second) // of a string that reserve () keeps in its place
      fail (header.tensors.back ().name, std::string ("is listed twice in the header") + kDamaged);
  }
  place_data (header.tensors, alignment (header.metadata));
  return header;
}

void
HeaderParser::read_start ()
{
  static constexpr std::string_view kLfsPointer = "version https://git-lfs";
  if (std::string_view (reinterpret_cast<const char *> (bytes_.data ()), bytes_.size ())
          .starts_with (kLfsPointer))
    fail ("", "is a Git LFS pointer, not the weights; run `git lfs pull` in its repository");
  if (number<uint32_t> ("magic") != kGgufMagic)
    fail ("magic", "the file does not begin with \"GGUF\"; is this a GGUF file?");
  version_ = number<uint32_t> ("version");
  if (version_ != 0 && (version_ & 0xffff) == 0)
    fail ("version", "the file is big-endian, which is not supported; fetch the little-endian one");
  if (version_ != 2 && version_ != 3)
    fail ("version", std::to_string (version_) +
                         " is not supported, 2 and 3 are; convert the model again with a current converter");
  tensor_count_ = count_of ("tensor count", kLeastTensorBytes);
  metadata_count_ = count_of ("metadata count", kLeastMetadataBytes);
}

void
HeaderParser::read_metadata (GgufMetadata &metadata)
{
  for (uint64_t i = 0; i < metadata_count_; ++i) {
    const std::string_view key = text ("metadata key " + std::to_string (i));
    if (key.empty () || key.size () > kMaxNameBytes)
      fail ("metadata key " + std::to_string (i), "has " + std::to_string (key.size ()) +
                                                      " bytes, expected 1 to " +
                                                      std::to_string (kMaxNameBytes) + kDamaged);
    if (!metadata.emplace (key, value (key)).second)
      fail (key, std::string ("is given twice") + kDamaged);
  }
}

GgufType
HeaderParser::type (std::string_view key)
{
  const auto type = number<uint32_t> (key);
  if (type >= kGgufTypes)
    fail (key, "has the unknown type " + std::to_string (type) + kDamaged);
  return static_cast<GgufType> (type);
}

GgufValue
HeaderParser::value (std::string_view key)
{
  const GgufType of = type (key);
  if (of != GgufType::kArray)
    return scalar (key, of);
  GgufValue value;
  value.type = of;
  read_array (key, value);
  return value;
}

GgufValue
HeaderParser::scalar (std::string_view key, GgufType type)
{
  GgufValue value;
  value.type = type;
  if (type == GgufType::kString) {
    value.text = text (key);
    return value;
  }
  value.bytes = take (gguf_type_bytes (type), key);
  if (type == GgufType::kBool)
    check_booleans (key, value.bytes);
  return value;
}

void
HeaderParser::read_array (std::string_view key, GgufValue &value)
{
  value.element = type (key);
  if (value.element == GgufType::kArray)
    fail (key, "is an array of arrays, which is not supported; remove the key from the file");
  value.count = count_of (key, gguf_type_bytes (value.element));
  if (value.element == GgufType::kString) {
    value.texts.reserve (static_cast<size_t> (value.count));
    for (uint64_t i = 0; i < value.count; ++i)
      value.texts.push_back (text (key));
    return;
  }
  value.bytes = take (value.count * gguf_type_bytes (value.element), key);
  if (value.element == GgufType::kBool)
    check_booleans (key, value.bytes);
}

void
HeaderParser::check_booleans (std::string_view key, std::span<const std::byte> bytes) const
{
  for (const std::byte byte : bytes)
    if (std::to_integer<int> (byte) > 1)
      fail (key, "is " + std::to_string (std::to_integer<int> (byte)) + ", expected 0 or 1 as it is a bool" +
                     kDamaged);
}

uint64_t
HeaderParser::alignment (const GgufMetadata &metadata) const
{
  const auto found = metadata.find (kAlignmentKey);
  if (found == metadata.end ())
    return kGgufDefaultAlignment;
  if (found->second.type != GgufType::kUint32)
    fail (kAlignmentKey,
          "is of type " + std::string (gguf_type_name (found->second.type)) + ", expected uint32" + kDamaged);
  const uint64_t alignment = little_endian (found->second.bytes);
  if (!std::has_single_bit (alignment) || alignment > kMaxAlignment)
    fail (kAlignmentKey, "is " + std::to_string (alignment) + ", expected a power of two up to " +
                             std::to_string (kMaxAlignment) + kDamaged);
  return alignment;
}

TensorEntry
HeaderParser::tensor ()
{
  TensorEntry entry;
  entry.name = text ("name of tensor " + std::to_string (places_.size ()));
  if (entry.name.empty () || entry.name.size () > kMaxNameBytes)
    fail ("name of tensor " + std::to_string (places_.size ()),
          "has " + std::to_string (entry.name.size ()) + " bytes, expected 1 to " +
              std::to_string (kMaxNameBytes) + kDamaged);
  const auto rank = number<uint32_t> (entry.name);
  if (rank > kGgufMaxRank)
    fail (entry.name, "has " + std::to_string (rank) + " dimensions, expected at most " +
                          std::to_string (kGgufMaxRank) + kDamaged);
  for (uint32_t i = 0; i < rank; ++i) {
    const auto size = number<uint64_t> (entry.name);
    if (size > INT64_MAX)
      fail (entry.name, "has a dimension of " + std::to_string (size) + kDamaged);
    entry.shape.insert (entry.shape.begin (),
                        static_cast<int64_t> (size)); // the file's order is innermost first
  }
  const auto id = number<uint32_t> (entry.name);
  const GgufTensorType *type = gguf_tensor_type (id);
  entry.dtype_name = type ? std::string (type->name) : "number " + std::to_string (id);
  if (type)
    entry.dtype = type->dtype;
  places_.emplace_back (type, number<uint64_t> (entry.name));
  return entry;
}

/// Also keeps element_count () from overflowing, which multiplies in this order.
uint64_t
HeaderParser::byte_count (const TensorEntry &entry, const DTypeBlock &block) const
{
  const int64_t row = entry.shape.empty () ? 1 : entry.shape.back ();
  if (row % static_cast<int64_t> (block.elements) != 0)
    fail (entry.name, "rows of " + std::to_string (row) + " elements are no whole blocks of " +
                          std::to_string (block.elements) + ", which " + entry.dtype_name + " has" +
                          kDamaged);
  int64_t elements = 1;
  int64_t bytes = static_cast<int64_t> (block.bytes);
  bool overflow = __builtin_mul_overflow (bytes, row / static_cast<int64_t> (block.elements), &bytes);
  for (size_t i = 0; i < entry.shape.size (); ++i) {
    overflow |= __builtin_mul_overflow (elements, entry.shape[i], &elements);
    if (i + 1 < entry.shape.size ())
      overflow |= __builtin_mul_overflow (bytes, entry.shape[i], &bytes);
  }
  if (overflow)
    fail (entry.name,
          "shape " + to_string (entry.shape) + " has more elements than can be counted" + kDamaged);
  return static_cast<uint64_t> (bytes);
}

void
HeaderParser::place_data (std::vector<TensorEntry> &tensors, uint64_t alignment) const
{
  // A file without tensors may end right after its metadata.
  const uint64_t begin = std::min<uint64_t> ((at_ + alignment - 1) / alignment * alignment, bytes_.size ());
  const auto data = bytes_.subspan (static_cast<size_t> (begin));
  std::vector<Range> ranges;
  ranges.reserve (tensors.size ());
  for (size_t i = 0; i < tensors.size (); ++i) {
    const auto [type, offset] = places_[i];
    const std::string &name = tensors[i].name;
    if (offset % alignment != 0)
      fail (name, "its offset " + std::to_string (offset) + " is not a multiple of the alignment, " +
                      std::to_string (alignment) + kDamaged);
    const uint64_t count = byte_count (tensors[i], type ? type->block : DTypeBlock{1, 0});
    if (offset > data.size () || count > data.size () - offset)
      fail (name, std::to_string (count) + " bytes at offset " + std::to_string (offset) +
                      " reach beyond the " + std::to_string (data.size ()) + " bytes of the data section" +
                      kCutShort);
    tensors[i].data = data.subspan (static_cast<size_t> (offset), static_cast<size_t> (count));
    if (count > 0)
      ranges.push_back ({offset, offset + count, i});
  }
  std::sort (ranges.begin (), ranges.end (),
             [] (const Range &a, const Range &b) { return a.begin < b.begin; });
  for (size_t i = 1; i < ranges.size (); ++i)
    if (ranges[i].begin < ranges[i - 1].end)
      fail (tensors[ranges[i].tensor].name,
            "its data overlap those of " + printable (tensors[ranges[i - 1].tensor].name) + kDamaged);
}

} // namespace

bool
is_gguf (std::span<const std::byte> bytes)
{
  return bytes.size () >= 4 && little_endian (bytes.first (4)) == kGgufMagic;
}

GgufHeader
parse_gguf (const std::filesystem::path &file, std::span<const std::byte> bytes)
{
  return HeaderParser (file, bytes).parse ();
}

} // namespace millrace
