// What fewer bits cost in quality: perplexity of a fixed text.
//
//   perplexity
//   perplexity models/demo-draft --weights f32,int4 --kv f32,k8v4
//   perplexity models/demo demo-q4_k.gguf --weights auto --tokens 2000
//
// Perplexity is e to the mean of -ln p of each next token, in windows of the model's context (text_loss.hpp says which
// tokens count). One line for each model, weight format and KV type, with its ratio to the first line. Deterministic:
// the same machine, or one of the same instruction sets, prints the same figures every time.
#include "bench/text_loss.hpp"

#include "engine/model/model.hpp"

#include <array>
#include <charconv>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

using namespace millrace;

namespace
{

constexpr std::array<std::pair<std::string_view, WeightFormat>, 6> kWeightFormats{
    {{"auto", WeightFormat::kAuto},
     {"f32", WeightFormat::kF32},
     {"f16", WeightFormat::kF16},
     {"bf16", WeightFormat::kBF16},
     {"int8", WeightFormat::kInt8},
     {"int4", WeightFormat::kInt4}}};

struct Settings {
  std::vector<std::string> models;
  std::string text = MILLRACE_SOURCE_DIR "/tests/data/perplexity.txt";
  std::string_view weights = "f32,f16,bf16,int8,int4";
  std::string_view kv = "f32";
  size_t tokens = SIZE_MAX; ///< of the text, at most
};

void
print_help ()
{
  std::printf (
      "perplexity [MODEL…] [--text FILE] [--weights LIST] [--kv LIST] [--tokens N]\n\n"
      "MODEL      folders and GGUF files; default: models/demo\n"
      "--text     UTF-8; default: tests/data/perplexity.txt\n"
      "--weights  any of auto (as the file has them), f32, f16, bf16, int8, int4; default: all but auto\n"
      "--kv       any of f32, f16, bf16, q8, k8v4; default: f32\n"
      "--tokens   no more than so many of the text\n");
}

std::vector<std::string_view>
split (std::string_view list)
{
  std::vector<std::string_view> parts;
  for (size_t comma; (comma = list.find (',')) != list.npos; list.remove_prefix (comma + 1))
    parts.push_back (list.substr (0, comma));
  parts.push_back (list);
  return parts;
}

WeightFormat
weight_format (std::string_view name)
{
  for (const auto &[known, format] : kWeightFormats)
    if (name == known)
      return format;
  throw std::invalid_argument ("unknown weight format \"" + std::string (name) + "\"; see --help");
}

KvType
kv_type (std::string_view name)
{
  for (int type = 0; type < kKvTypes; ++type)
    if (name == kv_type_name (static_cast<KvType> (type)))
      return static_cast<KvType> (type);
  throw std::invalid_argument ("unknown KV type \"" + std::string (name) + "\"; see --help");
}

size_t
token_count (std::string_view text)
{
  size_t count = 0;
  const auto [end, error] = std::from_chars (text.data (), text.data () + text.size (), count);
  if (error != std::errc () || end != text.data () + text.size () || count < 2)
    throw std::invalid_argument ("--tokens wants a number from 2 on, not \"" + std::string (text) + "\"");
  return count;
}

Settings
parse (std::span<char *const> arguments)
{
  Settings settings;
  for (size_t i = 0; i < arguments.size (); ++i) {
    const std::string_view name = arguments[i];
    if (name.substr (0, 2) != "--") {
      settings.models.emplace_back (name);
      continue;
    }
    if (i + 1 == arguments.size ())
      throw std::invalid_argument (std::string (name) + " is unknown or lacks a value; see --help");
    const std::string_view value = arguments[++i];
    if (name == "--text")
      settings.text = value;
    else if (name == "--weights")
      settings.weights = value;
    else if (name == "--kv")
      settings.kv = value;
    else if (name == "--tokens")
      settings.tokens = token_count (value);
    else
      throw std::invalid_argument (std::string (name) + " is unknown; see --help");
  }
  if (settings.models.empty ())
    settings.models.emplace_back (MILLRACE_SOURCE_DIR "/models/demo");
  return settings;
}

std::string
read_text (const std::string &path)
{
  std::ifstream in (path, std::ios::binary);
  if (!in)
    throw std::runtime_error ("cannot read " + path);
  std::string text ((std::istreambuf_iterator<char> (in)), {});
  if (!valid_utf8 (text))
    throw std::runtime_error (path + " is not UTF-8");
  return text;
}

std::vector<TokenId>
tokens_of (const Model &model, const std::string &text, size_t most)
{
  if (!model.tokenizer)
    throw std::runtime_error (model.directory.string () + " has no tokenizer");
  auto tokens = model.tokenizer->encode (text);
  tokens.resize (std::min (tokens.size (), most));
  if (tokens.size () < 2)
    throw std::runtime_error ("the text is too short: " + std::to_string (tokens.size ()) + " tokens");
  return tokens;
}

void
measure (const Settings &settings)
{
  const std::string text = read_text (settings.text);
  std::printf ("%s\n%-24s %-6s %-5s %10s %8s %11s %10s\n", settings.text.c_str (), "model", "weights", "KV",
               "MiB", "tokens", "perplexity", "of first");
  double first = 0;
  for (const std::string &path : settings.models) {
    for (const std::string_view weights : split (settings.weights)) {
      const auto model = Model::open (path, {.weights = weight_format (weights), .cpu = {}});
      const auto tokens = tokens_of (*model, text, settings.tokens);
      for (const std::string_view kv : split (settings.kv)) {
        const bench::TextLoss loss =
            bench::text_loss (*model->compiled, static_cast<size_t> (model->spec.vocab), kv_type (kv), tokens,
                              static_cast<size_t> (model->spec.max_positions));
        if (first == 0)
          first = loss.perplexity ();
        std::printf ("%-24s %-6.*s %-5.*s %10.1f %8zu %11.4f %+9.3f%%\n",
                     model->directory.filename ().c_str (), static_cast<int> (weights.size ()),
                     weights.data (), static_cast<int> (kv.size ()), kv.data (),
                     static_cast<double> (model->compiled->weight_bytes ()) / (1 << 20), loss.tokens,
                     loss.perplexity (), 100 * (loss.perplexity () / first - 1));
        std::fflush (stdout);
      }
    }
  }
}

} // namespace

int
main (int argc, char **argv)
{
  try {
    const auto arguments = std::span (argv, static_cast<size_t> (argc)).subspan (1);
    for (const std::string_view argument : arguments) {
      if (argument == "-h" || argument == "--help") {
        print_help ();
        return 0;
      }
    }
    measure (parse (arguments));
  } catch (const std::exception &error) {
    std::fprintf (stderr, "perplexity: %s\n", error.what ());
    return 2;
  }
  return 0;
}
