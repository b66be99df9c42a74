// Writes GGUF files, version 3: metadata, then tensors whose data is streamed.
//
// For tests and benchmarks. set () and add_tensor () in any order, begin_data (), then the bytes of every tensor in the
// order of add_tensor () by as many write () as suit the caller, finish (). Nothing but the header is held in memory; a
// tensor that does not fill its last 32 bytes is padded. One thread. Throws std::runtime_error when the file cannot be
// written, and when what is written is not what was announced.
// Source: GGUF specification, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
#pragma once

#include "engine/tensor/tensor_view.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <set>
#include <span>
#include <string>
#include <vector>

namespace millrace
{

class GgufWriter
{
public:
  explicit GgufWriter (const std::filesystem::path &file);

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

  /// `shape` outermost first; rows of block types are whole blocks. Names are distinct.
  void add_tensor (const std::string &name, DType type, const Shape &shape);

  /// Writes the header; afterwards only write () and finish () may be called.
  void begin_data ();
  void write (std::span<const std::byte> part);
  /// Every tensor must have got its bytes.
  void finish ();

private:
  struct Tensor {
    std::string name;
    uint64_t bytes = 0;
  };
  void value_header (const std::string &key, uint32_t type);
  void skip_complete ();
  [[noreturn]] void fail (const std::string &problem) const;

  std::filesystem::path file_;
  std::ofstream stream_;
  std::set<std::string> keys_;
  std::set<std::string> names_;
  std::string metadata_;     ///< encoded
  std::string tensor_infos_; ///< encoded
  std::vector<Tensor> tensors_;
  uint64_t data_bytes_ = 0; ///< of all tensors so far, padded
  uint64_t written_ = 0;    ///< bytes of the current tensor
  size_t current_ = 0;      ///< the tensor that write () fills
  bool began_ = false;
};

} // namespace millrace
