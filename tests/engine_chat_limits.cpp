// Hostile templates and conversations end with an error, soon and without hurting the process.
// labels: unit
// timeout: 240
#include "engine/chat/chat_template.hpp"
#include "tests/test_paths.hpp"

#include <random>

using millrace::ChatTemplate;
using millrace::ChatTemplateError;
using millrace::RenderLimits;
using Kind = ChatTemplateError::Kind;

namespace
{

std::string
repeat (const std::string &text, size_t times)
{
  std::string out;
  out.reserve (text.size () * times);
  for (size_t i = 0; i < times; i++)
    out += text;
  return out;
}

/// Fails the test when the template renders.
ChatTemplateError
error_of (const std::string &source, const std::string &variables = "{}", const RenderLimits &limits = {})
{
  try {
    const std::string text = ChatTemplate::compile (source)->render (variables, 0, limits);
    ADD_FAILURE () << source.substr (0, 200) << "\nrendered " << text.size () << " bytes";
  } catch (const ChatTemplateError &error) {
    return error;
  }
  return {Kind::kRuntime, 0, ""};
}

void
expect_limit (const std::string &source, const std::string &variables = "{}", const RenderLimits &limits = {})
{
  const auto error = error_of (source, variables, limits);
  EXPECT_EQ (error.kind, Kind::kLimit) << source.substr (0, 200) << "\n" << error.what ();
}

void
expect_syntax (const std::string &source)
{
  const auto error = error_of (source);
  EXPECT_EQ (error.kind, Kind::kSyntax) << source.substr (0, 200) << "\n" << error.what ();
}

} // namespace

TEST (ChatLimits, endless_work_is_cut_off)
{
  const RenderLimits few = {.operations = 3'000'000};
  const std::string forever = "{% for a in range(99999) %}{% for b in range(99999) %}";
  expect_limit (forever + "{{ a * b }}{% endfor %}{% endfor %}"); // the default lets go as well
  for (const char *endless : {
           "{% for b in range(99999) %}{% endfor %}",
           "{% for b in range(99999) %}{% set x = a %}{% endfor %}",
           "{% for x in (range(99999)|list)|sort|reverse %}{% endfor %}",
           "{{ (range(99999)|map('string')|join)|length }}",
           "{{ range(99999)|list == range(99999)|list }}",
           "{{ 99999 in range(99999)|list }}",
       })
    expect_limit ("{% for a in range(99999) %}" + std::string (endless) + "{% endfor %}", "{}", few);
  expect_limit (
      "{% set ns = namespace(a=[1]) %}{% for i in range(9999) %}{% set ns.a = ns.a + ns.a %}{% endfor %}",
      "{}", few);
}

TEST (ChatLimits, big_numbers_ask_for_nothing)
{
  expect_limit ("{{ range(10**12) }}");
  expect_limit ("{{ range(-(2**62), 2**62) }}");
  expect_limit ("{{ 'a' * 10**12 }}");
  expect_limit ("{{ 'abc' * 9223372036854775807 }}");
  expect_limit ("{{ [1] * 10**12 }}");
  expect_limit ("{{ [[1] * 10000] * 10000 * 10000 }}");
  expect_limit ("{{ '%1000000000d' % 1 }}");
  expect_limit ("{{ '%.1000000000f' % 1 }}");
  expect_limit ("{{ '{:1000000000}'.format(1) }}");
  expect_limit ("{{ 'x'.center(10**10) }}");
  expect_limit ("{{ 'x'.zfill(10**10) }}");
  expect_limit ("{{ 'x'|center(10**10) }}");
  expect_limit ("{{ 'x'|indent(10**10) }}");
  expect_limit ("{{ [1]|tojson(indent=10**10) }}");
  expect_limit ("{{ '\\t'.expandtabs(10**10) }}");
  expect_limit ("{{ [1]|batch(10**10, 0)|list }}");
  expect_limit ("{{ [1]|slice(10**10)|list }}");
  expect_limit ("{{ strftime_now('%999999999d') }}");
  EXPECT_EQ (error_of ("{{ 2 ** 64 }}").kind, Kind::kRuntime);
  EXPECT_EQ (error_of ("{{ 9223372036854775807 + 1 }}").kind, Kind::kRuntime);
  EXPECT_EQ (error_of ("{{ -9223372036854775807 - 2 }}").kind, Kind::kRuntime);
  EXPECT_EQ (error_of ("{{ 10 ** 10 * 10 ** 10 }}").kind, Kind::kRuntime);
  expect_syntax ("{{ 99999999999999999999 }}");
  const auto lowest = ChatTemplate::compile ("{% set x = -9223372036854775807 - 1 %}{{ x % -1 }} {{ "
                                             "'abc'[::x] }} {{ 'abc'[x:] }} {{ x|string|length }}");
  EXPECT_EQ (lowest->render ("{}", 0), "0 c abc 20");
  EXPECT_EQ (error_of ("{% set x = -9223372036854775807 - 1 %}{{ x // -1 }}").kind, Kind::kRuntime);
  EXPECT_EQ (error_of ("{% set x = -9223372036854775807 - 1 %}{{ -x }}").kind, Kind::kRuntime);
  EXPECT_EQ (error_of ("{% set x = -9223372036854775807 - 1 %}{{ x|abs }}").kind, Kind::kRuntime);
}

