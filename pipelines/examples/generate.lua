#!/usr/bin/env lua5.1
-- Generates text from Lua, asynchronously in a coroutine: generate.lua [PROMPT [MODEL]].
local lgi = require 'lgi'
local Gio, GLib = lgi.Gio, lgi.GLib
local Millrace = lgi.require ('Millrace', '1.0')

local loop = GLib.MainLoop ()

local function main (prompt, name)
  local generator = Millrace.Generator ()
  local model = assert (Millrace.Model.async_load (name, 'AUTO', 0))
  assert (generator:async_add_model (model))
  local stream = assert (generator:stream (Millrace.Request { prompt = prompt, max_tokens = 24 }))
  local text = stream:async_next ()
  while text do
    io.write (text)
    io.flush ()
    text = stream:async_next ()
  end
  print ()

  local wrong, problem = generator:stream (Millrace.Request { prompt = prompt, temperature = 3000 })
  if not wrong and problem:matches (Millrace.Error, 'INVALID_REQUEST') then
    io.stderr:write (problem.message, '\n')
  end
  loop:quit ()
end

Gio.Async.start (main) (arg[1] or 'import os', arg[2] or 'demo')
loop:run ()
