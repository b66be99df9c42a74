// Generates text from Vala.
//
// valac --pkg millrace-1.0 generate.vala && ./generate [PROMPT [MODEL]]

async void generate (string prompt, string name) throws Error {
  var generator = new Millrace.Generator ();
  yield generator.add_model_async (yield Millrace.Model.load_async (name, Millrace.Weights.AUTO, 0, null), null);

  var request = new Millrace.Request.for_prompt (prompt);
  request.max_tokens = 24;
  var stream = generator.stream (request, null);
  for (string? text; (text = yield stream.next_async (null)) != null;)
    stdout.printf ("%s", text);
  stdout.printf ("\n");

  request.temperature = 3000;
  try {
    generator.stream (request, null);
  } catch (Millrace.Error.INVALID_REQUEST error) {
    stderr.printf ("%s\n", error.message);
  }
}

int main (string[] args) {
  Gst.init (ref args);
  var loop = new MainLoop ();
  var status = 0;
  generate.begin (args.length > 1 ? args[1] : "import os", args.length > 2 ? args[2] : "demo", (source, result) => {
    try {
      generate.end (result);
    } catch (Error error) {
      stderr.printf ("error: %s\n", error.message);
      status = 1;
    }
    loop.quit ();
  });
  loop.run ();
  return status;
}