TEST (ChatLimits, doubling_stops_at_the_memory_that_is_allowed)
{
  const std::string loop = "{% for i in range(200) %}";
  expect_limit ("{% set ns = namespace(s='ab') %}" + loop +
                "{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}");
  expect_limit ("{% set ns = namespace(s='ab') %}" + loop + "{% set ns.s = ns.s ~ ns.s %}{% endfor %}");
  expect_limit ("{% set ns = namespace(s='ab') %}" + loop +
                "{% set ns.s = ns.s.replace('a', 'aa') %}{% endfor %}");
  expect_limit ("{% set ns = namespace(s='ab') %}" + loop +
                "{% set ns.s = ns.s.replace('', ns.s) %}{% endfor %}");
  expect_limit ("{% set ns = namespace(s='ab') %}" + loop +
                "{% set ns.s = ns.s.join([ns.s, ns.s]) %}{% endfor %}");
  expect_limit ("{% set ns = namespace(s='ab') %}" + loop + "{% set ns.s = ns.s|tojson %}{% endfor %}");
  expect_limit ("{% set ns = namespace(s='<') %}" + loop +
                "{% set ns.s = ns.s|forceescape ~ ns.s %}{% endfor %}");
  expect_limit ("{% set ns = namespace(s='ab') %}" + loop +
                "{% set ns.s = '%s%s' % (ns.s, ns.s) %}{% endfor %}");
  expect_limit ("{% set ns = namespace(s='ab') %}" + loop +
                "{% set ns.s %}{{ ns.s }}{{ ns.s }}{% endset %}{% endfor %}");
}

TEST (ChatLimits, shared_values_do_not_explode_when_walked)
{
  // each level holds the one below twice: 2^100 leaves in a hundred small lists
  const std::string nest = "{% set ns = namespace(x=[1], d={'a': 1}, t=(1,)) %}{% for i in range(100) %}"
                           "{% set ns.x = [ns.x, ns.x] %}{% set ns.d = {'a': ns.d, 'b': ns.d} %}"
                           "{% set ns.t = (ns.t, ns.t) %}{% endfor %}";
  expect_limit (nest + "{{ ns.x }}");
  expect_limit (nest + "{{ ns.x|tojson }}");
  expect_limit (nest + "{{ ns.d|tojson(indent=2) }}");
  expect_limit (nest + "{{ ns.x|string }}");
  expect_limit (nest +
                "{% set y = [ns.x, ns.x] %}{{ [ns.x, [1]] == [y[0], [2]] or ns.t < (ns.t[0], ns.t[1]) }}"
                "{{ {ns.t: 1}[(ns.t[0], ns.t[1])] }}");
  expect_limit (nest + "{{ ns.t in {ns.t: 1} }}");
}

