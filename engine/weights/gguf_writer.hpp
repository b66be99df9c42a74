// Writes GGUF files, version 3.
//
// GgufLayout is the header: metadata and tensors in any order, then header () and where each tensor's data go, for those who
// write them in their own order. GgufWriter is one that streams: begin_data (), then the bytes of every tensor in the
// order of add_tensor () by as many write () as suit the caller, finish (). Nothing but the header is held in memory; a
// tensor that does not fill its last 32 bytes is padded. One thread. Throws std::runtime_error when the file cannot be
// written, and when what is given cannot be a file or is not what was announced.
// Source: GGUF specification, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
#pragma once

#include "engine/tensor/tensor_view.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

namespace millrace
{

struct GgufValue;

class GgufLayout
{
public:
  /// `file` is for messages.
  explicit GgufLayout (std::filesystem::path file)
      : file_ (std::move (file))
  {
  }

  /// One overload a type of metadata, so that no value changes its type on the way; a key may be set once.
  void set (const std::string &key, uint8_t value);
  void set (const std::string &key, int8_t value);
  void set (const std::string &key, uint16_t value);
  void set (const std::string &key, int16_t value);
  void set (const std::string &key, uint32_t value);
  void set (const std::string &key, int32_t value);
  void set (const std::string &key, uint64_t value);
  void set (const std::string &key, int64_t value);
  void set (const std::string &key, float value);
  void set (const std::string &key, double value);
  void set (const std::string &key, bool value);
  void set (const std::string &key, const std::string &value);
  void set (const std::string &key, const char *value) { set (key, std::string (value)); }
  void set (const std::string &key, const std::vector<std::string> &values);
  void set (const std::string &key, const std::vector<float> &values);
  void set (const std::string &key, const std::vector<int32_t> &values);
  void set (const std::string &key, const std::vector<bool> &values);
  /// As another file has it.
  void set (const std::string &key, const GgufValue &value);

  /// `shape` outermost first; rows of block types are whole blocks. Names are distinct.
  void add_tensor (const std::string &name, DType type, const Shape &shape);

  /// All up to the first tensor's data; nothing may be set or added afterwards.
  std::string header ();
  /// Of a tensor's data in the file; after header ().
  uint64_t offset (const std::string &name) const { return header_bytes_ + offsets_.at (name); }
  /// Of the whole file, padded; after header ().
  uint64_t file_bytes () const { return header_bytes_ + data_bytes_; }

protected:
  struct Tensor {
    std::string name;
    uint64_t bytes = 0;
  };
  const std::vector<Tensor> &tensors () const { return tensors_; }
  bool began () const { return began_; }
  [[noreturn]] void fail (const std::string &problem) const;

private:
  void value_header (const std::string &key, uint32_t type);

  std::filesystem::path file_;
  std::set<std::string> keys_;
  std::map<std::string, uint64_t> offsets_; ///< in the data section
  std::string metadata_;                    ///< encoded
  std::string tensor_infos_;                ///< encoded
  std::vector<Tensor> tensors_;
  uint64_t data_bytes_ = 0;   ///< of all tensors so far, padded
  uint64_t header_bytes_ = 0; ///< once it began
  bool began_ = false;
};

class GgufWriter : public GgufLayout
{
public:
  explicit GgufWriter (const std::filesystem::path &file);

  /// Writes the header; afterwards only write () and finish () may be called.
  void begin_data ();
  void write (std::span<const std::byte> part);
  /// Every tensor must have got its bytes.
  void finish ();

private:
  void skip_complete ();

  std::ofstream stream_;
  uint64_t written_ = 0; ///< bytes of the current tensor
  size_t current_ = 0;   ///< the tensor that write () fills
};

} // namespace millrace
