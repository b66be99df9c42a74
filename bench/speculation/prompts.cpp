#include "bench/speculation/prompts.hpp"

#include "bench/sim_random.hpp"
#include "engine/json_text.hpp"
#include "engine/model/chat_prompt.hpp"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <stdexcept>

namespace millrace::bench
{

namespace
{

constexpr int kRandomPrompts = 3, kRandomTokens = 400;

struct Message {
  std::string role, content;
};

/// The role that a line begins a message of; empty: an ordinary line.
std::string_view
role_of (std::string_view line)
{
  for (const std::string_view role : {"system", "user", "assistant"})
    if (line.size () == role.size () + 8 && line.starts_with ("--- ") &&
        line.substr (4, role.size ()) == role && line.ends_with (" ---"))
      return role;
  return {};
}

std::string
read_text (const std::filesystem::path &file)
{
  std::ifstream stream (file, std::ios::binary);
  std::string text{std::istreambuf_iterator<char> (stream), {}};
  if (!stream || text.empty ())
    throw std::runtime_error (file.string () + ": cannot be read, or is empty");
  return text;
}

/// None: the text is not a conversation.
std::vector<Message>
messages_of (std::string_view text)
{
  std::vector<Message> messages;
  for (size_t at = 0; at < text.size ();) {
    const size_t end = std::min (text.find ('\n', at), text.size () - 1) + 1;
    std::string_view line = text.substr (at, end - at);
    at = end;
    const std::string_view bare = line.ends_with ('\n') ? line.substr (0, line.size () - 1) : line;
    if (const std::string_view role = role_of (bare); !role.empty ())
      messages.push_back ({std::string (role), {}});
    else if (messages.empty ())
      return {};
    else
      messages.back ().content += line;
  }
  return messages;
}

void
trim_end (std::string &text)
{
  text.erase (text.find_last_not_of ('\n') + 1);
}

std::string
render (const Model &model, std::vector<Message> messages)
{
  if (!model.chat_template)
    throw std::runtime_error (model.directory.string () +
                              ": no chat template, which the suite's prompts need");
  std::string begun;
  if (messages.back ().role == "assistant") {
    begun = std::move (messages.back ().content);
    messages.pop_back ();
  }
  std::string json = "[";
  for (Message &message : messages) {
    trim_end (message.content);
    json += json.size () > 1 ? ", {\"role\": " : "{\"role\": ";
    append_json_string (json, message.role);
    json += ", \"content\": ";
    append_json_string (json, message.content);
    json += "}";
  }
  return render_chat (model, json + "]", {}, 0) + begun;
}

std::vector<TokenId>
random_tokens (const Tokenizer &tokenizer, uint64_t seed)
{
  sim::Random random (seed);
  std::vector<TokenId> tokens;
  while (tokens.size () < kRandomTokens) {
    const TokenId token = random.below (tokenizer.vocab_size ());
    if (tokenizer.is_known (token) && !tokenizer.is_special (token))
      tokens.push_back (token);
  }
  return tokens;
}

std::vector<Prompt>
prompts_of (const Model &model, const std::filesystem::path &folder, const Category &category, int most)
{
  std::vector<Prompt> prompts;
  if (category.nature == Nature::kRandom) {
    for (int i = 0; i < std::min (most, kRandomPrompts); i++)
      prompts.push_back ({&category, "seed-" + std::to_string (i + 1), 0,
                          random_tokens (*model.tokenizer, static_cast<uint64_t> (i + 1))});
    return prompts;
  }
  std::vector<std::filesystem::path> files;
  std::error_code error;
  for (const auto &entry : std::filesystem::directory_iterator (folder / category.name, error))
    if (entry.path ().extension () == ".txt")
      files.push_back (entry.path ());
  std::ranges::sort (files);
  if (files.empty ())
    throw std::runtime_error ((folder / category.name).string () +
                              ": no prompts; --prompts says where they are");
  files.resize (std::min (files.size (), static_cast<size_t> (most)));
  for (const auto &file : files) {
    std::string text = read_text (file);
    std::vector<Message> messages = messages_of (text);
    if (messages.empty ())
      trim_end (text);
    else if (messages.size () == 1 && messages[0].role == "assistant")
      throw std::runtime_error (file.string () + ": nobody asks anything");
    else
      text = render (model, std::move (messages));
    prompts.push_back ({&category, file.stem ().string (), 0, model.tokenizer->encode (text)});
  }
  return prompts;
}

} // namespace

const char *
nature_name (Nature nature)
{
  switch (nature) {
  case Nature::kCopies:
    return "copies";
  case Nature::kMixed:
    return "mixed";
  case Nature::kFresh:
    return "fresh";
  case Nature::kRandom:
    break;
  }
  return "random";
}

std::span<const Category>
categories ()
{
  static const std::vector<Category> all{
      {"code-edit", Nature::kCopies, {0, 0.7}},  {"json-reformat", Nature::kCopies, {0}},
      {"type-hints", Nature::kMixed, {0}},       {"config-translate", Nature::kMixed, {0}},
      {"chat-quoted", Nature::kMixed, {0, 0.7}}, {"summarize", Nature::kMixed, {0}},
      {"fresh-code", Nature::kFresh, {0, 0.7}},  {"fresh-prose", Nature::kFresh, {0, 0.7}},
      {"adversarial", Nature::kFresh, {1.5}},    {"random-tokens", Nature::kRandom, {0}}};
  return all;
}

std::vector<Prompt>
load_prompts (const Model &model, const std::filesystem::path &folder, std::span<const std::string> filters,
              int most)
{
  std::vector<Prompt> all;
  for (const Category &category : categories ()) {
    const auto asks_for = [&] (const std::string &filter) {
      return category.name.find (filter) != category.name.npos;
    };
    if (!filters.empty () && std::ranges::none_of (filters, asks_for))
      continue;
    const std::vector<Prompt> prompts = prompts_of (model, folder, category, most);
    for (const double temperature : category.temperatures) {
      for (const Prompt &prompt : prompts) {
        all.push_back (prompt);
        all.back ().temperature = temperature;
      }
    }
  }
  return all;
}

} // namespace millrace::bench
