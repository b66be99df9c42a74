#include "engine/chat/lexer.hpp"

#include "engine/chat/text.hpp"

#include <algorithm>
#include <charconv>
#include <limits>

namespace millrace::jinja
{

namespace
{

bool
is_digit (char c)
{
  return c >= '0' && c <= '9';
}

/// \r\n and \r become \n, and one newline at the end of the template goes.
std::string
normalize_newlines (std::string_view source)
{
  std::string out;
  out.reserve (source.size ());
  for (size_t i = 0; i < source.size (); i++) {
    if (source[i] != '\r') {
      out += source[i];
      continue;
    }
    out += '\n';
    if (i + 1 < source.size () && source[i + 1] == '\n')
      i++;
  }
  if (out.ends_with ('\n'))
    out.pop_back ();
  return out;
}

class Lexer
{
public:
  explicit Lexer (std::string source)
      : source_ (std::move (source))
  {
  }

  std::vector<Token> run ()
  {
    while (position_ < source_.size ())
      read_data ();
    add (TokenType::kEnd, "");
    return std::move (tokens_);
  }

private:
  void add (TokenType type, std::string text) { tokens_.push_back ({type, line_, std::move (text)}); }

  char at (size_t position) const { return position < source_.size () ? source_[position] : '\0'; }
  bool starts (size_t position, std::string_view text) const
  {
    return source_.compare (position, text.size (), text) == 0;
  }

  /// Moves to `end`, counting lines.
  void move_to (size_t end)
  {
    line_ += static_cast<int> (std::count (source_.begin () + static_cast<ptrdiff_t> (position_),
                                           source_.begin () + static_cast<ptrdiff_t> (end), '\n'));
    position_ = end;
    line_starting_ = end > 0 && source_[end - 1] == '\n';
  }

  size_t skip_space (size_t position) const
  {
    while (position < source_.size ()) {
      size_t next = position;
      if (!is_space (decode (source_, next)))
        break;
      position = next;
    }
    return position;
  }

  /// Emits the data before a tag at `end` whose sign says how to strip it.
  void add_data (size_t end, char sign, bool may_strip_line)
  {
    std::string_view data = std::string_view (source_).substr (position_, end - position_);
    if (sign == '-') {
      data = strip (data, Side::kRight);
    } else if (sign != '+' && may_strip_line) {
      const size_t line = data.rfind ('\n') == std::string_view::npos ? 0 : data.rfind ('\n') + 1;
      if ((line > 0 || line_starting_) && line < data.size () &&
          strip (data.substr (line), Side::kLeft).empty ())
        data = data.substr (0, line);
    }
    if (!data.empty ())
      add (TokenType::kData, std::string (data));
    move_to (end);
  }

  char sign_at (size_t position) const
  {
    return at (position) == '-' || at (position) == '+' ? at (position) : '\0';
  }

  /// From data to behind the next tag, or to the end.
  void read_data ()
  {
    size_t tag = position_;
    for (;; tag++) {
      tag = source_.find ('{', tag);
      if (tag == std::string::npos) {
        add (TokenType::kData, source_.substr (position_));
        move_to (source_.size ());
        return;
      }
      if (at (tag + 1) == '%' || at (tag + 1) == '{' || at (tag + 1) == '#')
        break;
    }
    const char kind = source_[tag + 1];
    const char sign = sign_at (tag + 2);
    const size_t inside = tag + 2 + (sign ? 1 : 0);
    add_data (tag, sign, kind != '{');
    if (kind == '#') {
      read_comment (inside);
    } else if (kind == '{') {
      add (TokenType::kVariableBegin, "{{");
      move_to (inside);
      read_tag (false);
    } else if (const size_t raw = raw_begin_end (inside); raw != 0) {
      move_to (raw);
      read_raw ();
    } else {
      add (TokenType::kBlockBegin, "{%");
      move_to (inside);
      read_tag (true);
    }
  }

