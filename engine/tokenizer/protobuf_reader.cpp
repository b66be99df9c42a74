#include "engine/tokenizer/protobuf_reader.hpp"

#include <bit>

namespace millrace
{

float
ProtobufField::real () const
{
  return std::bit_cast<float> (static_cast<uint32_t> (value));
}

bool
ProtobufReader::fail ()
{
  failed_ = true;
  return false;
}

bool
ProtobufReader::varint (uint64_t &value)
{
  value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    if (left_.empty ())
      return fail ();
    const auto byte = static_cast<unsigned char> (left_[0]);
    left_.remove_prefix (1);
    value |= static_cast<uint64_t> (byte & 0x7F) << shift;
    if (byte < 0x80)
      return true;
  }
  return fail ();
}

bool
ProtobufReader::fixed (int bytes, uint64_t &value)
{
  if (left_.size () < static_cast<size_t> (bytes))
    return fail ();
  value = 0;
  for (int i = bytes - 1; i >= 0; i--)
    value = value << 8 | static_cast<unsigned char> (left_[i]);
  left_.remove_prefix (static_cast<size_t> (bytes));
  return true;
}

bool
ProtobufReader::next (ProtobufField &field)
{
  uint64_t key = 0;
  if (failed_ || left_.empty () || !varint (key))
    return false;
  field = {};
  if (key >> 3 == 0 || key >> 3 > UINT32_MAX)
    return fail ();
  field.number = static_cast<uint32_t> (key >> 3);
  switch (key & 7) {
  case 0:
    field.type = ProtobufField::kVarint;
    return varint (field.value);
  case 1:
    field.type = ProtobufField::kFixed64;
    return fixed (8, field.value);
  case 2: {
    field.type = ProtobufField::kBytes;
    uint64_t size = 0;
    if (!varint (size))
      return false;
    if (size > left_.size ())
      return fail ();
    field.bytes = left_.substr (0, size);
    left_.remove_prefix (size);
    return true;
  }
  case 5:
    field.type = ProtobufField::kFixed32;
    return fixed (4, field.value);
  default:
    return fail ();
  }
}

} // namespace millrace
