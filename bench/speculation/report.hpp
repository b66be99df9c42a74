// The suite's rows as Markdown tables that grow, or as JSON at the end.
#pragma once

#include "bench/speculation/checks.hpp"

#include <span>
#include <string>

namespace millrace::bench
{

void print_preface (const Suite &suite, const SpecOptions &options);
/// `random`: the table of random-token prompts begins.
void print_table_head (bool random);
void print_rows (const RowResult &row);
void print_summary (std::span<const RowResult> rows, std::span<const Check> checks, int differing);

void print_spec_json (const Suite &suite, const SpecOptions &options, std::span<const RowResult> rows,
                      std::span<const Check> checks);

} // namespace millrace::bench
