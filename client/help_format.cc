#include "client/help_format.h"

#include <algorithm>
#include <sstream>

#include "client/utf8.h"

namespace lbrd::client {

HelpFormat::HelpFormat() { column_width(28); }

std::string HelpFormat::make_option_desc(const CLI::Option* option) const {
  std::string text = CLI::Formatter::make_option_desc(option);
  std::replace(text.begin(), text.end(), '\n', ' ');
  return WrapText(text, kWidth - get_column_width());
}

std::string HelpFormat::make_subcommand(const CLI::App* command) const {
  std::ostringstream out;
  CLI::detail::format_help(out, command->get_display_name(true),
                           WrapText(command->get_description(), kWidth - get_column_width()),
                           get_column_width());
  return out.str();
}

}  // namespace lbrd::client
