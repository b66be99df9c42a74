#include "engine/chat/scopes.hpp"

#include "engine/chat/ast_visit.hpp"
#include "engine/chat/lexer.hpp"

#include <unordered_map>

namespace millrace::jinja
{

namespace
{

/// The names that a scope knows, while it is resolved.
struct Symbols {
  Symbols *parent = nullptr;
  Function *function = nullptr;
  uint32_t function_depth = 0;
  Scope *scope = nullptr;
  std::unordered_map<std::string_view, uint32_t> names;
};

class Resolver
{
public:
  explicit Resolver (Template &compiled)
      : compiled_ (compiled)
  {
  }

  void run ()
  {
    Symbols root;
    root.function = &compiled_.function;
    root.scope = &compiled_.scope;
    collect (compiled_.body, root, false);
    resolve (compiled_.body, root, true);
  }

private:
  struct Found {
    Symbols *owner = nullptr;
    uint32_t index = 0;
  };

  static Found find (Symbols *symbols, std::string_view name)
  {
    for (; symbols; symbols = symbols->parent) {
      if (const auto known = symbols->names.find (name); known != symbols->names.end ())
        return {symbols, known->second};
    }
    return {};
  }

  static uint32_t add_slot (Symbols &symbols, std::string_view name)
  {
    return symbols.names[name] = symbols.function->slots++;
  }

  /// A parameter, a loop's target: assigned before anything reads it.
  static uint32_t declare (Symbols &symbols, std::string_view name)
  {
    if (const auto known = symbols.names.find (name); known != symbols.names.end ()) {
      // it was mentioned before, and what that would have loaded is overwritten anyway
      std::erase_if (symbols.scope->loads, [&] (const Load &load) { return load.index == known->second; });
      return known->second;
    }
    return add_slot (symbols, name);
  }

  static void declare (Symbols &symbols, const Target &target)
  {
    if (target.type == Target::Type::kName)
      declare (symbols, target.name.text ());
    for (const Target &item : target.items)
      declare (symbols, item);
  }

  static void read (Symbols &symbols, const Value &name)
  {
    if (find (&symbols, name.text ()).owner)
      return;
    symbols.scope->loads.push_back ({Load::Type::kResolve, add_slot (symbols, name.text ()), name, {}});
  }

  static void assign (Symbols &symbols, const Value &name, bool conditional)
  {
    if (symbols.names.contains (name.text ()))
      return;
    const Found outer = find (symbols.parent, name.text ());
    const uint32_t index = add_slot (symbols, name.text ());
    if (outer.owner)
      symbols.scope->loads.push_back ({Load::Type::kAlias,
                                       index,
                                       name,
                                       {symbols.function_depth - outer.owner->function_depth, outer.index}});
    else
      symbols.scope->loads.push_back (
          {conditional ? Load::Type::kResolve : Load::Type::kMissing, index, name, {}});
  }

  static void assign (Symbols &symbols, const Target &target, bool conditional)
  {
    if (target.type == Target::Type::kName)
      assign (symbols, target.name, conditional);
    else if (target.type == Target::Type::kAttribute)
      read (symbols, target.name);
    for (const Target &item : target.items)
      assign (symbols, item, conditional);
  }

  /// Visits an expression's names: `visit (NameExpr &)`.
  template <typename Visit>
  static void for_each_name (Expr *expr, Visit &visit)
  {
    if (!expr)
      return;
    if (expr->type == ExprType::kName)
      visit (*static_cast<NameExpr *> (expr));
    for_each_child (*expr, [&] (Expr &child) { for_each_name (&child, visit); });
  }

  static void collect (Expr *expr, Symbols &symbols)
  {
    auto visit = [&] (NameExpr &name) { read (symbols, name.name); };
    for_each_name (expr, visit);
  }