  /// Position behind a block or comment end at `position` ("+%}", "-%}" with what space follows, "%}" with
  /// one newline), or 0.
  size_t match_end (size_t position, std::string_view end, bool trims) const
  {
    const char sign = sign_at (position);
    const size_t close = position + (sign ? 1 : 0);
    if (!starts (close, end))
      return 0;
    const size_t behind = close + end.size ();
    if (sign == '-')
      return skip_space (behind);
    return !sign && trims && at (behind) == '\n' ? behind + 1 : behind;
  }

  void read_comment (size_t inside)
  {
    size_t close = source_.find ("#}", inside);
    if (close == std::string::npos)
      fail_syntax (line_, "Missing end of comment tag");
    if (close > inside && (source_[close - 1] == '-' || source_[close - 1] == '+'))
      close--;
    move_to (match_end (close, "#}", true));
  }

  /// Position behind "raw %}" when the tag at `inside` is that, else 0. A newline behind it stays.
  size_t raw_begin_end (size_t inside) const
  {
    const size_t word = skip_space (inside);
    if (!starts (word, "raw"))
      return 0;
    const size_t close = skip_space (word + 3);
    return at (close) == '+' ? 0 : match_end (close, "%}", false);
  }

  void read_raw ()
  {
    for (size_t tag = source_.find ("{%", position_); tag != std::string::npos;
         tag = source_.find ("{%", tag + 1)) {
      const char sign = sign_at (tag + 2);
      const size_t word = skip_space (tag + 2 + (sign ? 1 : 0));
      if (!starts (word, "endraw"))
        continue;
      const size_t end = match_end (skip_space (word + 6), "%}", true);
      if (end == 0)
        continue;
      add_data (tag, sign, true);
      move_to (end);
      return;
    }
    fail_syntax (line_, "Missing end of raw directive");
  }

  void read_tag (bool is_block)
  {
    std::string open; // brackets that are still to be closed: inside them "}}" is two braces
    while (position_ < source_.size ()) {
      if (open.empty ()) {
        const size_t end = is_block ? match_end (position_, "%}", true) : match_variable_end ();
        if (end != 0) {
          add (is_block ? TokenType::kBlockEnd : TokenType::kVariableEnd, is_block ? "%}" : "}}");
          move_to (end);
          return;
        }
      }
      const size_t next = skip_space (position_);
      if (next != position_) {
        move_to (next);
        continue;
      }
      read_token (open);
    }
  }

  size_t match_variable_end () const
  {
    if (at (position_) == '-' && starts (position_ + 1, "}}"))
      return skip_space (position_ + 3);
    return starts (position_, "}}") ? position_ + 2 : 0;
  }

  void read_token (std::string &open)
  {
    const char c = source_[position_];
    if (is_digit (c)) {
      read_number ();
      return;
    }
    if (c == '\'' || c == '"') {
      read_string (c);
      return;
    }
    size_t end = position_;
    while (end < source_.size ()) {
      size_t next = end;
      const uint32_t character = decode (source_, next);
      if (character != '_' && !(character_flags (character) & (kAlpha | kDecimal | kDigit | kNumeric)))
        break;
      end = next;
    }
    if (end > position_) {
      const std::string name = source_.substr (position_, end - position_);
      if (!is_identifier (name))
        fail_syntax (line_, "Invalid character in identifier");
      add (TokenType::kName, name);
      move_to (end);
      return;
    }
    read_operator (open);
  }

