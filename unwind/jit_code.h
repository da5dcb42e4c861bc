// The code that a process makes at run time, by what its JIT compiler tells of it: a jitdump, which
// knows times, before a perf map, which does not.
//
// The files are opened while the process lives, as soon as it maps memory of its own to execute,
// and held: it may be gone, and its mount namespace with it, when its last samples are resolved.
// They are read as far as they have grown when an address is looked up, at most every kLookNs of
// the records' time where the address is known. Where a map does not come, the tries become rare.
//
// Bounds: CodeSymbols'; of a perf map kMaxReadBytes are read at a time; kMaxDumps jitdumps. Costs
// the worker 10 ns per byte of a perf map, and 1 us per record of a jitdump.
//
// Thread rules: one owner (the worker of the process).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "unwind/code_symbols.h"
#include "unwind/file_source.h"
#include "unwind/jitdump.h"
#include "unwind/perf_map.h"

namespace lbrd::unwind {

// Whether a mapped file is a jitdump, by its name: jit-PID.dump.
bool IsJitDump(absl::string_view path);

struct JitSymbol {
  CodeSymbol code;
  const std::string* path = nullptr;  // of the file that names it
};

class JitCode {
 public:
  static constexpr uint64_t kLookNs = 10'000'000;
  static constexpr uint64_t kMaxWaitNs = 1'000'000'000;
  static constexpr uint64_t kMaxReadBytes = uint64_t{64} << 20;
  static constexpr size_t kMaxDumps = 8;

  // Borrows `files` and `budget`. `inherited`: what a forked process has from its parent.
  JitCode(FileSource* files, CodeBudget* budget, int32_t pid,
          std::shared_ptr<JitCode> inherited = nullptr);

  int32_t pid() const { return pid_; }
  // The process has mapped such a file.
  void AddDump(const FileIdentity& file);
  // The process has mapped memory without a file to execute: a perf map may be there by now.
  void LookForMap(uint64_t time_ns) { OpenMap(time_ns); }
  // What stands at `address`. `now_ns`: the newest record's time, for how often to look at the
  // files. `time_ns`: of the sample, by CLOCK_MONOTONIC as in jitdumps; UINT64_MAX: not known, then
  // what was there last.
  std::optional<JitSymbol> Find(uint64_t address, uint64_t now_ns, uint64_t time_ns);

 private:
  struct Dump {
    std::string path;
    std::shared_ptr<const ByteSource> file;
    JitDumpReader reader;
    CodeSymbols symbols;
  };

  void OpenMap(uint64_t time_ns);
  void ReadMap();
  void Refresh(uint64_t time_ns);
  std::optional<JitSymbol> FindRead(uint64_t address, uint64_t time_ns) const;

  FileSource* const files_;
  CodeBudget* const budget_;
  const int32_t pid_;
  const std::shared_ptr<JitCode> inherited_;

  std::vector<std::unique_ptr<Dump>> dumps_;
  std::string map_path_;
  std::shared_ptr<const ByteSource> map_;  // null: not found yet
  uint64_t map_read_ = 0;                  // bytes of it
  PerfMapReader map_reader_;
  CodeSymbols map_symbols_;
  uint64_t next_look_ns_ = 0;
  uint64_t next_open_ns_ = 0;
  uint64_t open_wait_ns_ = kLookNs;
};

}  // namespace lbrd::unwind
