// Work of the routes that only look at text: /tokenize, /detokenize, /apply-template.
#pragma once

#include "elements/http/http_service.hpp"
#include "engine/api/parse.hpp"

namespace millrace
{

/// Made in the server's thread, worked on in the text thread, answered in the server's thread.
class HttpService::TextJob final : public ServerTask
{
public:
  TextJob (const std::shared_ptr<HttpExchange> &exchange, TextRoute route, TextRequest request)
      : exchange_ (exchange)
      , route_ (route)
      , request_ (std::move (request))
  {
  }
  /// Any thread.
  void work (const Model &model);
  void run_in_server () override;

private:
  void tokenize (const Model &model);
  void detokenize (const Model &model);
  void apply_template (const Model &model);

  const std::shared_ptr<HttpExchange> exchange_;
  const TextRoute route_;
  const TextRequest request_;
  std::string body_;
  ApiError error_;
};

} // namespace millrace
