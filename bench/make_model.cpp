// Writes a model of a public shape with random weights: how fast it runs does not depend on what it says.
//
//   make_model qwen3-0.6b q4_k model.gguf
//   make_model qwen3-0.6b bf16 folder --format safetensors
//   make_model qwen3-0.6b q8_0 tiny.gguf --shape hidden=256,layers=2,ffn=512,vocab=1000
//
// `--help` lists shapes and types. GGUF files load into llama.cpp and ik_llama.cpp too.
#include "bench/random_model.hpp"

#include <array>
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string_view>
#include <utility>
#include <vector>

using namespace millrace;
using namespace millrace::bench;

namespace
{

constexpr std::array<std::pair<std::string_view, DType>, 15> kTypes{{{"f32", DType::kF32},
                                                                     {"f16", DType::kF16},
                                                                     {"bf16", DType::kBF16},
                                                                     {"q8_0", DType::kQ8_0},
                                                                     {"q4_0", DType::kQ4_0},
                                                                     {"q4_k", DType::kQ4K},
                                                                     {"q6_k", DType::kQ6K},
                                                                     {"q4_1", DType::kQ4_1},
                                                                     {"q5_0", DType::kQ5_0},
                                                                     {"q5_1", DType::kQ5_1},
                                                                     {"q2_k", DType::kQ2K},
                                                                     {"q3_k", DType::kQ3K},
                                                                     {"q5_k", DType::kQ5K},
                                                                     {"iq4_nl", DType::kIQ4NL},
                                                                     {"mxfp4", DType::kMXFP4}}};

std::string
type_names ()
{
  std::string names;
  for (const auto &[name, type] : kTypes)
    names += (names.empty () ? "" : ", ") + std::string (name);
  return names;
}

DType
parse_type (std::string_view text)
{
  for (const auto &[name, type] : kTypes)
    if (name == text)
      return type;
  throw std::invalid_argument ("unknown type \"" + std::string (text) + "\"; known are " + type_names ());
}

void
print_help ()
{
  std::printf ("make_model SHAPE TYPE OUT [--format gguf|safetensors] [--shape KEY=NUMBER,…]\n\n"
               "SHAPE     %s\n"
               "TYPE      of every matrix: %s; safetensors: f32, f16, bf16\n"
               "OUT       a file (GGUF, the default format) or a folder (safetensors)\n"
               "--shape   changes hidden, layers, heads, kv_heads, head_dim, ffn, vocab, ctx\n",
               shape_names ().c_str (), type_names ().c_str ());
}

int
run (std::span<char *const> arguments)
{
  std::vector<std::string_view> positional;
  std::string_view format = "gguf", changes;
  for (size_t i = 0; i < arguments.size (); i++) {
    const std::string_view argument = arguments[i];
    if (argument == "-h" || argument == "--help") {
      print_help ();
      return 0;
    }
    if (argument.substr (0, 2) != "--") {
      positional.push_back (argument);
      continue;
    }
    if ((argument != "--format" && argument != "--shape") || i + 1 == arguments.size ())
      throw std::invalid_argument (std::string (argument) + " is unknown or lacks a value; see --help");
    (argument == "--format" ? format : changes) = arguments[++i];
  }
  if (positional.size () != 3)
    throw std::invalid_argument ("SHAPE, TYPE and OUT are needed; see --help");
  ModelShape shape = named_shape (positional[0]);
  change_shape (shape, changes);
  const DType type = parse_type (positional[1]);
  if (format == "gguf")
    write_gguf_model (positional[2], shape, type);
  else if (format == "safetensors")
    write_safetensors_model (positional[2], shape, type);
  else
    throw std::invalid_argument ("--format is gguf or safetensors");
  return 0;
}

} // namespace

int
main (int argc, char **argv)
{
  try {
    return run (std::span (argv, static_cast<size_t> (argc)).subspan (1));
  } catch (const std::exception &error) {
    std::fprintf (stderr, "make_model: %s\n", error.what ());
    return 2;
  }
}
