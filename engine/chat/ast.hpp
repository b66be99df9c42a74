// The compiled template: expressions and statements in an arena, variables resolved to slots.
//
// parser.cpp builds it, scopes.cpp fills in slots and scopes, render.cpp walks it. Immutable afterwards and
// shared by all renders. Trees are at most kMaxNesting high, so walking them recursively is safe.
#pragma once

#include "engine/chat/operators.hpp"

#include <memory>

namespace millrace::jinja
{

struct Node {
  explicit Node (int line)
      : line (line)
  {
  }
  virtual ~Node () = default;
  int line;
};

/// A variable: `hops` functions out, slot of that function's frame.
struct Slot {
  uint32_t hops = 0;
  uint32_t index = 0;
};

enum class ExprType : uint8_t {
  kConstant,
  kName,
  kList,
  kTuple,
  kDict,
  kUnary,
  kBinary,
  kAnd,
  kOr,
  kNot,
  kConcat,
  kCompare,
  kConditional,
  kAttribute,
  kItem,
  kSlice,
  kCall,
  kFilter,
  kTest
};

struct Expr : Node {
  Expr (ExprType type, int line)
      : Node (line)
      , type (type)
  {
  }
  ExprType type;
  uint16_t height = 1;
};

struct ConstantExpr : Expr {
  ConstantExpr (int line, Value value)
      : Expr (ExprType::kConstant, line)
      , value (std::move (value))
  {
  }
  Value value;
};

struct NameExpr : Expr {
  NameExpr (int line, Value name)
      : Expr (ExprType::kName, line)
      , name (std::move (name))
  {
  }
  Value name;
  Slot slot;
};

/// List, tuple and ~ chain.
struct ItemsExpr : Expr {
  using Expr::Expr;
  std::vector<Expr *> items;
};

struct DictExpr : Expr {
  explicit DictExpr (int line)
      : Expr (ExprType::kDict, line)
  {
  }
  std::vector<std::pair<Expr *, Expr *>> entries;
};

/// Not, negation, plus.
struct UnaryExpr : Expr {
  UnaryExpr (ExprType type, int line, Operator op, Expr *operand)
      : Expr (type, line)
      , op (op)
      , operand (operand)
  {
  }
  Operator op;
  Expr *operand;
};

/// Arithmetic, and, or.
struct BinaryExpr : Expr {
  BinaryExpr (ExprType type, int line, Operator op, Expr *left, Expr *right)
      : Expr (type, line)
      , op (op)
      , left (left)
      , right (right)
  {
  }
  Operator op;
  Expr *left, *right;
};

/// a < b <= c: each operand is evaluated once, until one relation fails.
struct CompareExpr : Expr {
  CompareExpr (int line, Expr *first)
      : Expr (ExprType::kCompare, line)
      , first (first)
  {
  }
  Expr *first;
  std::vector<std::pair<Operator, Expr *>> rest;
};

struct ConditionalExpr : Expr {
  explicit ConditionalExpr (int line)
      : Expr (ExprType::kConditional, line)
  {
  }
  Expr *test = nullptr, *yes = nullptr, *no = nullptr; ///< `no` may be null
};

struct AttributeExpr : Expr {
  AttributeExpr (int line, Expr *object, Value name)
      : Expr (ExprType::kAttribute, line)
      , object (object)
      , name (std::move (name))
  {
  }
  Expr *object;
  Value name;
};

struct ItemExpr : Expr {
  ItemExpr (int line, Expr *object, Expr *key)
      : Expr (ExprType::kItem, line)
      , object (object)
      , key (key)
  {
  }
  Expr *object, *key;
};

struct SliceExpr : Expr {
  explicit SliceExpr (int line)
      : Expr (ExprType::kSlice, line)
  {
  }
  Expr *object = nullptr, *start = nullptr, *stop = nullptr, *step = nullptr; ///< bounds may be null
};

struct CallArguments {
  std::vector<Expr *> positional;
  std::vector<std::pair<std::string, Expr *>> keywords;
  Expr *more_positional = nullptr; ///< *args
  Expr *more_keywords = nullptr;   ///< **kwargs
};

struct CallExpr : Expr {
  CallExpr (int line, Expr *callee)
      : Expr (ExprType::kCall, line)
      , callee (callee)
  {
  }
  Expr *callee;
  CallArguments arguments;
};

using FilterFunction = Value (*) (const Value &input, const Arguments &arguments);
using TestFunction = bool (*) (const Value &input, const Arguments &arguments);

/// A filter; `input` is null where a block's text goes in.
struct FilterExpr : Expr {
  FilterExpr (int line, Expr *input, std::string name)
      : Expr (ExprType::kFilter, line)
      , input (input)
      , name (std::move (name))
  {
  }
  Expr *input;
  std::string name;
  FilterFunction function = nullptr; ///< null: unknown, an error once it is reached
  CallArguments arguments;
};

struct TestExpr : Expr {
  TestExpr (int line, Expr *input, std::string name)
      : Expr (ExprType::kTest, line)
      , input (input)
      , name (std::move (name))
  {
  }
  Expr *input;
  std::string name;
  TestFunction function = nullptr;
  CallArguments arguments;
};

/// What an assignment writes: a name, an attribute of a namespace, or several.
struct Target {
  enum class Type : uint8_t { kName, kAttribute, kTuple };
  Type type = Type::kName;
  Value name;
  Value attribute;
  Slot slot;
  std::vector<Target> items;
};

/// How a variable gets its value when its scope is entered.
struct Load {
  enum class Type : uint8_t { kResolve, kAlias, kMissing };
  Type type;
  uint32_t index; ///< slot in the current function
  Value name;     ///< kResolve: looked up in the render's variables, then among the globals
  Slot source;    ///< kAlias
};

struct Scope {
  std::vector<Load> loads;
};

/// A body with a frame of its own: the template, a macro, a caller, a recursive loop, a block.
struct Function {
  uint32_t slots = 0;
  bool is_captured =
      false; ///< something in it may outlive its call, so its frame lives until the render ends
};

enum class StmtType : uint8_t {
  kText,
  kPrint,
  kIf,
  kFor,
  kSet,
  kSetBlock,
  kMacro,
  kCallBlock,
  kFilterBlock,
  kWith,
  kBlock,
  kAutoescape,
  kBreak,
  kContinue,
  kRefused
};

struct Stmt : Node {
  Stmt (StmtType type, int line)
      : Node (line)
      , type (type)
  {
  }
  StmtType type;
};

using Body = std::vector<Stmt *>;

struct Text : Stmt {
  Text (int line, std::string text)
      : Stmt (StmtType::kText, line)
      , text (std::move (text))
  {
  }
  std::string text;
};

struct Print : Stmt {
  Print (int line, Expr *value)
      : Stmt (StmtType::kPrint, line)
      , value (value)
  {
  }
  Expr *value;
};

struct If : Stmt {
  explicit If (int line)
      : Stmt (StmtType::kIf, line)
  {
  }
  struct Branch {
    Expr *test;
    Body body;
  };
  std::vector<Branch> branches; ///< if and its elifs
  Body otherwise;
};

struct For : Stmt {
  explicit For (int line)
      : Stmt (StmtType::kFor, line)
  {
  }
  Target target;
  Expr *iterable = nullptr;
  Expr *test = nullptr;
  Target test_target; ///< target again, in the slots of the test's own scope
  Body body, otherwise;
  bool is_recursive = false;
  bool uses_loop = false;
  uint32_t loop_index = 0;
  Scope scope, test_scope, otherwise_scope;
  Function function; ///< when recursive
};

struct Set : Stmt {
  explicit Set (int line)
      : Stmt (StmtType::kSet, line)
  {
  }
  Target target;
  Expr *value = nullptr;
  bool is_exported = false; ///< blocks see it
};

struct SetBlock : Stmt {
  explicit SetBlock (int line)
      : Stmt (StmtType::kSetBlock, line)
  {
  }
  Target target;
  Expr *filter = nullptr; ///< a chain of filters that ends in a null input, or null
  Body body;
  Scope scope;
  bool is_exported = false;
};

/// A macro, or the body of a call block (without a name).
struct Macro : Stmt {
  explicit Macro (int line)
      : Stmt (StmtType::kMacro, line)
  {
  }
  Value name;
  Slot slot; ///< of the variable that holds the macro
  struct Parameter {
    Value name;
    uint32_t index = 0;
    Expr *otherwise = nullptr;
  };
  std::vector<Parameter> parameters;
  Body body;
  Scope scope;
  Function function;
  bool uses_caller = false, uses_kwargs = false, uses_varargs = false;
  bool names_caller = false; ///< `caller` is one of the parameters
  uint32_t caller_index = 0, kwargs_index = 0, varargs_index = 0;
  bool is_exported = false;
};

struct CallBlock : Stmt {
  explicit CallBlock (int line)
      : Stmt (StmtType::kCallBlock, line)
  {
  }
  CallExpr *call = nullptr; ///< null for {% generation %}, which calls its body directly
  Macro *caller = nullptr;
};

struct FilterBlock : Stmt {
  explicit FilterBlock (int line)
      : Stmt (StmtType::kFilterBlock, line)
  {
  }
  Expr *filter = nullptr;
  Body body;
  Scope scope;
};

struct With : Stmt {
  explicit With (int line)
      : Stmt (StmtType::kWith, line)
  {
  }
  std::vector<Target> targets;
  std::vector<Expr *> values;
  Body body;
  Scope scope;
};

struct Block : Stmt {
  explicit Block (int line)
      : Stmt (StmtType::kBlock, line)
  {
  }
  std::string name;
  bool is_scoped = false;
  Body body;
  Scope scope;
  Function function; ///< unless scoped
};

struct Autoescape : Stmt {
  explicit Autoescape (int line)
      : Stmt (StmtType::kAutoescape, line)
  {
  }
  Expr *enabled = nullptr;
  Body body;
  Scope scope;
};

struct Plain : Stmt {
  using Stmt::Stmt;
};

/// include, import, from, extends: there is nothing to load from.
struct Refused : Stmt {
  Refused (int line, std::string tag)
      : Stmt (StmtType::kRefused, line)
      , tag (std::move (tag))
  {
  }
  std::string tag;
};

struct Template {
  std::vector<std::unique_ptr<Payload>> constants; ///< first, so that what names them goes before them
  Body body;
  Scope scope;
  Function function;
  bool has_blocks = false;

  template <typename T, typename... Args>
  T *make (Args &&...args)
  {
    auto owner = std::make_unique<T> (std::forward<Args> (args)...);
    T *node = owner.get ();
    nodes.push_back (std::move (owner));
    return node;
  }
  /// A string shared by all renders.
  Value constant (std::string text);

  std::vector<std::unique_ptr<Node>> nodes;
};

} // namespace millrace::jinja
