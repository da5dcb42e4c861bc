// How --help looks: no line longer than 80 columns, whatever an option's name and text.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace lbrd::client {

class HelpFormat : public CLI::Formatter {
 public:
  static constexpr size_t kWidth = 80;

  HelpFormat();
  // Wrapped anew: where its author broke it does not matter.
  std::string make_option_desc(const CLI::Option* option) const override;
  std::string make_subcommand(const CLI::App* command) const override;
};

}  // namespace lbrd::client
