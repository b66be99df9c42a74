#!/usr/bin/env ruby
# Generates text from Ruby: generate.rb [PROMPT [MODEL]].
require "gobject-introspection"

module Gio
  GObjectIntrospection::Loader.load("Gio", self) # for its errors
end

module Millrace
  GObjectIntrospection::Loader.load("Millrace", self)

  # A stream is a list of texts that are not there yet.
  class Stream
    include Enumerable

    def each
      while (text = self.next(nil))
        yield text
      end
    ensure
      cancel # a loop that was left early
    end
  end
end

prompt, model = ARGV[0] || "import os", ARGV[1] || "demo"

generator = Millrace::Generator.new
generator.add_model(Millrace::Model.open(model, :auto, 0), nil)
request = Millrace::Request.new
request.prompt = prompt
request.max_tokens = 24
puts generator.stream(request, nil).to_a.join

request.max_tokens = 0
request.ignore_eos = true
request.buffer_size = 64 # it waits for its reader, so it does not end by itself
endless = generator.stream(request, nil)
endless.first
begin
  nil while endless.next(nil)
rescue Gio::IOErrorEnum::Cancelled
  warn "cancelled"
end

begin
  request.set_parameter("temperature", 3000.0)
rescue Millrace::Error::InvalidRequest => error
  warn error.message
end
