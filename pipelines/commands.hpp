// The commands of the program `millrace`. argv[0] is the command's name; each returns the exit status.
#pragma once

namespace millrace
{

int command_download (int argc, char **argv);
int command_inspect (int argc, char **argv);
int command_quantize (int argc, char **argv);
int command_run (int argc, char **argv);
int command_serve (int argc, char **argv);

} // namespace millrace