  /// Notes what the scope itself mentions; scopes inside it come later, when all of it is known.
  void collect (const Body &body, Symbols &symbols, bool conditional)
  {
    for (Stmt *statement : body) {
      switch (statement->type) {
      case StmtType::kPrint:
        collect (static_cast<Print *> (statement)->value, symbols);
        break;
      case StmtType::kIf: {
        auto &node = *static_cast<If *> (statement);
        for (auto &branch : node.branches) {
          collect (branch.test, symbols);
          collect (branch.body, symbols, true);
        }
        collect (node.otherwise, symbols, true);
        break;
      }
      case StmtType::kFor:
        collect (static_cast<For *> (statement)->iterable, symbols);
        break;
      case StmtType::kSet:
        collect (static_cast<Set *> (statement)->value, symbols);
        assign (symbols, static_cast<Set *> (statement)->target, conditional);
        break;
      case StmtType::kSetBlock:
        assign (symbols, static_cast<SetBlock *> (statement)->target, conditional);
        break;
      case StmtType::kMacro:
        assign (symbols, static_cast<Macro *> (statement)->name, conditional);
        break;
      case StmtType::kCallBlock:
        collect (static_cast<CallBlock *> (statement)->call, symbols);
        break;
      case StmtType::kFilterBlock:
        collect (static_cast<FilterBlock *> (statement)->filter, symbols);
        break;
      case StmtType::kWith:
        for (Expr *value : static_cast<With *> (statement)->values)
          collect (value, symbols);
        break;
      case StmtType::kAutoescape:
        collect (static_cast<Autoescape *> (statement)->enabled, symbols);
        break;
      default:
        break;
      }
    }
  }

  static Slot slot_of (Symbols &symbols, const Value &name)
  {
    const Found found = find (&symbols, name.text ());
    if (!found.owner)
      fail_syntax (0, "the variable " + name.text () + " was not resolved");
    return {symbols.function_depth - found.owner->function_depth, found.index};
  }

  static void resolve (Target &target, Symbols &symbols)
  {
    if (target.type != Target::Type::kTuple)
      target.slot = slot_of (symbols, target.name);
    for (Target &item : target.items)
      resolve (item, symbols);
  }

  static void resolve (Expr *expr, Symbols &symbols)
  {
    auto visit = [&] (NameExpr &name) { name.slot = slot_of (symbols, name.name); };
    for_each_name (expr, visit);
  }

  static Symbols inner (Symbols &outer, Scope &scope)
  {
    Symbols symbols;
    symbols.parent = &outer;
    symbols.function = outer.function;
    symbols.function_depth = outer.function_depth;
    symbols.scope = &scope;
    return symbols;
  }

  static Symbols inner_function (Symbols &outer, Scope &scope, Function &function)
  {
    Symbols symbols = inner (outer, scope);
    symbols.function = &function;
    symbols.function_depth++;
    return symbols;
  }

  /// A body that is a scope of its own and has nothing but statements.
  void resolve_scope (const Body &body, Symbols &symbols)
  {
    collect (body, symbols, false);
    resolve (body, symbols, false);
  }

  void resolve_for (For &node, Symbols &outer)
  {
    resolve (node.iterable, outer);
    if (node.test) {
      Symbols test = inner (outer, node.test_scope);
      declare (test, node.test_target);
      collect (node.test, test);
      resolve (node.test_target, test);
      resolve (node.test, test);
    }
    if (node.is_recursive || node.test)
      outer.function->is_captured = true; // the loop variable may be kept, and reads the frame when asked
    Symbols body =
        node.is_recursive ? inner_function (outer, node.scope, node.function) : inner (outer, node.scope);
    if (node.uses_loop)
      node.loop_index = declare (body, "loop");
    declare (body, node.target);
    collect (node.body, body, false);
    resolve (node.target, body);
    resolve (node.body, body, false);
    Symbols otherwise = node.is_recursive ? inner_function (outer, node.otherwise_scope, node.function)
                                          : inner (outer, node.otherwise_scope);
    resolve_scope (node.otherwise, otherwise);
  }

