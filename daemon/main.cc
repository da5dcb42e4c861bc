// lbrd: the daemon. Its flags, and which of its roles they ask for.

#include <CLI/CLI.hpp>
#include <cstdio>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "daemon/broker_main.h"
#include "daemon/config.h"
#include "daemon/engine_main.h"
#include "daemon/start_options.h"

namespace lbrd::daemon {
namespace {

int CheckConfig(const StartOptions& options) {
  const std::optional<Config> config = LoadConfigAtStart(options);
  if (!config.has_value()) return 2;
  for (const Setting& setting : Settings()) {
    std::printf("%-15s %s\n", setting.name, setting.Get(*config).c_str());
  }
  return 0;
}

}  // namespace
}  // namespace lbrd::daemon

int main(int argc, char** argv) {
  using lbrd::daemon::Setting;
  lbrd::daemon::StartOptions options;
  bool verbose = false;
  options.arguments.assign(argv, argv + argc);
  CLI::App app{
      "lbrd owns this machine's Last Branch Records and perf events and lends them out.\n"
      "It serves lbrctl on a UNIX socket until SIGTERM or Ctrl-C; SIGHUP reloads its\n"
      "configuration. Each setting can stand in the configuration file, by its name."};
  app.name("lbrd");
  // Texts below their options: 80 columns hold both.
  app.get_formatter()->column_width(6);
  app.set_version_flag("--version", "lbrd " LBRD_VERSION);
  const std::string settings = "Settings";
  const lbrd::daemon::Config defaults;
  for (const Setting& setting : lbrd::daemon::Settings()) {
    app.add_option_function<std::string>(
           absl::StrCat("--", setting.name),
           [&options, &setting](const std::string& text) {
             lbrd::daemon::Config scratch;
             const absl::Status good = setting.Set(text, &scratch);
             if (!good.ok()) {
               throw CLI::ValidationError(absl::StrCat("--", setting.name),
                                          std::string(good.message()));
             }
             options.settings[setting.name] = text;
           },
           setting.help)
        ->type_name(setting.placeholder)
        ->default_str(setting.Get(defaults))
        ->group(settings);
  }
  app.add_flag("-v,--verbose", verbose, "the same as --log-level debug");
  app.add_option("--config", options.config_path,
                 absl::StrCat("configuration file (default: ", lbrd::daemon::kDefaultConfigPath,
                              ", if it is there)"))
      ->type_name("PATH");
  app.add_flag("--check-config", options.check_config,
               "show the settings that would be used, or what is wrong with the file,\nand end");
  app.add_flag("--replay", options.replay,
               "read a perf.data recording for one client instead of profiling this\n"
               "machine; needs no root (lbrctl report starts it so)");
  app.add_option("--ready-fd", options.ready_fd,
                 "write a newline to this descriptor once the socket is served")
      ->type_name("FD");
  // For lbrd itself: docs/design/privileges.md.
  app.add_option("--engine", options.engine_channel, "")->group("");
  app.add_flag_callback(
      "--no-history", [&options] { options.settings["history"] = ""; }, "the same as --history ''");
  app.add_flag_callback(
      "--no-continuous", [&options] { options.settings["continuous"] = "false"; },
      "the same as --continuous false");
  app.footer(
      "Then, in another terminal:\n"
      "  lbrctl record -a -d 10s -o flamegraph.svg\n"
      "See also: lbrd(8), lbrd.toml(5), lbrctl(1)");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    return code == 0 ? 0 : 2;
  }
  if (verbose) options.settings.emplace("log-level", "debug");
  if (options.check_config) return lbrd::daemon::CheckConfig(options);
  if (options.replay) return lbrd::daemon::ReplayMain(options);
  return options.engine_channel >= 0 ? lbrd::daemon::EngineMain(options)
                                     : lbrd::daemon::BrokerMain(options);
}
