// A simulated program's modules as ELF files: symbols, build ID and call frame information, and
// of the code the calls and jumps.
//
// So what names and unwinds real programs does so with these. The rules are those of functions that
// keep a frame pointer (user_stack.h); the functions that a task starts in have no caller.
//
// Thread rules: thread-safe once filled.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "tests/sim/program.h"
#include "unwind/file_source.h"

namespace lbrd::sim {

std::string ProgramElf(const Program& program, ModuleKind module);

// The files of simulated programs, by path; what the daemon has for real files.
class ProgramFiles : public unwind::FileSource {
 public:
  void Add(const Program& program);

  // kFailedPrecondition: another build ID or inode than the file's.
  absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> Open(
      int32_t pid, const unwind::FileIdentity& file) override;
  absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> OpenDebug(
      int32_t pid, const std::string& build_id) override;

 private:
  struct File {
    std::shared_ptr<const unwind::ByteSource> bytes;
    std::string build_id;
    uint64_t inode = 0;
  };
  std::map<std::string, File> files_;
};

}  // namespace lbrd::sim