TEST (ChatLimits, nesting_has_an_end)
{
  for (const size_t depth : {size_t (1000), size_t (100'000)}) {
    expect_syntax ("{{ " + repeat ("(", depth) + "1" + repeat (")", depth) + " }}");
    expect_syntax ("{{ " + repeat ("[", depth) + repeat ("]", depth) + " }}");
    expect_syntax ("{{ " + repeat ("{1:", depth) + "1" + repeat ("}", depth) + " }}");
    expect_syntax ("{{ " + repeat ("not ", depth) + "1 }}");
    expect_syntax ("{{ " + repeat ("-", depth) + "1 }}");
    expect_syntax ("{{ 1" + repeat (" + 1", depth) + " }}");
    expect_syntax ("{{ a" + repeat (".a", depth) + " }}");
    expect_syntax ("{{ a" + repeat ("|e", depth) + " }}");
    expect_syntax ("{{ a" + repeat ("[0]", depth) + " }}");
    expect_syntax ("{{ a" + repeat ("()", depth) + " }}");
    expect_syntax ("{{ " + repeat ("a(", depth) + repeat (")", depth) + " }}");
    expect_syntax ("{{ " + repeat ("1 if 1 else ", depth) + "1 }}");
    expect_syntax (repeat ("{% if 1 %}", depth / 2) + repeat ("{% endif %}", depth / 2));
    expect_syntax (repeat ("{% for x in y %}", depth / 4) + repeat ("{% endfor %}", depth / 4));
    expect_syntax ("{% set " + repeat ("(", depth) + "x" + repeat (")", depth) + " = 1 %}");
    expect_syntax ("{% for " + repeat ("(", depth) + "x" + repeat (")", depth) + " in y %}{% endfor %}");
  }
  expect_syntax (repeat ("(", 1 << 21));
  // wide is not deep
  const std::string wide = "{{ [" + repeat ("1,", 50'000) + "]|length }}{{ ''" + repeat (" ~ 'a'", 20'000) +
                           " }}" + "{% if 0 %}" + repeat ("{% elif 0 %}", 20'000) + "{% endif %}";
  EXPECT_EQ (ChatTemplate::compile (wide)->render ("{}", 0), "50000" + repeat ("a", 20'000));
}

TEST (ChatLimits, recursion_has_an_end)
{
  expect_limit ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}");
  expect_limit ("{% macro m(x) %}{{ m([x]) }}{% endmacro %}{{ m(1) }}");
  expect_limit ("{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}", "{}", {.depth = 60});
  expect_limit ("{% macro m() %}{% call m() %}{{ caller() }}{% endcall %}{% endmacro %}{{ m() }}");
  expect_limit ("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}");
  expect_limit ("{% macro m() %}" + repeat ("{% if 1 %}", 150) + "{{ m() }}" + repeat ("{% endif %}", 150) +
                    "{% endmacro %}{{ m() }}",
                "{}", {.depth = 1'000'000});
  expect_limit ("{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}");
  expect_limit ("{% set ns = namespace(x=1) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}{% endfor %}");
  expect_limit (
      "{% set ns = namespace(x=1) %}{% for i in range(9999) %}{% set ns.x = {'a': ns.x} %}{% endfor %}");
  expect_limit ("{% set ns = namespace(x=[1]) %}{% for i in range(9999) %}{% set ns.x = ns.x|map('string') %}"
                "{% endfor %}");
  expect_limit (
      "{% set ns = namespace(x=1) %}{% for i in range(9999) %}{% set ns.x = cycler(ns.x) %}{% endfor %}");
}

TEST (ChatLimits, long_chains_of_values_come_apart_safely)
{
  const auto render = [] (const std::string &source) {
    return ChatTemplate::compile (source)->render ("{}", 0);
  };
  EXPECT_EQ (
      render ("{% set o = namespace(n=none) %}{% for i in range(99999) %}{% set o.n = namespace(n=o.n) %}"
              "{% endfor %}{% set o.n = none %}ok"),
      "ok");
  EXPECT_EQ (
      render (
          "{% set ns = namespace(x=1) %}{% for i in range(99999) %}{% set ns.x = {}[ns.x] %}{% endfor %}ok"),
      "ok");
  EXPECT_EQ (
      render (
          "{% set ns = namespace(l=none) %}{% for i in range(99999) %}{% for x in [ns]|map(attribute='l') %}"
          "{% set ns.l = loop %}{% endfor %}{% endfor %}ok"),
      "ok");
  EXPECT_EQ (render ("{% set ns = namespace(m=none) %}{% for i in range(9999) %}"
                     "{% macro m() %}{{ ns }}{% endmacro %}{% set ns.m = m %}{% endfor %}ok"),
             "ok");
}

TEST (ChatLimits, what_a_loop_leaves_behind_can_still_be_asked)
{
  const std::string keep = "{% set ns = namespace() %}{% macro m() %}{% for i in [1, 2, 3] if i %}"
                           "{% set ns.l = loop %}{% break %}{% endfor %}{% endmacro %}{{ m() }}";
  EXPECT_EQ (
      ChatTemplate::compile (keep + "{{ ns.l.index }}{{ ns.l.nextitem }}{{ ns.l.last }}")->render ("{}", 0),
      "1True");
  const std::string recursive =
      "{% set ns = namespace() %}{% macro m() %}{% for i in [1] recursive %}"
      "{% set ns.l = loop %}{{ i }}{% endfor %}{% endmacro %}{{ m() }}{{ ns.l([2]) }}";
  EXPECT_EQ (ChatTemplate::compile (recursive)->render ("{}", 0), "12");
}

TEST (ChatLimits, output_is_bounded)
{
  expect_limit ("{% for i in range(99999) %}0123456789{% endfor %}", "{}", {.output_bytes = 100'000});
  expect_limit ("{{ 'a' * 2000 }}", "{}", {.output_bytes = 1999});
  EXPECT_EQ (ChatTemplate::compile ("{{ 'a' * 2000 }}")->render ("{}", 0, {.output_bytes = 2000}).size (),
             2000u);
  expect_limit (
      "{% macro m() %}{{ 'a' * 1000000 }}{% endmacro %}{% for i in range(999) %}{{ m() }}{% endfor %}");
}

TEST (ChatLimits, limits_are_the_callers)
{
  const auto compiled = ChatTemplate::compile ("{% for i in range(1000) %}{{ i }}{% endfor %}");
  EXPECT_EQ (compiled->render ("{}", 0).size (), 2890u);
  EXPECT_THROW (compiled->render ("{}", 0, {.operations = 1000}), ChatTemplateError);
  EXPECT_THROW (compiled->render ("{}", 0, {.memory_bytes = 1000}), ChatTemplateError);
  EXPECT_EQ (compiled->render ("{}", 0).size (), 2890u);
  expect_limit ("{{ x }}", "{\"x\": " + repeat ("[", 200) + repeat ("]", 200) + "}");
  expect_limit ("{{ x|length }}", "{\"x\": \"" + repeat ("a", 5000) + "\"}", {.memory_bytes = 4000});
  EXPECT_EQ (error_of ("x", "{\"x\": " + repeat ("[", 100'000) + "}").kind, Kind::kRuntime);
}

TEST (ChatLimits, sources_are_bounded_and_utf8)
{
  EXPECT_EQ (ChatTemplate::compile (repeat ("a", 1 << 20))->render ("{}", 0).size (), size_t (1) << 20);
  expect_syntax (repeat ("a", (1 << 20) + 1));
  for (const char *bytes : {"\xff", "\xc3", "a\xe2\x82", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80"})
    expect_syntax (std::string (bytes) + "{{ 1 }}");
  EXPECT_EQ (ChatTemplate::compile (std::string ("a\0b", 3))->render ("{}", 0), std::string ("a\0b", 3));
}

TEST (ChatLimits, searching_is_linear)
{
  // with a naive search each of these is 10^10 comparisons
  const std::string variables = "{\"t\": \"" + repeat ("a", 400'000) + "\", \"n\": \"" +
                                repeat ("a", 100'000) + "b\", \"r\": \"b" + repeat ("a", 100'000) + "\"}";
  const auto compiled = ChatTemplate::compile (
      "{{ n in t }} {{ t.find(n) }} {{ t.rfind(r) }} {{ t.count(n) }} {{ t.split(n)|length }} {{ "
      "t.rsplit(r)|length }} "
      "{{ t.replace(n, '')|length }} {{ t.partition(n)|length }} {{ t.rpartition(r)|length }}");
  EXPECT_EQ (compiled->render (variables, 0), "False -1 -1 0 1 1 400000 3 3");
}

TEST (ChatLimits, deep_compile_work_is_bounded)
{
  // many names in many branches, and loops in loops: resolving them must not be quadratic in the source
  std::string branches;
  for (int i = 0; i < 9000; i++)
    branches += "{% if a" + std::to_string (i) + " %}{% set b" + std::to_string (i) + " = c" +
                std::to_string (i) + " %}{% else %}{{ d" + std::to_string (i) + " }}{% endif %}";
  EXPECT_EQ (ChatTemplate::compile (branches)->render ("{}", 0), "");
  const std::string loops =
      repeat ("{% for x in [1] %}", 150) + repeat ("{{ loop.index }}", 20'000) + repeat ("{% endfor %}", 150);
  EXPECT_EQ (ChatTemplate::compile (loops)->render ("{}", 0), repeat ("1", 20'000));
}
