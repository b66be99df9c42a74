// Finds out which loops need their `loop`, and which macros `caller`, `kwargs` and `varargs`.
#include "engine/chat/ast_visit.hpp"
#include "engine/chat/lexer.hpp"
#include "engine/chat/scopes.hpp"

namespace millrace::jinja
{

namespace
{

/// Names with a meaning of their own, as bits.
enum Special : uint32_t { kLoop = 1, kCaller = 2, kKwargs = 4, kVarargs = 8 };

uint32_t
special_bit (const std::string &name)
{
  return name == "loop"      ? kLoop
         : name == "caller"  ? kCaller
         : name == "kwargs"  ? kKwargs
         : name == "varargs" ? kVarargs
                             : 0u;
}

/// Which special names a piece of template reads, in the order of the source: a name that was assigned before
/// is no longer special.
struct Mentions {
  uint32_t read = 0;
  uint32_t assigned = 0;
  bool assigns_loop = false;

  void then (const Mentions &later)
  {
    read |= later.read & ~assigned;
    assigned |= later.assigned;
    assigns_loop = assigns_loop || later.assigns_loop;
  }
};

/// Finds out which loops need `loop`, and which macros `caller`, `kwargs` and `varargs`.
class SpecialNames
{
public:
  Mentions of (const Body &body)
  {
    Mentions all;
    for (Stmt *statement : body)
      all.then (of (*statement));
    return all;
  }

private:
  Mentions of (const Target &target)
  {
    Mentions mentions;
    if (target.type == Target::Type::kName) {
      mentions.assigned = special_bit (target.name.text ());
      mentions.assigns_loop = mentions.assigned == kLoop;
    }
    for (const Target &item : target.items)
      mentions.then (of (item));
    return mentions;
  }

  Mentions of (Expr *expr)
  {
    Mentions all;
    if (!expr)
      return all;
    if (expr->type == ExprType::kName)
      all.read = special_bit (static_cast<NameExpr *> (expr)->name.text ());
    for_each_child (*expr, [&] (Expr &child) { all.then (of (&child)); });
    return all;
  }

  Mentions of_macro (Macro &macro)
  {
    Mentions all;
    for (const auto &parameter : macro.parameters)
      all.assigned |= special_bit (parameter.name.text ());
    for (const auto &parameter : macro.parameters)
      all.then (of (parameter.otherwise));
    const Mentions body = of (macro.body);
    macro.uses_caller = body.read & kCaller;
    macro.uses_kwargs = body.read & kKwargs;
    macro.uses_varargs = body.read & kVarargs;
    for (const auto &parameter : macro.parameters) {
      const uint32_t bit = special_bit (parameter.name.text ());
      macro.uses_kwargs = macro.uses_kwargs && bit != kKwargs;
      macro.uses_varargs = macro.uses_varargs && bit != kVarargs;
      if (bit == kCaller && macro.uses_caller && !parameter.otherwise)
        fail_syntax (macro.line,
                     "When defining macros or call blocks the special \"caller\" argument must be "
                     "omitted or be given a default.");
    }
    all.then (body);
    return all;
  }

  Mentions of (Stmt &statement)
  {
    Mentions all;
    switch (statement.type) {
    case StmtType::kPrint:
      return of (static_cast<Print &> (statement).value);
    case StmtType::kIf: {
      auto &node = static_cast<If &> (statement);
      for (auto &branch : node.branches) {
        all.then (of (branch.test));
        all.then (of (branch.body));
      }
      all.then (of (node.otherwise));
      break;
    }
    case StmtType::kFor: {
      auto &node = static_cast<For &> (statement);
      all = of (node.target);
      all.then (of (node.iterable));
      const Mentions body = of (node.body);
      node.uses_loop = node.is_recursive || (body.read & kLoop);
      all.then (body);
      all.then (of (node.otherwise));
      all.then (of (node.test));
      if (all.assigns_loop)
        fail_syntax (node.line, "Can't assign to special loop variable in for-loop target");
      break;
    }
    case StmtType::kSet:
      all = of (static_cast<Set &> (statement).target);
      all.then (of (static_cast<Set &> (statement).value));
      break;
    case StmtType::kSetBlock:
      all = of (static_cast<SetBlock &> (statement).target);
      all.then (of (static_cast<SetBlock &> (statement).filter));
      all.then (of (static_cast<SetBlock &> (statement).body));
      break;
    case StmtType::kMacro:
      return of_macro (static_cast<Macro &> (statement));
    case StmtType::kCallBlock:
      all = of (static_cast<CallBlock &> (statement).call);
      all.then (of_macro (*static_cast<CallBlock &> (statement).caller));
      break;
    case StmtType::kFilterBlock:
      all = of (static_cast<FilterBlock &> (statement).body);
      all.then (of (static_cast<FilterBlock &> (statement).filter));
      break;
    case StmtType::kWith: {
      auto &node = static_cast<With &> (statement);
      for (const Target &target : node.targets) {
        Mentions mentions = of (target);
        mentions.assigns_loop = false; // a parameter, which may be called loop
        all.then (mentions);
      }
      for (Expr *value : node.values)
        all.then (of (value));
      all.then (of (node.body));
      break;
    }
    case StmtType::kBlock:
      // a block is its own template; what it says about special names stays inside
      of (static_cast<Block &> (statement).body);
      break;
    case StmtType::kAutoescape:
      all = of (static_cast<Autoescape &> (statement).enabled);
      all.then (of (static_cast<Autoescape &> (statement).body));
      break;
    default:
      break;
    }
    return all;
  }
};

} // namespace

void
find_special_names (Template &compiled)
{
  SpecialNames ().of (compiled.body);
}

} // namespace millrace::jinja