  void resolve_macro (Macro &macro, Symbols &outer)
  {
    outer.function->is_captured = true;
    Symbols symbols = inner_function (outer, macro.scope, macro.function);
    for (auto &parameter : macro.parameters)
      parameter.index = declare (symbols, parameter.name.text ());
    if (macro.uses_caller && !macro.names_caller)
      macro.caller_index = declare (symbols, "caller");
    if (macro.uses_kwargs)
      macro.kwargs_index = declare (symbols, "kwargs");
    if (macro.uses_varargs)
      macro.varargs_index = declare (symbols, "varargs");
    for (auto &parameter : macro.parameters)
      collect (parameter.otherwise, symbols);
    collect (macro.body, symbols, false);
    for (auto &parameter : macro.parameters)
      resolve (parameter.otherwise, symbols);
    resolve (macro.body, symbols, false);
  }

  void resolve_with (With &node, Symbols &outer)
  {
    for (Expr *value : node.values)
      resolve (value, outer);
    Symbols symbols = inner (outer, node.scope);
    for (const Target &target : node.targets)
      declare (symbols, target);
    collect (node.body, symbols, false);
    for (Target &target : node.targets)
      resolve (target, symbols);
    resolve (node.body, symbols, false);
  }

  void resolve_block (Block &node, Symbols &outer)
  {
    if (node.is_scoped) {
      Symbols symbols = inner (outer, node.scope);
      resolve_scope (node.body, symbols);
      return;
    }
    Symbols symbols;
    symbols.function = &node.function;
    symbols.scope = &node.scope;
    resolve_scope (node.body, symbols);
  }

  void resolve (const Body &body, Symbols &symbols, bool exports)
  {
    for (Stmt *statement : body)
      resolve (*statement, symbols, exports && compiled_.has_blocks);
  }

  void resolve (Stmt &statement, Symbols &symbols, bool exports)
  {
    switch (statement.type) {
    case StmtType::kPrint:
      resolve (static_cast<Print &> (statement).value, symbols);
      break;
    case StmtType::kIf: {
      auto &node = static_cast<If &> (statement);
      for (auto &branch : node.branches) {
        resolve (branch.test, symbols);
        resolve (branch.body, symbols, exports);
      }
      resolve (node.otherwise, symbols, exports);
      break;
    }
    case StmtType::kFor:
      resolve_for (static_cast<For &> (statement), symbols);
      break;
    case StmtType::kSet:
      resolve (static_cast<Set &> (statement).value, symbols);
      resolve (static_cast<Set &> (statement).target, symbols);
      static_cast<Set &> (statement).is_exported = exports;
      break;
    case StmtType::kSetBlock: {
      auto &node = static_cast<SetBlock &> (statement);
      resolve (node.target, symbols);
      node.is_exported = exports;
      Symbols inside = inner (symbols, node.scope);
      collect (node.filter, inside);
      collect (node.body, inside, false);
      resolve (node.filter, inside);
      resolve (node.body, inside, false);
      break;
    }
    case StmtType::kMacro: {
      auto &node = static_cast<Macro &> (statement);
      node.slot = slot_of (symbols, node.name);
      node.is_exported = exports;
      resolve_macro (node, symbols);
      break;
    }
    case StmtType::kCallBlock:
      resolve (static_cast<CallBlock &> (statement).call, symbols);
      resolve_macro (*static_cast<CallBlock &> (statement).caller, symbols);
      break;
    case StmtType::kFilterBlock: {
      auto &node = static_cast<FilterBlock &> (statement);
      Symbols inside = inner (symbols, node.scope);
      collect (node.body, inside, false);
      collect (node.filter, inside);
      resolve (node.filter, inside);
      resolve (node.body, inside, false);
      break;
    }
    case StmtType::kWith:
      resolve_with (static_cast<With &> (statement), symbols);
      break;
    case StmtType::kBlock:
      resolve_block (static_cast<Block &> (statement), symbols);
      break;
    case StmtType::kAutoescape: {
      auto &node = static_cast<Autoescape &> (statement);
      resolve (node.enabled, symbols);
      Symbols inside = inner (symbols, node.scope);
      resolve_scope (node.body, inside);
      break;
    }
    default:
      break;
    }
  }

  Template &compiled_;
};

} // namespace

void
resolve_scopes (Template &compiled)
{
  find_special_names (compiled);
  Resolver (compiled).run ();
}

} // namespace millrace::jinja
