#include <CLI/CLI.hpp>

#include "client/commands.h"

namespace lbrd::client {

void SourceFlags::AddTo(CLI::App& command) {
  command.add_flag(
      "--inline", inlined,
      "show inlined functions, as the binaries' debug information (DWARF) tells them,\n"
      "with files and lines in pprof and jsonl; may take seconds for large binaries");
  command.add_flag("--lines", lines, "files and lines only, in pprof and jsonl");
}

v1::SourceDetail SourceFlags::Detail() const {
  v1::SourceDetail detail;
  detail.set_lines(lines);
  detail.set_inlined(inlined);
  return detail;
}

}  // namespace lbrd::client
