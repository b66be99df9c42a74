// Layers, heads and rotations of a spec in words.
//
// Private to engine/inspection. Pure.
#pragma once

#include "engine/inspection/inspection.hpp"

namespace millrace
{

std::vector<LayerGroup> layer_groups (const ArchitectureSpec &spec);
std::vector<std::string> head_texts (const ArchitectureSpec &spec);
std::vector<std::string> rope_texts (const ArchitectureSpec &spec);

} // namespace millrace
