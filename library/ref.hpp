// The RAII that GStreamer and GLib need: one smart reference, one mapped buffer.
#pragma once

#include <gst/gst.h>

#include <span>
#include <utility>

namespace millrace
{

template <typename T>
struct RefTraits {
  static void ref (T *object) { g_object_ref (object); }
  static void unref (T *object) { g_object_unref (object); }
};

template <typename T>
struct MiniObjectTraits {
  static void ref (T *object) { gst_mini_object_ref (GST_MINI_OBJECT_CAST (object)); }
  static void unref (T *object) { gst_mini_object_unref (GST_MINI_OBJECT_CAST (object)); }
};
template <>
struct RefTraits<GstBuffer> : MiniObjectTraits<GstBuffer> {
};
template <>
struct RefTraits<GstBufferList> : MiniObjectTraits<GstBufferList> {
};
template <>
struct RefTraits<GstCaps> : MiniObjectTraits<GstCaps> {
};
template <>
struct RefTraits<GstEvent> : MiniObjectTraits<GstEvent> {
};
template <>
struct RefTraits<GstQuery> : MiniObjectTraits<GstQuery> {
};
template <>
struct RefTraits<GstContext> : MiniObjectTraits<GstContext> {
};

/// Owns one reference. adopt () takes over the caller's (transfer full), share () adds one (transfer none).
template <typename T>
class Ref
{
public:
  Ref () = default;
  Ref (std::nullptr_t) {}
  static Ref adopt (T *object)
  {
    Ref ref;
    ref.object_ = object;
    return ref;
  }
  static Ref share (T *object)
  {
    if (object)
      RefTraits<T>::ref (object);
    return adopt (object);
  }
  Ref (const Ref &other)
      : Ref (share (other.object_))
  {
  }
  Ref (Ref &&other) noexcept
      : object_ (std::exchange (other.object_, nullptr))
  {
  }
  Ref &operator= (Ref other) noexcept
  {
    std::swap (object_, other.object_);
    return *this;
  }
  ~Ref ()
  {
    if (object_)
      RefTraits<T>::unref (object_);
  }

  T *get () const { return object_; }
  T *release () { return std::exchange (object_, nullptr); }
  /// For functions that return a reference through a T **; what was held is dropped.
  T **out ()
  {
    *this = nullptr;
    return &object_;
  }
  explicit operator bool () const { return object_ != nullptr; }

private:
  T *object_ = nullptr;
};

/// A buffer mapped for reading; empty when mapping failed.
class MappedBuffer
{
public:
  explicit MappedBuffer (GstBuffer *buffer)
      : buffer_ (buffer)
  {
    mapped_ = gst_buffer_map (buffer, &info_, GST_MAP_READ);
  }
  MappedBuffer (const MappedBuffer &) = delete;
  MappedBuffer &operator= (const MappedBuffer &) = delete;
  ~MappedBuffer ()
  {
    if (mapped_)
      gst_buffer_unmap (buffer_, &info_);
  }

  explicit operator bool () const { return mapped_; }
  const char *chars () const { return mapped_ ? reinterpret_cast<const char *> (info_.data) : ""; }
  size_t size () const { return mapped_ ? info_.size : 0; }

private:
  GstBuffer *buffer_;
  GstMapInfo info_ = GST_MAP_INFO_INIT;
  bool mapped_;
};

} // namespace millrace
