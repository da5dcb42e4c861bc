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

}  // namespace lbrd::client