  void read_operator (std::string &open)
  {
    for (const std::string_view two : {"//", "**", "==", "!=", ">=", "<="}) {
      if (starts (position_, two)) {
        add (TokenType::kOperator, std::string (two));
        move_to (position_ + 2);
        return;
      }
    }
    const char c = source_[position_];
    if (std::string_view ("+-/*%~[](){}><=.:|,;").find (c) == std::string_view::npos) {
      size_t next = position_;
      decode (source_, next);
      fail_syntax (line_,
                   "unexpected char " + ("'" + source_.substr (position_, next - position_) + "'") + " at " +
                       std::to_string (count_characters (std::string_view (source_).substr (0, position_))));
    }
    if (c == '(' || c == '[' || c == '{') {
      open += c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (c == ')' || c == ']' || c == '}') {
      if (open.empty ())
        fail_syntax (line_, std::string ("unexpected '") + c + "'");
      if (open.back () != c)
        fail_syntax (line_, std::string ("unexpected '") + c + "', expected '" + open.back () + "'");
      open.pop_back ();
    }
    add (TokenType::kOperator, std::string (1, c));
    move_to (position_ + 1);
  }

  /// Digits with single underscores between them, from `position` on.
  size_t skip_digits (size_t position, bool (*is_member) (char)) const
  {
    size_t end = position;
    while (is_member (at (end)) || (at (end) == '_' && end > position && is_member (at (end + 1))))
      end++;
    return end;
  }

  void read_number ()
  {
    if (at (position_) == '0' && read_prefixed ())
      return;
    const size_t whole = skip_digits (position_, is_digit);
    size_t end = whole;
    const bool after_dot = position_ > 0 && source_[position_ - 1] == '.';
    if (!after_dot) {
      if (at (end) == '.' && is_digit (at (end + 1)))
        end = skip_digits (end + 1, is_digit);
      if (at (end) == 'e' || at (end) == 'E') {
        const size_t digits = end + 1 + (sign_at (end + 1) ? 1 : 0);
        if (is_digit (at (digits)))
          end = skip_digits (digits, is_digit);
      }
    }
    std::string text = source_.substr (position_, end - position_);
    std::erase (text, '_');
    Token token{end > whole ? TokenType::kFloat : TokenType::kInteger, line_, text};
    if (end > whole) {
      // out of range means infinity or zero, as Python reads it
      const auto result = std::from_chars (text.data (), text.data () + text.size (), token.number);
      if (result.ec == std::errc::result_out_of_range)
        token.number = text.find ("e-") == std::string::npos && text.find ("E-") == std::string::npos
                           ? std::numeric_limits<double>::infinity ()
                           : 0.0;
    } else {
      if (text[0] == '0')
        text.erase (0, std::min (text.find_first_not_of ('0'), text.size () - 1));
      parse_integer (token, text, 10);
    }
    tokens_.push_back (std::move (token));
    move_to (end);
  }

  void parse_integer (Token &token, const std::string &text, int base)
  {
    if (std::from_chars (text.data (), text.data () + text.size (), token.integer, base).ec != std::errc ())
      fail_syntax (line_, "the integer " + text + " does not fit into 64 bits");
  }

  /// 0b, 0o and 0x.
  bool read_prefixed ()
  {
    const char kind = static_cast<char> (at (position_ + 1) | 0x20);
    bool (*is_member) (char) = nullptr;
    int base = 0;
    if (kind == 'b') {
      base = 2;
      is_member = [] (char c) { return c == '0' || c == '1'; };
    } else if (kind == 'o') {
      base = 8;
      is_member = [] (char c) { return c >= '0' && c <= '7'; };
    } else if (kind == 'x') {
      base = 16;
      is_member = [] (char c) { return is_digit (c) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f'); };
    } else {
      return false;
    }
    const size_t start = position_ + 2 + (at (position_ + 2) == '_' ? 1 : 0);
    const size_t end = skip_digits (start, is_member);
    if (end == start)
      return false;
    std::string text = source_.substr (start, end - start);
    std::erase (text, '_');
    Token token{TokenType::kInteger, line_, text};
    parse_integer (token, text, base);
    tokens_.push_back (std::move (token));
    move_to (end);
    return true;
  }

  void read_string (char quote)
  {
    size_t end = position_ + 1;
    while (end < source_.size () && source_[end] != quote)
      end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size ())
      fail_syntax (line_,
                   std::string ("unexpected char ") + (quote == '"' ? "'\"'" : "\"'\"") + " at " +
                       std::to_string (count_characters (std::string_view (source_).substr (0, position_))));
    add (TokenType::kString,
         unescape (std::string_view (source_).substr (position_ + 1, end - position_ - 1)));
    move_to (end + 1);
  }

  std::string unescape (std::string_view text)
  {
    std::string out;
    for (size_t i = 0; i < text.size (); i++) {
      if (text[i] != '\\' || i + 1 >= text.size ()) {
        out += text[i];
        continue;
      }
      const char c = text[++i];
      static constexpr std::string_view kLetters = "abfnrtv\\'\"", kMeanings = "\a\b\f\n\r\t\v\\'\"";
      if (const size_t known = kLetters.find (c); known != std::string_view::npos) {
        out += kMeanings[known];
      } else if (c == '\n') {
        // a line that goes on
      } else if (c >= '0' && c <= '7') {
        uint32_t character = 0;
        const size_t limit = i + 3;
        for (; i < limit && i < text.size () && text[i] >= '0' && text[i] <= '7'; i++)
          character = character * 8 + static_cast<uint32_t> (text[i] - '0');
        i--;
        append_utf8 (out, character);
      } else if (c == 'x' || c == 'u' || c == 'U') {
        const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        append_utf8 (out, read_hex (text, i, digits));
      } else if (c == 'N') {
        fail_syntax (line_, "characters by name (\\N) are not supported; write \\u with four hex digits");
      } else {
        out += '\\';
        out += c;
      }
    }
    return out;
  }

  /// The hex digits behind text[i]; a surrogate takes its other half along. Leaves i on the last digit.
  uint32_t read_hex (std::string_view text, size_t &i, size_t digits)
  {
    uint32_t character = 0;
    if (i + digits >= text.size () ||
        std::from_chars (text.data () + i + 1, text.data () + i + 1 + digits, character, 16).ptr !=
            text.data () + i + 1 + digits)
      fail_syntax (line_, "truncated \\" + std::string (1, text[i]) + " escape");
    i += digits;
    if (character > 0x10ffff)
      fail_syntax (line_, "illegal Unicode character");
    uint32_t low = 0;
    if (character >= 0xd800 && character < 0xdc00 && text.substr (i + 1).starts_with ("\\u") &&
        i + 6 < text.size () &&
        std::from_chars (text.data () + i + 3, text.data () + i + 7, low, 16).ptr == text.data () + i + 7 &&
        low >= 0xdc00 && low < 0xe000) {
      i += 6;
      return 0x10000 + ((character - 0xd800) << 10) + (low - 0xdc00);
    }
    return character;
  }

  std::string source_;
  size_t position_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
};

} // namespace

std::vector<Token>
tokenize (std::string_view source)
{
  if (source.size () > kMaxSourceBytes)
    fail_syntax (0, "the template is longer than " + std::to_string (kMaxSourceBytes) + " bytes");
  if (!is_valid_utf8 (source))
    fail_syntax (0, "the template is not valid UTF-8");
  return Lexer (normalize_newlines (source)).run ();
}

std::string
describe (const Token &token)
{
  switch (token.type) {
  case TokenType::kData:
    return "template data / text";
  case TokenType::kBlockBegin:
    return "begin of statement block";
  case TokenType::kBlockEnd:
    return "end of statement block";
  case TokenType::kVariableBegin:
    return "begin of print statement";
  case TokenType::kVariableEnd:
    return "end of print statement";
  case TokenType::kString:
    return "string";
  case TokenType::kInteger:
    return "integer";
  case TokenType::kFloat:
    return "float";
  case TokenType::kEnd:
    return "end of template";
  default:
    return token.text;
  }
}

void
fail_syntax (int line, const std::string &message)
{
  throw ChatTemplateError (ChatTemplateError::Kind::kSyntax, line, message);
}

} // namespace millrace::jinja
