// The fields of a message in Protocol Buffers' wire format, one after the other.
//
// Whatever the bytes are, no field reaches beyond them: the reader fails instead. Groups, which nobody writes any more, are
// refused. A view; one thread. Source: protobuf.dev, "Encoding".
#pragma once

#include <cstdint>
#include <string_view>

namespace millrace
{

struct ProtobufField {
  enum Type { kVarint, kFixed64, kBytes, kFixed32 };
  uint32_t number = 0;
  Type type = kVarint;
  uint64_t value = 0;     ///< of all types but kBytes
  std::string_view bytes; ///< of kBytes

  float real () const; ///< of kFixed32
};

class ProtobufReader
{
public:
  explicit ProtobufReader (std::string_view message)
      : left_ (message)
      , size_ (message.size ())
  {
  }

  /// False at the end, and when what comes is no field.
  bool next (ProtobufField &field);
  bool failed () const { return failed_; }
  size_t position () const { return size_ - left_.size (); } ///< in the message

private:
  bool fail ();
  bool varint (uint64_t &value);
  bool fixed (int bytes, uint64_t &value);

  std::string_view left_;
  size_t size_;
  bool failed_ = false;
};

} // namespace millrace
