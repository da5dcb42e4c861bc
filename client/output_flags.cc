#include <CLI/CLI.hpp>

#include "client/commands.h"

namespace lbrd::client {

void OutputFlags::AddTo(CLI::App& command, const std::string& endings, const std::string& formats) {
  // One value each time: `-o FILE -- PROGRAM` ends the options.
  command.add_option("-o,--output", files, "write a file, by its ending: " + endings)
      ->expected(1)
      ->allow_extra_args(false)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command.add_option("--format", format, formats);
}

void OutputFlags::AddEventTo(CLI::App& command) {
  command
      .add_option("--show-event", event,
                  "of several events, show only this one (default: tables show all,\n"
                  "svg and folded the one with the most samples)")
      ->type_name("EVENT");
}

}  // namespace lbrd::client
