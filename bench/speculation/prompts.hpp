// The suite's texts: prompts/CATEGORY/NAME.txt, and prompts of random tokens beside them.
//
// A file is a conversation: lines "--- system ---", "--- user ---" and "--- assistant ---" begin its messages. When the
// last one is the assistant's, the answer goes on from there. A file that begins with no such line is text to be
// continued. Texts are the project's own.
#pragma once

#include "engine/model/model.hpp"

#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace millrace::bench
{

/// What the answers of a category are like for drafters, and so what is asked of them.
enum class Nature : uint8_t {
  kCopies, ///< mostly the prompt again
  kMixed,
  kFresh,  ///< nothing to copy: drafters can only get in the way
  kRandom, ///< random tokens: models loop on them, which flatters every drafter
};
const char *nature_name (Nature nature); ///< "copies", "mixed", "fresh", "random"

struct Category {
  std::string_view name;
  Nature nature;
  std::vector<double> temperatures; ///< each is a row of its own; 0: greedy
};
std::span<const Category> categories ();

struct Prompt {
  const Category *category = nullptr;
  std::string name;
  double temperature = 0;
  std::vector<TokenId> tokens;
};

/// Prompts whose category's name contains one of `filters` (none: all), at most `most` files of each, in the order of
/// categories () and file names; those of one category and temperature are neighbours. Throws std::runtime_error when a
/// category has no files, a file no messages, or the model no chat template.
std::vector<Prompt> load_prompts (const Model &model, const std::filesystem::path &folder,
                                  std::span<const std::string> filters, int most);

} // namespace millrace::bench
