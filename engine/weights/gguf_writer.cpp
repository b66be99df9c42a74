// Writes GGUF files.
//
// Metadata and tensor infos are encoded as they are given, since the header's counts come before both.
#include "engine/weights/gguf_writer.hpp"

#include "engine/weights/gguf.hpp"

#include <bit>
#include <stdexcept>
#include <type_traits>

namespace millrace
{

namespace
{

constexpr uint64_t kAlignment = kGgufDefaultAlignment;

template <typename T>
void
append (std::string &out, T value)
{
  static_assert (std::is_integral_v<T>);
  for (size_t i = 0; i < sizeof value; ++i)
    out += static_cast<char> (static_cast<std::make_unsigned_t<T>> (value) >> (8 * i));
}

void
append (std::string &out, float value)
{
  append (out, std::bit_cast<uint32_t> (value));
}

void
append (std::string &out, double value)
{
  append (out, std::bit_cast<uint64_t> (value));
}

void
append (std::string &out, const std::string &text)
{
  append (out, static_cast<uint64_t> (text.size ()));
  out += text;
}

template <typename T>
void
append_array (std::string &out, GgufType type, const std::vector<T> &values)
{
  append (out, static_cast<uint32_t> (type));
  append (out, static_cast<uint64_t> (values.size ()));
  for (const T &value : values)
    append (out, value);
}

constexpr uint64_t
padding (uint64_t bytes)
{
  return (kAlignment - bytes % kAlignment) % kAlignment;
}

} // namespace

void
GgufLayout::fail (const std::string &problem) const
{
  throw std::runtime_error (file_.string () + ": " + problem);
}

void
GgufLayout::value_header (const std::string &key, uint32_t type)
{
  if (began_)
    fail (key + " is set after the header is written");
  if (key.empty () || !keys_.insert (key).second)
    fail ("the key \"" + key + "\" is empty or set twice");
  append (metadata_, key);
  append (metadata_, type);
}

// The overloads differ in the type alone, which is the point of them.
#define MILLRACE_SET(Type, Name)                                                                             \
  void GgufLayout::set (const std::string &key, Type value)                                                  \
  {                                                                                                          \
    value_header (key, static_cast<uint32_t> (GgufType::Name));                                              \
    append (metadata_, value);                                                                               \
  }
MILLRACE_SET (uint8_t, kUint8)
MILLRACE_SET (int8_t, kInt8)
MILLRACE_SET (uint16_t, kUint16)
MILLRACE_SET (int16_t, kInt16)
MILLRACE_SET (uint32_t, kUint32)
MILLRACE_SET (int32_t, kInt32)
MILLRACE_SET (uint64_t, kUint64)
MILLRACE_SET (int64_t, kInt64)
MILLRACE_SET (float, kFloat32)
MILLRACE_SET (double, kFloat64)
MILLRACE_SET (const std::string &, kString)
#undef MILLRACE_SET

void
GgufLayout::set (const std::string &key, bool value)
{
  value_header (key, static_cast<uint32_t> (GgufType::kBool));
  append (metadata_, static_cast<uint8_t> (value));
}

void
GgufLayout::set (const std::string &key, const std::vector<std::string> &values)
{
  value_header (key, static_cast<uint32_t> (GgufType::kArray));
  append_array (metadata_, GgufType::kString, values);
}

void
GgufLayout::set (const std::string &key, const std::vector<float> &values)
{
  value_header (key, static_cast<uint32_t> (GgufType::kArray));
  append_array (metadata_, GgufType::kFloat32, values);
}

void
GgufLayout::set (const std::string &key, const std::vector<int32_t> &values)
{
  value_header (key, static_cast<uint32_t> (GgufType::kArray));
  append_array (metadata_, GgufType::kInt32, values);
}

void
GgufLayout::set (const std::string &key, const std::vector<bool> &values)
{
  value_header (key, static_cast<uint32_t> (GgufType::kArray));
  append (metadata_, static_cast<uint32_t> (GgufType::kBool));
  append (metadata_, static_cast<uint64_t> (values.size ()));
  for (const bool value : values)
    append (metadata_, static_cast<uint8_t> (value));
}

/// Views of bytes are copied as they are: the format is little-endian in all versions that are read.
void
GgufLayout::set (const std::string &key, const GgufValue &value)
{
  const auto append_bytes = [&] {
    metadata_.append (reinterpret_cast<const char *> (value.bytes.data ()), value.bytes.size ());
  };
  value_header (key, static_cast<uint32_t> (value.type));
  if (value.type == GgufType::kString) {
    append (metadata_, std::string (value.text));
  } else if (value.type == GgufType::kArray) {
    append (metadata_, static_cast<uint32_t> (value.element));
    append (metadata_, value.count);
    for (const std::string_view text : value.texts)
      append (metadata_, std::string (text));
    if (value.element != GgufType::kString)
      append_bytes ();
  } else {
    append_bytes ();
  }
}

void
GgufLayout::add_tensor (const std::string &name, DType type, const Shape &shape)
{
  if (began_)
    fail (name + " is added after the header is written");
  const GgufTensorType *known = gguf_tensor_type (type);
  if (!known)
    fail (name + " has a type that GGUF files do not have");
  if (shape.empty () || shape.size () > kGgufMaxRank)
    fail (name + " has " + std::to_string (shape.size ()) + " dimensions");
  if (name.empty () || !offsets_.emplace (name, data_bytes_).second)
    fail ("the name \"" + name + "\" is empty or given twice");
  if (shape.back () % known->block.elements != 0)
    fail (name + " has rows that are no whole blocks");
  uint64_t bytes = known->block.bytes * (static_cast<uint64_t> (shape.back ()) / known->block.elements);
  append (tensor_infos_, name);
  append (tensor_infos_, static_cast<uint32_t> (shape.size ()));
  for (size_t i = shape.size (); i-- > 0;) { // innermost first
    if (shape[i] < 0)
      fail (name + " has a negative dimension");
    append (tensor_infos_, shape[i]);
    if (i + 1 < shape.size ())
      bytes *= static_cast<uint64_t> (shape[i]);
  }
  append (tensor_infos_, known->id);
  append (tensor_infos_, data_bytes_);
  tensors_.push_back ({name, bytes});
  data_bytes_ += bytes + padding (bytes);
}

std::string
GgufLayout::header ()
{
  if (began_)
    fail ("the header is written twice");
  began_ = true;
  std::string header;
  append (header, kGgufMagic);
  append (header, uint32_t{3});
  append (header, static_cast<uint64_t> (tensors_.size ()));
  append (header, static_cast<uint64_t> (keys_.size ()));
  header += metadata_;
  header += tensor_infos_;
  header.append (padding (header.size ()), '\0');
  header_bytes_ = header.size ();
  return header;
}

GgufWriter::GgufWriter (const std::filesystem::path &file)
    : GgufLayout (file)
    , stream_ (file, std::ios::binary | std::ios::trunc)
{
  if (!stream_)
    fail ("cannot be created");
}

void
GgufWriter::begin_data ()
{
  const std::string bytes = header ();
  stream_.write (bytes.data (), static_cast<std::streamsize> (bytes.size ()));
  if (!stream_)
    fail ("cannot be written");
  skip_complete ();
}

/// Pads the current tensor when it has all its bytes and goes on to the next that wants some.
void
GgufWriter::skip_complete ()
{
  static constexpr char kZeros[kAlignment] = {};
  while (current_ < tensors ().size () && written_ == tensors ()[current_].bytes) {
    stream_.write (kZeros, static_cast<std::streamsize> (padding (written_)));
    written_ = 0;
    ++current_;
  }
}

void
GgufWriter::write (std::span<const std::byte> part)
{
  if (!began ())
    fail ("data is written before begin_data ()");
  while (!part.empty ()) {
    if (current_ == tensors ().size ())
      fail ("more data is written than the tensors have");
    const size_t count = std::min<uint64_t> (part.size (), tensors ()[current_].bytes - written_);
    stream_.write (reinterpret_cast<const char *> (part.data ()), static_cast<std::streamsize> (count));
    written_ += count;
    part = part.subspan (count);
    skip_complete ();
  }
  if (!stream_)
    fail ("cannot be written");
}

void
GgufWriter::finish ()
{
  if (!began () || current_ != tensors ().size ())
    fail (began () ? "ends before " + tensors ()[current_].name + " has its bytes" : "has no data");
  stream_.close ();
  if (!stream_)
    fail ("cannot be written");
}

} // namespace millrace
