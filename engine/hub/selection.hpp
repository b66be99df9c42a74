// Which files of a repository a download takes.
//
// Without a wish: what Millrace reads of a model, config.json, tokenizer and template beside one set of safetensors, or, of
// a repository without these, its GGUF file. With one: a path, all paths that a pattern of fnmatch(3) fits, or a word that
// names one of several GGUF files ("Q4_K_M"), always with the other parts of a GGUF file in parts. Pure; any thread.
#pragma once

#include "engine/hub/listing.hpp"

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace millrace
{

constexpr std::string_view kHubIndexFile = "model.safetensors.index.json";

/// Whether the weights of the repository are those that its index names, which must be known for the choice.
bool hub_needs_index (const HubListing &listing);

/// What Millrace reads; `shards` are what the index names, if there is need of one. Throws std::runtime_error, with what
/// there is, when it would be no model, several, or files that are not listed.
std::vector<HubFile> needed_hub_files (const HubListing &listing, std::span<const std::string> shards);

/// What `files` of a HubTarget names. Throws std::runtime_error, with what there is.
std::vector<HubFile> wished_hub_files (const HubListing &listing, const std::string &files);

} // namespace millrace
