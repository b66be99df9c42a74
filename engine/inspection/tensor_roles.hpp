// What the tensors of a spec are for.
//
// Private to engine/inspection. Pure.
#pragma once

#include "engine/model/architecture_spec.hpp"

#include <map>
#include <string>

namespace millrace
{

/// By the names in the spec, experts one by one: "embedding", "head", "norm", "attention", "recurrent", "mlp", "router", "experts",
/// "shared expert", "layer input".
std::map<std::string, std::string> tensor_roles (const ArchitectureSpec &spec);

} // namespace millrace
