// Which variable a name means: fills in the slots, scopes and functions of a parsed template.
//
// Jinja decides this for a scope as a whole, before anything runs: for, macro, call, set, filter, with and
// block bodies are scopes, if bodies are not. A name that a scope only reads belongs to the nearest scope
// around that mentions it at all; one that it assigns starts as a copy of the outer one. A name whose first
// mention is an unconditional assignment starts undefined, even when the render has a variable of that name.
// Source: observed behaviour of Jinja 3.1.6 (jinja2.idtracking).
#pragma once

#include "engine/chat/ast.hpp"

namespace millrace::jinja
{

void resolve_scopes (Template &compiled);

/// The part of it that sets For::uses_loop and the uses_ flags of macros.
void find_special_names (Template &compiled);

} // namespace millrace::jinja
